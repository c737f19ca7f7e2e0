import EngineKit
import IOCGroups
import SAFTypes

/// What is the same on every member at the same index: the engine, and what ``Replicated`` must remember for it.
struct ReplicaState<Core: ReplicatedEngine>: Sendable {
    var core: Core
    /// Commands applied since the beginning.
    var index: UInt64 = 0
    /// A hash over all of them, in order.
    var chain: UInt64 = 0
    /// The group's time: the highest stamp applied.
    var time = Instant.start
    /// The last command of each node's proposer: a command is applied once however often it is sent.
    var marks: [NodeID: ProposerMark] = [:]
    var timers: [UInt64: Instant] = [:]
    /// Once-only effects not yet reported done, ascending.
    var pending: [PendingEffect<Core.OnceEffect>] = []

    init(core: Core) { self.core = core }
}

struct ProposerMark: Hashable, Sendable {
    var incarnation: UInt64
    var sequence: UInt64
}

struct PendingEffect<OnceEffect: WireCodable & Hashable & Sendable>: Hashable, Sendable {
    var id: EffectID
    var performer: Performer
    var effect: OnceEffect
}

enum Applied<Effect> {
    /// Known already: sent twice.
    case repeated
    /// Not in this place: an earlier command of the proposer is missing, or its version is not spoken. It will be sent
    /// again.
    case outOfPlace
    /// `isUnderstood` is false when the event's bytes made no sense; the command counts, and did nothing.
    case applied([(Effect, AppliedRoute)], isUnderstood: Bool)
}

/// The routes that are left for the member to act on.
enum AppliedRoute: Hashable { case everyMember, node(NodeID), answer }

extension ReplicaState {
    /// The last sequence number applied of that very proposer.
    func lastSequence(of proposer: GroupMember) -> UInt64 {
        guard let mark = marks[proposer.node], mark.incarnation == proposer.incarnation else { return 0 }
        return mark.sequence
    }

    /// Whether ``apply(_:from:spoken:)`` will apply it.
    func isInPlace(_ command: Command, from proposer: GroupMember, spoken: UInt16) -> Bool {
        let expected = max(lastSequence(of: proposer) &+ 1, command.firstWanted)
        return command.sequence == expected && command.version == spoken
    }

    /// - Parameter spoken: the version that the members speak at this place of the order. A command in another is not
    ///   taken: not every member might read it.
    mutating func apply(
        _ command: Command, from proposer: GroupMember, spoken: UInt16
    ) -> Applied<Core.Effect> {
        guard command.sequence > lastSequence(of: proposer) else { return .repeated }
        guard isInPlace(command, from: proposer, spoken: spoken) else { return .outOfPlace }

        marks[proposer.node] = ProposerMark(incarnation: proposer.incarnation, sequence: command.sequence)
        index += 1
        time = max(time, command.stamp)
        var writer = ByteWriter(reserving: 64)
        writer.value(proposer)
        writer.value(command.withoutSending)
        chain = StateHash.of(writer.bytes, seed: chain)

        do throws(DecodeError) {
            guard let event = try event(of: command) else { return .applied([], isUnderstood: true) }
            return .applied(settle(core.handle(event, version: command.version, at: time)), isUnderstood: true)
        } catch {
            return .applied([], isUnderstood: false)
        }
    }

    /// The engine's event, if the command has one; timers and pending effects are settled here.
    private mutating func event(of command: Command) throws(DecodeError) -> Core.Event? {
        switch command.action {
        case .event(let bytes):
            return try Self.decodeEvent(bytes, version: command.version)
        case .timer(let key, let deadline):
            guard timers[key] == deadline else { return nil }  // cancelled or moved meanwhile
            timers[key] = nil
            return Core.timerEvent(key: key)
        case .done(let id, let bytes):
            guard let place = pending.firstIndex(where: { $0.id == id }) else { return nil }  // done before
            pending.remove(at: place)
            guard let bytes else { return nil }
            return try Self.decodeEvent(bytes, version: command.version)
        }
    }

