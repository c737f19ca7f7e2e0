import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

/// Node 2 in a process of its own; killed with this object.
final class PeerProcess {
    private let pid: Int32
    private let pidfd: Descriptor

    init(_ net: TestNet, incarnation: UInt64) {
        let program = File.parent(of: Environment.executablePath ?? "") + "/linkpeer"
        var options = SpawnOptions(
            path: program, arguments: ["linkpeer", "serve", "2", net.ip(1), net.ip(2), "\(incarnation)"])
        options.descriptors = [DescriptorMapping(2, as: 2)]
        let child = must { () throws(OSError) in try Process.spawn(options) }
        pid = child.pid
        pidfd = child.takePidfd()
    }

    deinit {
        send(.kill)
        end()
    }

    func send(_ signal: SignalNumber) { try? Process.pidfdSendSignal(pidfd.raw, signal) }

    func end() {
        _ = try? IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        _ = Process.reap(pid)
    }
}

@Suite("Links to other processes")
struct PeerProcessTests {
    let net = TestNet()

    @Test("kill -9 of the peer: the link is down, and up again with its next life, which is new")
    func killed() {
        let one = TestNode(net.settings(1))
        let two = PeerProcess(net, incarnation: 10)
        #expect(one.call(Code.echo, [1], to: second, timeout: .seconds(20)) == .success([1]))
        two.send(.kill)
        #expect(eventually { one.seen.withLock { $0.down.count } == 1 })
        two.end()
        let next = PeerProcess(net, incarnation: 11)
        #expect(one.call(Code.echo, [2], to: second, timeout: .seconds(20)) == .success([2]))
        one.seen.withLock {
            #expect($0.up.map(\.incarnation) == [10, 11])
            #expect($0.up.map(\.isNew) == [true, true])
        }
        withExtendedLifetime(next) {}
        one.stop()
    }

    @Test("SIGSTOP of the peer: calls end at their deadline, lanes fill and push back, and SIGCONT goes on")
    func stopped() {
        var options = LinkOptions()
        options.silenceMax = .seconds(60)
        let one = TestNode(net.settings(1), options: options)
        let two = PeerProcess(net, incarnation: 10)
        #expect(one.call(Code.echo, [1], to: second, timeout: .seconds(20)) == .success([1]))
        two.send(.stop)
        guard case .failure(let error) = one.call(Code.echo, [2], to: second, timeout: .milliseconds(200)) else {
            Issue.record("a stopped process answered")
            return
        }
        #expect(error.code == .timeout)
        let body = [UInt8](repeating: 1, count: 500_000)
        var taken = 0
        while taken < 1000, one.send(9, body, to: second, lane: .low) == .sent { taken += 1 }
        #expect(taken < 1000)
        #expect(one.send(9, body, to: second, lane: .low) == .full)
        two.send(.continue)
        #expect(eventually(.seconds(20)) { one.seen.withLock { $0.writable.contains(.low) } })
        #expect(one.call(Code.echo, [3], to: second, timeout: .seconds(20)) == .success([3]))
        one.seen.withLock { #expect($0.down.isEmpty) }
        one.stop()
    }
}
