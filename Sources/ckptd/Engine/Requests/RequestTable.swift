public import CkptProtocol
import Containers
public import EngineKit
public import SAFTypes

/// Requests of this node's clients that have to wait, or were sent to another node: where each is tried next, and
/// until when. It knows numbers and no contents.
///
/// Whatever is tried again has the identity it had before, so it is done once; only the outcome may be unknown.
public struct RequestTable: Engine, Sendable {
    /// What a request is about.
    public enum Subject: Hashable, Comparable, Sendable {
        /// Something the directory does.
        case directory
        case checkpoint(CheckpointID)
        /// What the active replica says of its data; it must be known to be the active one still.
        case reading(CheckpointID)
        /// The replica on this node: a subscription.
        case ownReplica(CheckpointID)
        /// Whether the replica on this node has become the active one.
        case ownActivity(CheckpointID)

        /// The checkpoint whose active replica does it.
        var ofActive: CheckpointID? {
            switch self {
            case .checkpoint(let id), .reading(let id): id
            case .directory, .ownReplica, .ownActivity: nil
            }
        }
    }

    public enum Failure: Error, Hashable, Sendable {
        /// It was not taken: no link, no room, no quorum.
        case untouched
        /// It may have been done.
        case unknown
        /// There is another active replica now; it may have been done.
        case elsewhere
    }

    public enum Event: Hashable, Sendable {
        /// `isActive`: it changes something, for a process that is active for something.
        case arrived(
            UInt64, Subject, bytes: Int, from: ClientSession, isRetransmission: Bool, ReplicaRoute,
            isActive: Bool = false)
        /// Where requests about this are done now.
        case route(Subject, ReplicaRoute)
        case answered(UInt64)
        case failed(UInt64, Failure)
        /// A client is gone.
        case left(ClientSession)
        /// Whether this node is a member of the cluster, and has been since it was told last: when not, others may have
        /// been made active for what processes here are active for.
        case membership(isMember: Bool, isUnbroken: Bool)
        case tick
    }

    public enum Effect: Hashable, Sendable {
        /// Never `.later`. The outcome is told by `.answered` or `.failed`.
        case perform(UInt64, ReplicaRoute, isRetransmission: Bool)
        case refuse(UInt64, AisError, String)
        /// Nobody waits for it any more.
        case forget(UInt64)
        case noAnswer(CheckpointID, NodeID)
        /// Say `.route` of this.
        case look(Subject)
        case wake(at: Instant)
    }

    /// A client's own timeout ends earlier as a rule.
    public static let waitMax = Duration.seconds(30)
    /// What failed is tried again after this, or when the route changes.
    public static let pause = Duration.milliseconds(20)

    public let requestsMax: Int
    public let bytesMax: Int

    private struct Entry: Hashable, Sendable {
        var subject: Subject
        var bytes: Int
        var session: ClientSession
        var deadline: Instant
        var isRetransmission: Bool
        /// Where it is being done; nil: it waits.
        var route: ReplicaRoute?
        var wasTried = false
        var isActive = false
    }

    private var entries = OrderedMap<UInt64, Entry>()
    /// What waits, by what it is about, in the order of its coming.
    private var waiting = OrderedMap<Subject, OrderedMap<UInt64, Bool>>()
    private var bytes = 0
    private var isMember = true
    /// Subjects to be looked at again, and since when that is due.
    private var retries = OrderedMap<Subject, Instant>()
    private var wakesAt: Instant?

    public init(requestsMax: Int = 4_096, bytesMax: Int = 64 << 20) {
        self.requestsMax = requestsMax
        self.bytesMax = bytesMax
    }

