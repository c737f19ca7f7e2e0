import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// What this node has published on a channel last that did not go to every other: who has subscribed to it meanwhile,
/// unknown to this node, is told of a loss when that becomes known.
///
/// count u32 · (at u64 · hasPatterns u8 · patterns) each.
struct UnheardEvents: Hashable, Sendable, WireCodable {
    /// All events with the same patterns.
    struct Kind: Hashable, Sendable {
        /// Nil: events of several kinds.
        var patterns: [[UInt8]]?
        /// The last was published then.
        var at: EngineKit.Instant
    }

    /// The oldest become one.
    static let kindsMax = 16

    private var kinds: [Kind] = []

    init() {}

    mutating func note(_ patterns: [[UInt8]], at now: EngineKit.Instant) {
        if let index = kinds.lastIndex(where: { $0.patterns == patterns }) {
            kinds[index].at = now
        } else if kinds.count < Self.kindsMax {
            kinds.append(Kind(patterns: patterns, at: now))
        } else {
            let oldest = kinds.removeFirst()
            kinds[0] = Kind(patterns: nil, at: max(oldest.at, kinds[0].at))
            kinds.append(Kind(patterns: patterns, at: now))
        }
    }

    /// Whether somebody with this interest has missed something since then; with the one before, it was sent.
    func concern(_ interest: Interest, before: Interest?, since: EngineKit.Instant) -> Bool {
        kinds.contains { kind in
            guard kind.at >= since else { return false }
            return kind.patterns.map { interest.matches($0) && before?.matches($0) != true } ?? true
        }
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32(kinds.count))
        for kind in kinds {
            writer.integer(kind.at.nanoseconds)
            writer.bool(kind.patterns != nil)
            guard let patterns = kind.patterns else { continue }
            writer.integer(UInt32(patterns.count))
            for pattern in patterns { writer.byteString(pattern) }
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let at = EngineKit.Instant(nanoseconds: try reader.integer())
            var patterns: [[UInt8]]?
            if try reader.bool() {
                var read: [[UInt8]] = []
                for _ in 0..<(try reader.integer(UInt32.self)) { read.append(try reader.byteString()) }
                patterns = read
            }
            kinds.append(Kind(patterns: patterns, at: at))
        }
    }
}

/// Subscriptions that other nodes did not know of when they were answered. The node of the publisher knows what it has
/// published until it knew; the subscriber's, whether that was before its subscribe was answered.
extension NodeEngine {
    // MARK: Where it is published

    /// Another node wants something else than was known.
    mutating func tellUnheard(
        _ id: ChannelID, to user: RegisteredChannel.User, _ before: Interest?, at now: Instant,
        _ effects: inout [Effect]
    ) {
        let since = doubts[user.node] ?? doubtful(now)
        guard channels[id]?.unheard.concern(user.interest, before: before, since: since) == true else { return }
        forward(Outgoing(.lost(id, at: Forward.unheardTime)), to: user.node, at: now, &effects)
    }

    /// A node that is away may have been for a while: a frozen one learns it late. One that is back says within
    /// the same time what is wanted there.
    mutating func settleDoubts(at now: Instant) {
        for other in members where other != node && !others.contains(other) {
            others.append(other)
            doubts[other] = .start
        }
        for other in others where !members.contains(other) {
            backSince[other] = nil
            if doubts[other] == nil { doubts[other] = doubtful(now) }
        }
        for other in doubts.keys where members.contains(other) {
            let since = backSince[other] ?? now
            backSince[other] = since
            if since + limits.departureAfter <= now {
                (doubts[other], backSince[other]) = (nil, nil)
            } else {
                wake(notAfter: since + limits.departureAfter)
            }
        }
    }

    private func doubtful(_ now: Instant) -> Instant { now + (.zero - limits.departureAfter) }

    // MARK: Where it is subscribed

    private func heardBy(_ id: ChannelID) -> [NodeID] {
        guard let channel = channels[id] else { return [] }
        let wanted = interest(in: channel).fingerprint
        return channel.told.filter { $0.value == wanted }.map(\.key)
    }

    /// A subscribe is answered: who has not said that it knows of it may publish what it misses.
    mutating func noteAnswered(_ session: ClientSession, _ number: UInt32) {
        guard let instance = clients[session]?.instances[number] else { return }
        let heard = heardBy(instance.channel)
        clients[session]?.instances[number]?.heardBy = instance.heardBy?.filter(heard.contains) ?? heard
    }

    /// Another node says by what it forwards from now on.
    mutating func noteHeard(_ id: ChannelID, by other: NodeID) {
        guard heardBy(id).contains(other) else { return }
        for target in channels[id]?.instances ?? [] {
            withInstance(target) { instance in
                if instance.heardBy?.contains(other) == false { instance.heardBy?.append(other) }
            }
        }
    }

    /// Another node has published something before it knew of what was subscribed here.
    mutating func tellUnheard(on id: ChannelID, by other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        let unknown = (channels[id]?.instances ?? []).filter { target in
            clients[target.session]?.instances[target.number]?.heardBy?.contains(other) == false
        }
        tellLoss(to: unknown, wall: lastWall, at: now, &effects)
    }
}
