import AmfProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

/// What a component leaves behind, and what it says of its own health.
@Suite("amfd and what it supervises", .serialized)
struct AmfSupervisionTests {
    private func active(_ stand: AmfStand) throws -> ComponentStatus {
        let found = stand.wait { stand.components.first { $0.name.hasPrefix("C") && $0.has(.active) } }
        return try #require(found, "amfd said: \(stand.output)")
    }

    @Test("A killed holder's permits of a named semaphore are back at once")
    func semaphore() throws {
        let stand = try AmfStand(TestModel.twoN(["permits"]) { $0.recoveryOnError = .componentRestart })
        defer { stand.end() }
        let semaphore = try RobustSemaphore.named("shared", permits: 4, places: stand.places)
        try stand.start()
        // Each takes two; the one that is started again finds nothing and goes on without.
        #expect(stand.wait { semaphore.available == 0 ? true : nil } == true, "amfd said: \(stand.output)")
        let victim = try #require(semaphore.holders.first)
        try Process.kill(victim.pid, .kill)
        // Nobody waits on the semaphore, so nobody but amfd (or the successor) finds the dead one.
        let isBack = stand.wait { semaphore.holders.contains { $0.pid == victim.pid } ? nil : true }
        #expect(isBack == true, "amfd said: \(stand.output)")
    }

    @Test("The log tells what happened, to whom and what was done: a failover, operations, a death of amfd")
    func diary() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        let dead = try active(stand)
        let other = dead.name == "C1" ? "C2" : "C1"
        let standby = try #require(stand.wait(for: other) { $0.has(.standby) }, "amfd said: \(stand.output)")
        try Process.kill(dead.pid, .kill)
        let csi = "safCsi=CSI,safSi=SI,safApp=App"
        says(stand, "\(dead.dn): failed: its process died; recovery component-failover")
        says(stand, "safSi=SI,safApp=App: nobody is active for it")
        says(stand, "\(standby.dn): active for \(csi) (was standby)")
        says(stand, "\(dead.dn): process \(dead.pid): killed by SIGKILL after ")
        says(stand, "\(dead.dn): standby for \(csi)")
        let unit = try #require(SaName("safSu=SU1,safSg=SG,safApp=App"))
        try stand.admin.perform(.lock, on: unit)
        says(stand, "lock of \(unit), asked by user \(Environment.userID), process \(Environment.processID)")
        says(stand, "lock of \(unit): done")
        #expect(throws: CallError.self) { try stand.admin.perform(.lock, on: unit) }
        says(stand, "lock of \(unit): not done: \(unit) is locked already")
        let amfd = try #require(stand.holder("amfd"))
        try Process.kill(amfd, .kill)
        says(stand, "the amfd before this one, process \(amfd), ended without being told to")
    }

    private func says(_ stand: AmfStand, _ text: String) {
        let isSaid = stand.wait { stand.output.contains(text) ? true : nil }
        #expect(isSaid == true, "\(text): not in \(stand.output)")
    }

    @Test("What left the session of a component ends with it")
    func descendants() throws {
        let stand = try AmfStand(TestModel.twoN(["offspring"]))
        defer { stand.end() }
        try stand.start()
        let parent = try active(stand)
        let child = stand.wait { stand.processes.first { Process.information(of: $0)?.parent == parent.pid } }
        let pid = try #require(child, "amfd said: \(stand.output)")
        #expect(Process.information(of: pid)?.session == pid, "it has a session of its own")
        try Process.kill(parent.pid, .kill)
        let isGone = stand.wait { Process.information(of: pid).map(\.isExiting) ?? true ? true : nil }
        #expect(isGone == true, "amfd said: \(stand.output)")
    }

    @Test("A clean-up that amfd's death interrupts is ended and done again; its output is captured")
    func interruptedCleanup() throws {
        let model = TestModel.twoN {
            $0.cleanupCommand = "/bin/sh"
            // The first of each component hangs until it is killed; the one after it is through at once.
            let script = """
                echo "$SA_AMF_COMPONENT_NAME $SAF_INSTANCE $SAF_INSTANTIATION" >> $SAF_RUN_DIR/cleanups
                [ "$(grep -c "^$SA_AMF_COMPONENT_NAME 1 " $SAF_RUN_DIR/cleanups)" = 1 ] && exec sleep 1000
                exit 0
                """
            $0.cleanupArguments = ["-c", script]
        }
        let stand = try AmfStand(model)
        defer { stand.end() }
        try stand.start()
        let victim = try active(stand)
        try Process.kill(victim.pid, .kill)
        let notes = stand.places.runDirectory + "/cleanups"
        func lines() -> [[Substring]] {
            ((try? File.readText(notes)) ?? "").split(separator: "\n").map { $0.split(separator: " ") }
        }
        #expect(stand.wait { lines().contains { $0.count == 3 && $0[1] == "1" } ? true : nil } == true)
        try Process.kill(try #require(stand.holder("amfd")), .kill)
        let back = stand.wait(for: victim.name) { $0.presenceState == .instantiated && $0.pid != victim.pid }
        #expect(back != nil, "amfd said: \(stand.output)")
        let done = lines().filter { $0.count == 3 && $0[0] == "\(victim.dn)" && $0[1] == "1" }
        #expect(done.count == 2 && done[0][2] != done[1][2], "\(lines())")
        let sleeping = stand.processes.filter {
            (try? File.readText("/proc/\($0)/cmdline"))?.hasPrefix("sleep") == true
        }
        #expect(sleeping.isEmpty, "an interrupted clean-up goes on")
    }

    // MARK: Health

    private func model(_ behaviour: String) -> AmfModel {
        TestModel.twoN([behaviour]) {
            $0.healthchecks = [
                HealthcheckModel(key: "default", period: .milliseconds(200), maxDuration: .milliseconds(500))
            ]
            $0.recoveryOnError = .componentFailover
        }
    }

    private func expect(_ text: String, _ behaviour: String, _ disturb: (ComponentStatus) throws -> Void) throws {
        let stand = try AmfStand(model(behaviour))
        defer { stand.end() }
        try stand.start()
        let victim = try active(stand)
        try disturb(victim)
        let failed = stand.wait { stand.output.contains("\(victim.dn): failed: \(text)") ? true : nil }
        #expect(failed == true, "amfd said: \(stand.output)")
        let back = stand.wait(for: victim.name) { $0.presenceState == .instantiated && $0.pid != victim.pid }
        #expect(back != nil, "amfd said: \(stand.output)")
    }

    @Test("A component that says it is not healthy is recovered")
    func unhealthy() throws {
        try expect("it answered a health check with a failure", "unhealthy") { _ in }
    }

    @Test("A component that is stopped answers no health check, and is recovered")
    func stopped() throws {
        try expect("it did not answer a health check in time", "run") { try Process.kill($0.pid, .stop) }
    }

    @Test("A component that confirms its health by itself and ceases to is recovered")
    func confirms() throws {
        try expect("it did not confirm its health in time", "confirms") { try Process.kill($0.pid, .stop) }
    }

    @Test("A stopped daemon is killed and started again; nobody else is disturbed")
    func stoppedDaemon() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        let before = try active(stand)
        let daemon = try #require(stand.wait(for: "eventd") { $0.has(.active) })
        try Process.kill(daemon.pid, .stop)
        let back = stand.wait(for: "eventd") { $0.has(.active) && $0.pid != daemon.pid }
        #expect(back != nil, "amfd said: \(stand.output)")
        #expect(stand.component(before.name)?.pid == before.pid)
    }
}