    public var count: Int { entries.count }
    /// Requests that wait until it is known where they are to be done.
    public func isWaiting(_ number: UInt64) -> Bool { entries[number].map { $0.route == nil } ?? false }
    public var waitingCount: Int { waiting.reduce(0) { $0 + $1.value.count } }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .arrived(let number, let subject, let size, let session, let isRetransmission, let route, let isActive):
            guard entries.count < requestsMax, entries.isEmpty || bytes + size <= bytesMax else {
                return [.refuse(number, .tryAgain, "\(entries.count) requests wait already")]
            }
            bytes += size
            entries[number] = Entry(
                subject: subject, bytes: size, session: session, deadline: now + Self.waitMax,
                isRetransmission: isRetransmission, isActive: isActive)
            attempt(number, route, &effects)
            if !isMember { refuseLate(number, &effects) }
            wake(at: now + Self.waitMax, &effects)
        case .route(let subject, let route):
            retries[subject] = nil
            for number in waiting[subject]?.keys ?? [] { attempt(number, route, &effects) }
        case .answered(let number): remove(number)
        case .failed(let number, let failure): failed(number, failure, now, &effects)
        case .left(let session):
            for (number, entry) in entries where entry.session == session {
                remove(number)
                effects.append(.forget(number))
            }
        case .membership(let isMember, let isUnbroken):
            self.isMember = isMember
            if isMember && isUnbroken { break }
            for (number, _) in entries { refuseLate(number, &effects) }
        case .tick: tick(now, &effects)
        }
        return effects
    }

    /// What waits for a process that is active here, while somebody else may become active elsewhere, is not kept for
    /// later.
    private mutating func refuseLate(_ number: UInt64, _ effects: inout [Effect]) {
        guard let entry = entries[number], entry.isActive, entry.route == nil else { return }
        remove(number)
        let text = "this node was no member of the cluster while it waited"
        effects.append(.refuse(number, entry.isRetransmission ? .timeout : .tryAgain, text))
    }

    private mutating func remove(_ number: UInt64) {
        guard let entry = entries.removeValue(forKey: number) else { return }
        bytes -= entry.bytes
        stopWaiting(number, entry.subject)
    }

    private mutating func stopWaiting(_ number: UInt64, _ subject: Subject) {
        guard waiting[subject]?.removeValue(forKey: number) != nil else { return }
        if waiting[subject]?.isEmpty == true { waiting[subject] = nil }
    }

    private mutating func attempt(_ number: UInt64, _ route: ReplicaRoute, _ effects: inout [Effect]) {
        guard let entry = entries[number] else { return }
        switch route {
        case .later: waiting[entry.subject, default: [:]][number] = true
        case .nowhere:
            remove(number)
            effects.append(.refuse(number, .notExist, "the checkpoint has no active replica"))
        case .here, .there:
            stopWaiting(number, entry.subject)
            effects.append(.perform(number, route, isRetransmission: entry.isRetransmission))
            entries[number]?.route = route
            entries[number]?.wasTried = true
        }
    }

    private mutating func failed(
        _ number: UInt64, _ failure: Failure, _ now: Instant, _ effects: inout [Effect]
    ) {
        guard let entry = entries[number] else { return }
        if failure == .unknown, let id = entry.subject.ofActive, case .there(let node) = entry.route {
            effects.append(.noAnswer(id, node))
        }
        if failure != .untouched { entries[number]?.isRetransmission = true }
        entries[number]?.route = nil
        if !isMember, entry.isActive { return refuseLate(number, &effects) }
        waiting[entry.subject, default: [:]][number] = true
        if retries[entry.subject] == nil { retries[entry.subject] = now + Self.pause }
        wake(at: now + Self.pause, &effects)
    }

    private mutating func tick(_ now: Instant, _ effects: inout [Effect]) {
        wakesAt = nil
        for (number, entry) in entries where entry.deadline <= now {
            remove(number)
            let text = "it is not known in time which node has the active replica, or that node does not answer"
            effects.append(.refuse(number, entry.isRetransmission ? .timeout : .tryAgain, text))
        }
        for (subject, due) in retries where due <= now {
            retries[subject] = nil
            if waiting[subject] != nil { effects.append(.look(subject)) }
        }
        let next = [entries.map(\.value.deadline).min(), retries.map(\.value).min()].compactMap { $0 }.min()
        if let next { wake(at: next, &effects) }
    }

    private mutating func wake(at instant: Instant, _ effects: inout [Effect]) {
        if let wakesAt, wakesAt <= instant { return }
        wakesAt = instant
        effects.append(.wake(at: instant))
    }
}