    static func decodeEvent(_ bytes: [UInt8], version: UInt16) throws(DecodeError) -> Core.Event {
        guard Core.versions.contains(version) else {
            throw .badValue("event version \(version); \(Core.versions) expected")
        }
        let outcome = bytes.withUnsafeBytes { raw -> Result<Core.Event, DecodeError> in
            var reader = ByteReader(raw)
            do throws(DecodeError) {
                let event = try Core.decodeEvent(version: version, from: &reader)
                try reader.finish()
                return .success(event)
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }

    /// Keeps in the state what belongs there and returns the rest.
    private mutating func settle(_ effects: [Core.Effect]) -> [(Core.Effect, AppliedRoute)] {
        var rest: [(Core.Effect, AppliedRoute)] = []
        var ordinal: UInt32 = 0
        for effect in effects {
            switch Core.route(effect) {
            case .everyMember: rest.append((effect, .everyMember))
            case .node(let node): rest.append((effect, .node(node)))
            case .answer: rest.append((effect, .answer))
            case .once(let once, let performer):
                pending.append(
                    PendingEffect(id: EffectID(index: index, ordinal: ordinal), performer: performer, effect: once))
                ordinal += 1
            case .startTimer(let key, let deadline): timers[key] = deadline
            case .cancelTimer(let key): timers[key] = nil
            }
        }
        return rest
    }

    func digest(version: UInt16) -> UInt64 {
        var writer = ByteWriter()
        encodeBookkeeping(to: &writer)
        return StateHash.mix(core.digest(version: version), StateHash.of(writer.bytes))
    }
}

extension ReplicaState {
    static var format: UInt8 { 1 }

    /// format u8 = 1 · version u16 · bookkeeping · engine's own bytes to the end.
    func encode(version: UInt16, to writer: inout ByteWriter) {
        writer.integer(Self.format)
        writer.integer(version)
        encodeBookkeeping(to: &writer)
        core.encodeSnapshot(version: version, to: &writer)
    }

    /// index u64 · chain u64 · time u64 · marks (count u32 · node u32 · incarnation u64 · sequence u64) · timers
    /// (count u32 · key u64 · deadline u64) · pending (count u32 · effect id · performer u8, node u32 · effect).
    private func encodeBookkeeping(to writer: inout ByteWriter) {
        writer.integer(index)
        writer.integer(chain)
        writer.integer(time.nanoseconds)
        writer.integer(UInt32(marks.count))
        for (node, mark) in marks.sorted(by: { $0.key < $1.key }) {
            writer.value(node)
            writer.integer(mark.incarnation)
            writer.integer(mark.sequence)
        }
        writer.integer(UInt32(timers.count))
        for (key, deadline) in timers.sorted(by: { $0.key < $1.key }) {
            writer.integer(key)
            writer.integer(deadline.nanoseconds)
        }
        writer.integer(UInt32(pending.count))
        for effect in pending {
            writer.value(effect.id)
            switch effect.performer {
            case .oldest:
                writer.integer(UInt8(0))
                writer.integer(UInt32(0))
            case .node(let node):
                writer.integer(UInt8(1))
                writer.value(node)
            }
            writer.value(effect.effect)
        }
    }

    init(decoding bytes: [UInt8]) throws(DecodeError) {
        let outcome = bytes.withUnsafeBytes { raw -> Result<Self, DecodeError> in
            var reader = ByteReader(raw)
            do throws(DecodeError) {
                let state = try Self(snapshot: &reader)
                try reader.finish()
                return .success(state)
            } catch {
                return .failure(error)
            }
        }
        self = try outcome.get()
    }

    private init(snapshot reader: inout ByteReader) throws(DecodeError) {
        let format = try reader.integer(UInt8.self)
        guard format == Self.format else { throw .badValue("snapshot format \(format); \(Self.format) expected") }
        let version = try reader.integer(UInt16.self)
        guard Core.versions.contains(version) else {
            throw .badValue("snapshot version \(version); \(Core.versions) expected")
        }
        let (index, chain, time): (UInt64, UInt64, UInt64) = (
            try reader.integer(), try reader.integer(), try reader.integer()
        )
        guard index < 1 << 62 else { throw .badValue("index \(index)") }  // the next must exist
        var marks: [NodeID: ProposerMark] = [:]
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node: NodeID = try reader.value()
            let incarnation: UInt64 = try reader.integer()
            marks[node] = ProposerMark(incarnation: incarnation, sequence: try reader.integer())
        }
        var timers: [UInt64: Instant] = [:]
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let key: UInt64 = try reader.integer()
            timers[key] = Instant(nanoseconds: try reader.integer())
        }
        var pending: [PendingEffect<Core.OnceEffect>] = []
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let id: EffectID = try reader.value()
            let kind = try reader.integer(UInt8.self)
            let node: NodeID = try reader.value()
            guard kind <= 1 else { throw .badValue("performer \(kind); 0 or 1 expected") }
            guard id > pending.last?.id ?? EffectID(index: 0, ordinal: 0) else {
                throw .badValue("effects out of order")
            }
            pending.append(
                PendingEffect(id: id, performer: kind == 0 ? .oldest : .node(node), effect: try reader.value()))
        }
        self.init(core: try Core(snapshot: &reader, version: version))
        self.index = index
        self.chain = chain
        self.time = Instant(nanoseconds: time)
        self.marks = marks
        self.timers = timers
        self.pending = pending
    }
}

extension Command {
    /// The command without what differs from one sending to the next.
    fileprivate var withoutSending: Command {
        var copy = self
        copy.firstWanted = 0
        copy.generation = 0
        return copy
    }
}
