import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import IOCLinks

/// What the tests themselves stand on; without it there is nothing to test.
func must<Value: ~Copyable, Failure: Error>(_ body: () throws(Failure) -> Value) -> Value {
    do throws(Failure) {
        return try body()
    } catch {
        fatalError("\(error)")
    }
}

/// A loop on a thread of its own, stopped and joined at the end.
final class LoopThread: @unchecked Sendable {
    let loop: Loop
    private let thread: OSThread

    init() {
        let loop = must { () throws(OSError) in try Loop(name: "test") }
        self.loop = loop
        thread = must { () throws(OSError) in try OSThread.spawn(name: "test-loop") { loop.run() } }
    }

    /// Runs `body` on the loop and waits for it.
    func sync<Value: Sendable>(_ body: @escaping @Sendable (Loop) -> Value) -> Value {
        let box = Monitor<Value?>(nil)
        loop.post(.control) { [loop] in
            let value = body(loop)
            box.update { $0 = value }
        }
        return box.wait(until: MonotonicClock.now() + .seconds(30)) { $0 }!
    }

    func stop() {
        loop.stop()
        thread.join()
    }
}

/// Something that only one loop's thread touches.
final class Confined<Value>: @unchecked Sendable {
    var value: Value
    init(_ value: Value) { self.value = value }
}

/// Waits until `condition` holds; false after the limit.
func eventually(_ limit: Duration = .seconds(30), _ condition: () -> Bool) -> Bool {
    let deadline = MonotonicClock.now() + limit
    while !condition() {
        if MonotonicClock.now() > deadline { return false }
        OSThread.yield()
    }
    return true
}

/// What the test nodes answer, by code.
enum Code {
    static let echo: UInt16 = 1
    static let silent: UInt16 = 2
    static let fail: UInt16 = 3
    static let blob: UInt16 = 4
}

/// One daemon of a test cluster, on a loop of its own, with what it saw.
final class TestNode: @unchecked Sendable {
    let thread = LoopThread()
    let id: NodeID
    private let box = Confined<PeerLinks?>(nil)
    let seen = Mutex(Seen())
    /// Requests not answered; the loop's.
    let held = Confined<[PeerRequest]>([])

    struct Seen {
        var up: [(node: NodeID, incarnation: UInt64, isNew: Bool)] = []
        var down: [String] = []
        var messages: [(node: NodeID, code: UInt16, lane: Lane, body: [UInt8])] = []
        var messageBytes = 0
        var executed: [UInt64] = []
        var troubles: [String] = []
        var writable: [Lane] = []
        var keepsBodies = true
    }

    init(
        _ description: ClusterDescription, incarnation: UInt64 = 1, service: WellKnownService = .ckptd,
        options: LinkOptions = LinkOptions()
    ) {
        id = description.localNode
        on { [self] loop in
            box.value = must { () throws(LinkError) in
                try PeerLinks(
                    loop: loop, service: service, description: description, incarnation: incarnation,
                    options: options)
            }
            wire()
        }
    }

    var links: PeerLinks { box.value! }

    func on<Value: Sendable>(_ body: @escaping @Sendable (Loop) -> Value) -> Value { thread.sync(body) }

    private func wire() {
        links.onUp = { [unowned self] node, incarnation, isNew in
            seen.withLock { $0.up.append((node, incarnation, isNew)) }
        }
        links.onDown = { [unowned self] _, reason in seen.withLock { $0.down.append(reason) } }
        links.onMessage = { [unowned self] node, code, lane, body in
            seen.withLock {
                $0.messageBytes += body.count
                $0.messages.append((node, code, lane, $0.keepsBodies ? [UInt8](body) : []))
            }
        }
        links.onTrouble = { [unowned self] text in seen.withLock { $0.troubles.append(text) } }
        links.onWritable = { [unowned self] _, lane in seen.withLock { $0.writable.append(lane) } }
        links.onRequest = { [unowned self] request, body in
            seen.withLock { $0.executed.append(request.number) }
            switch request.code {
            case Code.echo: request.reply(body)
            case Code.fail: request.fail(.noSpace, "no space for it")
            case Code.blob:
                request.reply([UInt8](repeating: 7, count: Int(body.loadUnaligned(as: UInt32.self))))
            default: held.value.append(request)
            }
        }
    }

    func stop() {
        on { [self] _ in
            held.value = []
            box.value?.close()
            box.value = nil
        }
        thread.stop()
    }

    /// Calls and waits for the outcome.
    func call(
        _ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal, timeout: Duration = .seconds(30)
    ) -> Result<[UInt8], CallError> {
        begin(code, body, to: node, lane: lane, timeout: timeout).wait(until: MonotonicClock.now() + .seconds(30)) {
            $0
        } ?? .failure(CallError(.library, "never answered"))
    }

    func begin(
        _ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal, timeout: Duration = .seconds(30)
    ) -> Monitor<Result<[UInt8], CallError>?> {
        let outcome = Monitor<Result<[UInt8], CallError>?>(nil)
        on { [self] _ in
            links.call(code, body, to: node, lane: lane, timeout: timeout) { result in outcome.update { $0 = result } }
        }
        return outcome
    }

    func send(_ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal) -> SendOutcome {
        on { [self] _ in links.send(code, body, to: node, lane: lane) }
    }

    func isUp(_ node: NodeID) -> Bool { on { [self] _ in links.isUp(node) } }

    func reach(_ node: NodeID) { on { [self] _ in links.reach(node) } }

    func status(_ node: NodeID) -> LinkStatus? { on { [self] _ in links.status.first { $0.node == node } } }
}

/// Loopback addresses that no other test uses.
struct TestNet: Sendable {
    private static let counter = Atomic<Int>(0)
    private let second: Int
    private let third: Int
    var links = LinkSettings(security: .none, portBase: 17_000)

    init() {
        third = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue & 0xff
        second = 64 + Int(Environment.processID) % 128
    }

    func ip(_ node: Int, plane: Int = 0) -> String { "127.\(second).\(third).\(node + 100 * plane)" }

    func settings(_ local: Int, nodes: Int = 2, planes: Int = 1) -> ClusterDescription {
        ClusterDescription(
            clusterName: "test", groupEngine: .corosync, localNode: NodeID(UInt32(local)),
            nodes: (1...nodes).map { node in
                ClusterDescribedNode(
                    id: NodeID(UInt32(node)), name: SaName("node-\(node)")!, role: .controller,
                    addresses: (0..<planes).map { LinkAddress(ip(node, plane: $0)) })
            }, links: links)
    }

    var port: UInt16 { 17_000 + UInt16(WellKnownService.ckptd.rawValue) }
}

let first = NodeID(1)
let second = NodeID(2)
