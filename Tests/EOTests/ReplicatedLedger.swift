import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// A small engine for tests: a ledger of named counters that answers, asks for once-only effects and sets timers.
struct Ledger: ReplicatedEngine, Equatable {
    enum Event: Hashable, Sendable {
        case add(name: UInt32, amount: UInt64, request: UInt64)
        case alarm(request: UInt64)
        case remind(key: UInt64, after: Duration)
        case reminded(key: UInt64)
        case alarmed(request: UInt64)
    }
    enum Effect: Hashable, Sendable {
        case added(request: UInt64, total: UInt64)
        case raise(request: UInt64)
        case remindAt(UInt64, Instant)
        case rang(UInt64)
    }
    struct Alarm: WireCodable, Hashable, Sendable {
        var request: UInt64
        /// Asked of node 1, not of the oldest member.
        var isForNode: Bool { request % 4 == 3 }
        func encode(to writer: inout ByteWriter) { writer.integer(request) }
        init(request: UInt64) { self.request = request }
        init(decoding reader: inout ByteReader) throws(DecodeError) { request = try reader.integer() }
    }
    typealias OnceEffect = Alarm

    var totals: [UInt32: UInt64] = [:]
    /// Requests applied, in order, so that a test can ask whether one was.
    var requests: [UInt64] = []
    var alarmed: [UInt64] = []
    var reminded: UInt64 = 0
    /// The latest time it was told; it must not go back.
    var latest = Instant.start
    var wentBack = false
    /// A fault of one member's memory, not part of the state: with so many requests, a total changes.
    var flaw = Flaw()
    /// For the tests of the checkers: a state that depends on the process.
    var isDisorderly = false
    var scrambled: UInt64 = 0

    struct Flaw: Equatable {
        var atRequests = 0
        static func == (left: Flaw, right: Flaw) -> Bool { true }
    }

    init() {}

    mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        if now < latest { wentBack = true }
        latest = max(latest, now)
        if flaw.atRequests > 0, requests.count >= flaw.atRequests {
            flaw.atRequests = 0
            totals[9, default: 0] += 1
        }
        switch event {
        case .add(let name, let amount, let request):
            totals[name, default: 0] += amount
            requests.append(request)
            if isDisorderly {  // as a dictionary's order would differ from one process to the next
                for (name, total) in totals.shuffled() { scrambled = scrambled &* 31 &+ UInt64(name) &+ total }
            }
            return [.added(request: request, total: totals[name] ?? 0)]
        case .alarm(let request):
            requests.append(request)
            return [.raise(request: request), .added(request: request, total: 0)]
        case .remind(let key, let after): return [.remindAt(key, now + after)]
        case .reminded(let key):
            reminded += 1
            return [.rang(key)]
        case .alarmed(let request):
            alarmed.append(request)
            return []
        }
    }

    static func route(_ effect: Effect) -> EffectRoute<Alarm> {
        switch effect {
        case .added: .answer
        case .raise(let request):
            .once(Alarm(request: request), by: Alarm(request: request).isForNode ? .node(NodeID(1)) : .oldest)
        case .remindAt(let key, let instant): .startTimer(key: key, at: instant)
        case .rang: .everyMember
        }
    }

    static func timerEvent(key: UInt64) -> Event? { .reminded(key: key) }
}

extension Ledger.Event: WireCodable {
    func encode(to writer: inout ByteWriter) {
        switch self {
        case .add(let name, let amount, let request):
            writer.integer(UInt8(1))
            writer.integer(name)
            writer.integer(amount)
            writer.integer(request)
        case .alarm(let request):
            writer.integer(UInt8(2))
            writer.integer(request)
        case .remind(let key, let after):
            writer.integer(UInt8(3))
            writer.integer(key)
            writer.integer(after.nanoseconds)
        case .reminded(let key):
            writer.integer(UInt8(4))
            writer.integer(key)
        case .alarmed(let request):
            writer.integer(UInt8(5))
            writer.integer(request)
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1:
            let (name, amount): (UInt32, UInt64) = (try reader.integer(), try reader.integer())
            self = .add(name: name, amount: amount, request: try reader.integer())
        case 2: self = .alarm(request: try reader.integer())
        case 3:
            let key: UInt64 = try reader.integer()
            self = .remind(key: key, after: .nanoseconds(try reader.integer(Int64.self)))
        case 4: self = .reminded(key: try reader.integer())
        case 5: self = .alarmed(request: try reader.integer())
        default: throw .badValue("event \(kind); 1 to 5 expected")
        }
    }
}

extension Ledger {
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        writer.integer(UInt32(totals.count))
        for (name, total) in totals.sorted(by: { $0.key < $1.key }) {
            writer.integer(name)
            writer.integer(total)
        }
        for list in [requests, alarmed] {
            writer.integer(UInt32(list.count))
            for request in list { writer.integer(request) }
        }
        writer.integer(reminded)
        writer.integer(latest.nanoseconds)
        writer.bool(wentBack)
        writer.bool(isDisorderly)
        writer.integer(scrambled)
    }

    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let name: UInt32 = try reader.integer()
            totals[name] = try reader.integer()
        }
        for _ in 0..<(try reader.integer(UInt32.self)) { requests.append(try reader.integer()) }
        for _ in 0..<(try reader.integer(UInt32.self)) { alarmed.append(try reader.integer()) }
        reminded = try reader.integer()
        latest = Instant(nanoseconds: try reader.integer())
        wentBack = try reader.bool()
        isDisorderly = try reader.bool()
        scrambled = try reader.integer()
    }
}
