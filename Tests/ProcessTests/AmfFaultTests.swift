import AmfProtocol
import EngineKit
import IOC
import LogClient
import LogProtocol
import OSAL
import SAFTypes
import Testing

/// Bad input and misbehaving components: each gets a clear error, the rest keeps running.
@Suite("amfd and faults", .serialized)
struct AmfFaultTests {
    /// `model` with a second application, one component alone, made by `change`.
    private func model(with change: (inout ComponentModel) -> Void) -> AmfModel {
        var model = TestModel.twoN()
        var component = ComponentModel(name: "Odd", command: "testcomponent")
        component.csiTypes = [SupportedCSIType("odd")]
        component.timeouts = ComponentTimeouts(all: .seconds(2))
        component.instantiateWithoutDelayMax = 2
        change(&component)
        var unit = ServiceUnitModel(name: "OddSU", node: "n1", rank: 1)
        unit.components = [component]
        var group = ServiceGroupModel(name: "OddSG", .noRedundancy)
        group.serviceUnits = [unit]
        var instance = ServiceInstanceModel(name: "OddSI", serviceGroup: "OddSG")
        instance.csis = [CSIModel(name: "OddCSI", type: "odd")]
        var application = ApplicationModel(name: "OddApp")
        application.serviceGroups = [group]
        application.serviceInstances = [instance]
        model.applications.append(application)
        return model
    }

    private func isWell(_ stand: AmfStand) -> Bool {
        stand.wait { () -> Bool? in
            let components = stand.components
            let isUp = MiddlewareModel.services.allSatisfy { service in
                components.contains { $0.name == service.program && $0.has(.active) }
            }
            let own = components.filter { $0.name == "C1" || $0.name == "C2" }
            return isUp && own.contains { $0.has(.active) } && own.contains { $0.has(.standby) } ? true : nil
        } ?? false
    }

    /// Starts the node and waits until amfd has said `text`.
    private func expect(_ text: String, _ change: (inout ComponentModel) -> Void) throws {
        let stand = try AmfStand(model(with: change))
        defer { stand.end() }
        try stand.start()
        #expect(stand.wait { stand.output.contains(text) ? true : nil } == true, "amfd said: \(stand.output)")
        #expect(isWell(stand), "amfd said: \(stand.output)")
    }

    @Test("A component whose program is missing is named, with the program")
    func missingProgram() throws {
        try expect("no-such-program: no such program") { $0.command = "no-such-program" }
    }

    @Test("A component that ends at once is named, with how it ended")
    func exitsAtOnce() throws {
        try expect("ended before it registered: exited with code 3") { $0.arguments = ["exit", "3"] }
    }

    @Test("A component that never registers is named, and tried again")
    func neverRegisters() throws {
        try expect("did not register in time after its start (attempt 2)") {
            $0.arguments = ["silent"]
            $0.timeouts.instantiate = .milliseconds(300)
        }
    }

    @Test("A component that never answers is named, and recovered")
    func neverAnswers() throws {
        try expect("failed: it did not answer a CSISet in time") {
            $0.arguments = ["deaf"]
            $0.timeouts.csiSet = .milliseconds(300)
        }
    }

    @Test("A component that prints without end, with nobody reading, works as any other")
    func floods() throws {
        let stand = try AmfStand(TestModel.twoN(["flood"]))
        defer { stand.end() }
        try stand.start()
        #expect(isWell(stand), "amfd said: \(stand.output)")
        let active = try #require(stand.components.first { $0.name.hasPrefix("C") && $0.has(.active) })
        try Process.kill(active.pid, .kill)
        let other = active.name == "C1" ? "C2" : "C1"
        #expect(stand.wait(for: other) { $0.has(.active) } != nil, "amfd said: \(stand.output)")
    }

