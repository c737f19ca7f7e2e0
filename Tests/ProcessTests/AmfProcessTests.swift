import AmfProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@Suite("amfd and its guard", .serialized)
struct AmfProcessTests {
    private let services = MiddlewareModel.services.map(\.program)

    /// Pids by component, once both components of the application are assigned and the middleware is up.
    private func ready(_ stand: AmfStand) throws -> [String: Int32] {
        let all = stand.wait { () -> [ComponentStatus]? in
            let components = stand.components
            let isUp = services.allSatisfy { name in components.contains { $0.name == name && $0.has(.active) } }
            let isActive = components.contains { $0.name.hasPrefix("C") && $0.has(.active) }
            let isStandby = components.contains { $0.name.hasPrefix("C") && $0.has(.standby) }
            return isUp && isActive && isStandby ? components : nil
        }
        let components = try #require(all, "not up: \(stand.components); amfd said: \(stand.output)")
        return Dictionary(components.map { ($0.name, $0.pid) }) { first, _ in first }
    }

    private func awaitSuccessor(_ stand: AmfStand, _ role: String, of pid: Int32) throws {
        let successor = stand.wait { stand.holder(role).flatMap { $0 == pid ? nil : $0 } }
        _ = try #require(successor, "no new \(role); amfd said: \(stand.output)")
    }

    @Test("The middleware boots, then the application; SIGTERM to the guard leaves nothing behind")
    func bootAndStop() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        let amfd = try stand.start()
        let pids = try ready(stand)
        #expect(Set(pids.values).count == 7)
        #expect(Set(stand.processes).count == 9)
        try Process.kill(amfd.pid, .terminate)
        #expect(try IO.waitUntil(amfd.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        #expect(Process.reap(amfd.pid) == .exited(code: 0))
        #expect(stand.processes.isEmpty)
    }

    @Test("SIGTERM to amfd itself stops the node, and its guard with it")
    func stopAmfd() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        let guardian = try stand.start()
        _ = try ready(stand)
        try Process.kill(try #require(stand.holder("amfd")), .terminate)
        #expect(try IO.waitUntil(guardian.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        #expect(Process.reap(guardian.pid) == .exited(code: 0))
    }

    @Test("A killed active: the standby takes over, the killed one comes back")
    func failover() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        for _ in 0..<5 {
            let pids = try ready(stand)
            let active = try #require(stand.components.first { $0.name.hasPrefix("C") && $0.has(.active) })
            let other = active.name == "C1" ? "C2" : "C1"
            try Process.kill(active.pid, .kill)
            let successor = try #require(stand.wait(for: other) { $0.has(.active) }, "amfd said: \(stand.output)")
            #expect(successor.pid == pids[other])
        }
    }

    @Test("A killed daemon of the middleware is started again, and nothing else is disturbed")
    func daemons() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        var before = try ready(stand)
        for name in services {
            let pid = try #require(before[name])
            try Process.kill(pid, .kill)
            let after = stand.wait(for: name) { $0.pid != pid && $0.has(.active) }
            before[name] = try #require(after, "\(name); amfd said: \(stand.output)").pid
            #expect(try ready(stand) == before)
        }
    }

    @Test("A killed amfd comes back and adopts everything: nobody changes his pid, and failover works as before")
    func amfdDies() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        let before = try ready(stand)
        for _ in 0..<5 {
            let amfd = try #require(stand.holder("amfd"))
            try Process.kill(amfd, .kill)
            try awaitSuccessor(stand, "amfd", of: amfd)
            #expect(try ready(stand) == before)
        }
        let active = try #require(stand.components.first { $0.name.hasPrefix("C") && $0.has(.active) })
        try Process.kill(active.pid, .kill)
        let other = active.name == "C1" ? "C2" : "C1"
        _ = try #require(stand.wait(for: other) { $0.has(.active) }, "amfd said: \(stand.output)")
        _ = try ready(stand)
    }

    @Test("A component that dies while amfd is away is failed over when amfd is back")
    func bothDie() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        let pids = try ready(stand)
        let active = try #require(stand.components.first { $0.name.hasPrefix("C") && $0.has(.active) })
        try Process.kill(try #require(stand.holder("amfd")), .stop)
        try Process.kill(active.pid, .kill)
        try Process.kill(try #require(stand.holder("amfd")), .kill)
        let other = active.name == "C1" ? "C2" : "C1"
        let successor = try #require(stand.wait(for: other) { $0.has(.active) }, "amfd said: \(stand.output)")
        #expect(successor.pid == pids[other])
        _ = try ready(stand)
    }

    @Test("A killed guard is replaced, and the new one guards")
    func guardDies() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        let before = try ready(stand)
        for _ in 0..<3 {
            let (guardian, amfd) = (try #require(stand.holder("guard")), try #require(stand.holder("amfd")))
            try Process.kill(guardian, .kill)
            try awaitSuccessor(stand, "guard", of: guardian)
            #expect(stand.holder("amfd") == amfd)
            try Process.kill(amfd, .kill)
            try awaitSuccessor(stand, "amfd", of: amfd)
            #expect(try ready(stand) == before)
        }
    }

    @Test("A second amfd for the node is refused with the holder's name")
    func second() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        let first = try stand.start()
        let pids = try ready(stand)
        for arguments in [["--guard"], []] {
            let second = try stand.start(arguments)
            #expect(try IO.waitUntil(second.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
            #expect(Process.reap(second.pid) == .exited(code: 100))
        }
        #expect(stand.output.contains("pid \(first.pid), in run directory \(stand.places.runDirectory)"))
        #expect(stand.output.contains("pid \(try #require(stand.holder("amfd"))), in run directory"))
        #expect(try ready(stand) == pids)
    }
}
