import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import IOC

/// What the tests themselves stand on; without it there is nothing to test.
func must<Value: ~Copyable>(_ body: () throws(OSError) -> Value) -> Value {
    do throws(OSError) {
        return try body()
    } catch {
        fatalError("\(error)")
    }
}

/// A private run directory, removed at the end.
final class TestPlaces: Sendable {
    let places: Places

    init() {
        let directory = must { () throws(OSError) in try File.makeTemporaryDirectory("/dev/shm/saf-ioc-") }
        places = Places(
            runDirectory: directory, shmDirectory: directory, stateDirectory: directory, logDirectory: directory,
            configDirectory: directory, nodeName: "test")
    }

    deinit { try? File.removeTree(places.runDirectory) }
}

/// A loop on a thread of its own, stopped and joined at the end.
final class LoopThread: @unchecked Sendable {
    let loop: Loop
    private let thread: OSThread

    init(limits: LoopLimits = LoopLimits()) {
        let loop = must { () throws(OSError) in try Loop(name: "test", limits: limits) }
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

/// Something that only the loop's thread touches.
final class Confined<Value>: @unchecked Sendable {
    var value: Value
    init(_ value: Value) { self.value = value }
}

/// Waits until `condition` holds; false after half a minute.
func eventually(_ limit: Duration = .seconds(30), _ condition: () -> Bool) -> Bool {
    let deadline = MonotonicClock.now() + limit
    while !condition() {
        if MonotonicClock.now() > deadline { return false }
        OSThread.yield()
    }
    return true
}

/// What the test servers do, by code.
enum Code {
    static let echo: UInt16 = 1
    static let count: UInt16 = 2
    static let silent: UInt16 = 3
    static let pushMe: UInt16 = 4
    static let fail: UInt16 = 5
    static let descriptor: UInt16 = 6
    static let later: UInt16 = 7
}

/// A server on its own loop thread.
final class TestServer: @unchecked Sendable {
    let thread: LoopThread
    let places: Places
    let options: ServerOptions
    let executions = Atomic<Int>(0)
    let connects = Atomic<Int>(0)
    let reconnects = Atomic<Int>(0)
    let disconnects = Atomic<Int>(0)
    let retransmissions = Atomic<Int>(0)
    /// Loop thread only.
    var server: IOCServer?
    var kept: [Request] = []
    var oneWays: [(Lane, [UInt8])] = []
    var endReasons: [String] = []
    var prepare: (IOCServer) -> Void = { _ in }

    init(_ places: Places, options: ServerOptions = ServerOptions(), limits: LoopLimits = LoopLimits()) {
        self.places = places
        self.options = options
        thread = LoopThread(limits: limits)
        open()
    }

    func open() { thread.sync { [unowned self] loop in openHere(loop) } }

    private func openHere(_ loop: Loop) {
        let server = must { () throws(OSError) in
            try IOCServer(loop: loop, endpoint: .wellKnown(.ckptd), places: places, options: options)
        }
        server.onConnect = { [unowned self] peer in
            connects.wrappingAdd(1, ordering: .relaxed)
            if peer.isReconnect { reconnects.wrappingAdd(1, ordering: .relaxed) }
        }
        server.onDisconnect = { [unowned self] peer in
            disconnects.wrappingAdd(1, ordering: .relaxed)
            endReasons.append(peer.endReason ?? "")
        }
        server.onRequest = { [unowned self] request, body in handle(request, body) }
        server.onOneWay = { [unowned self] _, code, body in
            oneWays.append((Lane(rawValue: UInt8(code)) ?? .normal, Array(body)))
        }
        prepare(server)
        self.server = server
    }

    private func handle(_ request: Request, _ body: UnsafeRawBufferPointer) {
        executions.wrappingAdd(1, ordering: .relaxed)
        if request.isRetransmission { retransmissions.wrappingAdd(1, ordering: .relaxed) }
        switch request.code {
        case Code.echo: request.reply(body, descriptors: [])
        case Code.count: request.reply([UInt8(truncatingIfNeeded: executions.load(ordering: .relaxed))])
        case Code.pushMe:
            let count = Int(body.first ?? 0)
            for index in 0..<count { request.peer.push(9, [UInt8(index)]) }
            request.reply([])
        case Code.fail: request.fail(.noSpace, "the store \"x\" is full")
        case Code.descriptor:
            var text: [UInt8] = []
            for descriptor in request.descriptors {
                text += content(descriptor)
            }
            let memory = sealedMemory(Array(body))
            request.reply(text, descriptors: [memory.raw])
        case Code.later: kept.append(request)
        default: break
        }
    }

    /// Keeps the loop from doing anything until the monitor becomes true: a daemon under SIGSTOP.
    func block() -> Monitor<Bool> {
        let gate = Monitor(false)
        let isBlocked = Monitor(false)
        thread.loop.post(.control) {
            isBlocked.update { $0 = true }
            _ = gate.wait(until: MonotonicClock.now() + .seconds(30)) { $0 ? true : nil }
        }
        _ = isBlocked.wait(until: MonotonicClock.now() + .seconds(30)) { $0 ? true : nil }
        return gate
    }

    func closeServer() {
        thread.sync { [unowned self] _ in
            server?.close(); server = nil
        }
    }

    func stop() {
        closeServer()
        thread.stop()
    }

}

/// The error of a call that must fail.
func failure(_ body: () throws -> Void) -> CallError? {
    do {
        try body()
        return nil
    } catch {
        return error as? CallError
    }
}

/// A sealed memory with this content.
func sealedMemory(_ bytes: [UInt8]) -> SharedDescriptor {
    bytes.withUnsafeBytes { raw in
        must { () throws(OSError) in SharedDescriptor(try AnonymousMemory.create(name: "test", content: raw)) }
    }
}

/// What a received descriptor holds; closes it.
func content(_ number: Int32) -> [UInt8] {
    let descriptor = Descriptor(owning: number)
    var buffer = [UInt8](repeating: 0, count: 100)
    let count = buffer.withUnsafeMutableBytes { (try? IO.read(descriptor.raw, into: $0, at: 0)) ?? 0 }
    return Array(buffer[..<count])
}