    @Test("A component that prints without end fills no disk, and is undisturbed, whenever logd is killed")
    func floodsOverLogd() throws {
        let stand = try AmfStand(TestModel.twoN(["flood"]), real: ["logd"])
        defer { stand.end() }
        try stand.start()
        #expect(isWell(stand), "amfd said: \(stand.output)")
        let before = ["C1", "C2"].map { stand.component($0)?.pid }
        let log = LogAdmin(places: stand.places)
        for _ in 0..<3 {
            let logd = try #require(stand.wait(for: "logd") { $0.has(.active) }, "amfd said: \(stand.output)")
            // Both are read, and what is too much is dropped: by every life of logd.
            let isDropped = stand.wait { () -> Bool? in
                let outputs = (try? log.status())?.outputs ?? []
                return outputs.count { $0.output == .standardOutput && $0.suppressedBytes > 1 << 20 } == 2 ? true : nil
            }
            #expect(isDropped == true, "\(String(describing: try? log.status())); amfd said: \(stand.output)")
            try Process.kill(logd.pid, .kill)
            let next = stand.wait(for: "logd") { $0.pid != logd.pid && $0.has(.active) }
            #expect(next != nil, "amfd said: \(stand.output)")
        }
        #expect(["C1", "C2"].map { stand.component($0)?.pid } == before)
        #expect(isWell(stand), "amfd said: \(stand.output)")
        let names = try File.list(stand.places.logDirectory).filter { $0.hasPrefix("application_") }
        let sizes = try names.map { try File.stat(stand.places.logDirectory + "/" + $0).size }
        // Three lives, two components, a burst of 1 MiB each and the rate since.
        #expect(sizes.reduce(0, +) <= 20_000_000 && sizes.allSatisfy { $0 <= 5_000_000 }, "\(sizes)")
    }

    @Test("A bad model is told with file, line and column; the middleware runs alone, until the model is mended")
    func badModel() throws {
        let error = "model/app.yaml:7:3: unknown key redundancyModle; did you mean redundancyModel?"
        let stand = try AmfStand(nil, errors: error + "\n")
        defer { stand.end() }
        try stand.start()
        #expect(stand.wait { stand.output.contains(error) ? true : nil } == true, "amfd said: \(stand.output)")
        let isUp = stand.wait { () -> Bool? in
            let components = stand.components
            return components.count == 5 && components.allSatisfy { $0.has(.active) } ? true : nil
        }
        #expect(isUp == true, "amfd said: \(stand.output)")
        #expect(stand.status?.problems == ["the application model is not used: \(error)"])
        try stand.admin.load(TestModel.twoN())
        #expect(isWell(stand), "amfd said: \(stand.output)")
        #expect(stand.status?.problems == [])
    }

    @Test("A model with errors is refused with each of them")
    func wrongModel() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        #expect(isWell(stand))
        var wrong = TestModel.twoN()
        wrong.applications[0].serviceGroups[0].serviceUnits[0].node = "nowhere"
        wrong.applications[0].serviceInstances[0].serviceGroup = "none"
        do throws(CallError) {
            try stand.admin.load(wrong)
            Issue.record("accepted")
        } catch {
            #expect(error.code == .invalidParam)
            #expect(error.text.contains("nowhere") && error.text.contains("none"), "\(error.text)")
        }
        #expect(isWell(stand))
    }

    @Test("A refused model leaves nothing behind: the corrected one runs as it is written")
    func refusedThenCorrected() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try stand.start()
        #expect(isWell(stand))
        var refused = model { $0.command = "no-such-program" }
        refused.applications[0].serviceGroups[0].componentRestartMax = 77
        #expect(throws: CallError.self) { try stand.admin.load(refused) }
        try stand.admin.load(model { $0.arguments = ["run"] })
        #expect(stand.wait(for: "Odd") { $0.has(.active) } != nil, "amfd said: \(stand.output)")
        #expect(isWell(stand))
    }

    @Test("A run directory that cannot be used is named")
    func unusableRunDirectory() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        try File.writeAtomically(stand.places.runDirectory, text: "a file", durable: false)
        let amfd = try stand.start()
        #expect(try IO.waitUntil(amfd.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
        #expect(Process.reap(amfd.pid) == .exited(code: 1))
        #expect(stand.output.contains(stand.places.runDirectory), "amfd said: \(stand.output)")
    }

    @Test("Wrong arguments are refused, help teaches")
    func commandLine() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        for (arguments, code, expected) in [
            (["--wrong"], 100, "unknown argument --wrong"), (["--stop-deadline", "x"], 100, "whole number of seconds"),
            (["--help"], 0, "SAF_RUN_DIR"), (["--version"], 0, "SwiftSAF"),
        ] as [([String], Int32, String)] {
            let amfd = try stand.start(arguments)
            #expect(try IO.waitUntil(amfd.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
            #expect(Process.reap(amfd.pid) == .exited(code: code))
            #expect(stand.output.contains(expected))
        }
    }
}
