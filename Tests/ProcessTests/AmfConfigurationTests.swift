import AmfProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

/// What is written in the model, as the processes have it; the model on disk; what amfd answers on the console.
@Suite("amfd, its configuration and console", .serialized)
struct AmfConfigurationTests {
    @Test("A component has the configured limits, environment and directory, and cannot gain privileges")
    func spawned() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        let model = TestModel.twoN {
            $0.limits = [
                ResourceLimitModel(.openFiles, soft: 200, hard: 300), ResourceLimitModel(.coreSize, soft: 0, hard: 0),
            ]
            $0.environment = [EnvironmentVariable("COLOUR", "dark red"), EnvironmentVariable("SAF_NODE_ID", "7")]
            $0.workingDirectory = stand.directory
        }
        try stand.serve(model)
        try stand.start()
        let component = try #require(stand.wait(for: "C1") { $0.has(.active) }, "amfd said: \(stand.output)")
        let limits = try File.readText("/proc/\(component.pid)/limits").split(separator: "\n").map {
            $0.split(separator: " ").joined(separator: " ")
        }
        for expected in ["Max open files 200 300 files", "Max core file size 0 0 bytes"] {
            #expect(limits.contains(expected), "\(limits)")
        }
        let variables = try File.readText("/proc/\(component.pid)/environ").split(separator: "\0").map(String.init)
        for expected in [
            "COLOUR=dark red", "SA_AMF_COMPONENT_NAME=\(component.dn)", "SAF_NODE_ID=1", "SAF_NODE_NAME=n1",
            "SAF_RUN_DIR=\(stand.places.runDirectory)", "SAF_BIN_DIR=\(stand.directory)/bin",
        ] { #expect(variables.contains(expected), "\(expected) not in \(variables)") }
        let names = variables.map { $0.prefix { $0 != "=" } }
        #expect(Set(names).count == names.count, "\(names)")
        #expect(names.contains("SAF_INSTANCE"))
        #expect(try File.readLink("/proc/\(component.pid)/cwd") == stand.directory)
        #expect(try File.readText("/proc/\(component.pid)/status").contains("NoNewPrivs:\t1\n"))
    }

    private let yaml = """
        application: App
        serviceGroups:
          SG:
            redundancyModel: 2n
            serviceUnits: 2
            components:
              C:
                command: testcomponent
                arguments: [run]
            serviceInstances: [SI]

        """

    private func write(_ text: String, _ stand: AmfStand) throws -> String {
        let path = stand.places.configDirectory + "/model/app.yaml"
        try File.makeDirectories(File.parent(of: path))
        try File.writeAtomically(path, text: text, durable: false)
        return path
    }

    private func isAssigned(_ stand: AmfStand) -> Bool {
        let both = stand.wait { () -> Bool? in
            let own = stand.components.filter { $0.name == "C" }
            return own.contains { $0.has(.active) } && own.contains { $0.has(.standby) } ? true : nil
        }
        return both == true
    }

    @Test("Wrong YAML is told by file, line and column; the middleware runs; mended, SIGHUP to the guard loads it")
    func yamlOnDisk() throws {
        let stand = try AmfStand(nil, real: ["saf"])
        defer { stand.end() }
        let wrong = "    redundancyModle: 2n\n"
        let path = try write(yaml.replacing("    redundancyModel: 2n\n", with: wrong), stand)
        try stand.start()
        let error = "\(path):4:5: service group 'SG': key 'redundancyModle' is unknown; did you mean redundancyModel?"
        #expect(stand.wait { stand.output.contains(error) ? true : nil } == true, "amfd said: \(stand.output)")
        let isUp = stand.wait { () -> Bool? in
            let components = stand.components
            return components.count == 5 && components.allSatisfy { $0.has(.active) } ? true : nil
        }
        #expect(isUp == true, "amfd said: \(stand.output)")
        #expect(stand.status?.problems.first?.contains(error) == true)
        let middleware = stand.components.map(\.pid)
        _ = try write(yaml, stand)
        try Process.kill(try #require(stand.holder("guard")), .hangup)
        #expect(isAssigned(stand), "amfd said: \(stand.output)")
        #expect(stand.status?.problems == [])
        #expect(stand.components.filter { $0.name != "C" }.map(\.pid) == middleware)
    }

    @Test("saf console amfd: status, components and semaphores, also of the next amfd")
    func console() throws {
        let stand = try AmfStand(nil, real: ["saf", "cliserver"])
        defer { stand.end() }
        _ = try write(yaml.replacing("[run]", with: "[permits]"), stand)
        try stand.start()
        #expect(isAssigned(stand), "amfd said: \(stand.output)")
        for _ in 0..<2 {
            let own = stand.components.filter { $0.name == "C" }
            let active = try #require(own.first { $0.has(.active) })
            let all = try answer(stand, "components") { $0.split(separator: "\n").count == 7 }
            #expect(all.contains("\(active.dn)  process \(active.pid)  instantiated  enabled  in-service  active for "))
            let one = try answer(stand, "components", "\(active.dn)") { !$0.isEmpty }
            #expect(one.split(separator: "\n").count == 1 && one.hasPrefix("\(active.dn)  process \(active.pid)"))
            #expect(try answer(stand, "components", "Ap") { $0.contains("nothing here is called 'Ap'") } != "")
            let amfd = try #require(stand.holder("amfd"))
            let guardian = try #require(stand.holder("guard"))
            let status = try answer(stand, "status") { $0.contains("7, of them 7 instantiated, 0 disabled") }
            #expect(status.hasPrefix("amfd \(amfd) of node n1, guarded by process \(guardian)\n"), "\(status)")
            let semaphores = try answer(stand, "semaphores") { $0.contains("shared  0 of 4 permits free") }
            for component in own {
                #expect(semaphores.contains("2 by process \(component.pid) (\(component.dn))"), "\(semaphores)")
            }
            try Process.kill(amfd, .kill)
            #expect(stand.wait { stand.holder("amfd").flatMap { $0 == amfd ? nil : true } } == true)
            #expect(isAssigned(stand), "amfd said: \(stand.output)")
        }
    }

    /// What `saf console amfd WORDS` says, once it says what it should: amfd registers a moment after it has begun.
    private func answer(_ stand: AmfStand, _ words: String..., until isRight: (String) -> Bool) throws -> String {
        let path = stand.directory + "/answer"
        var last = ""
        let right = try stand.wait { () -> String? in
            try File.writeAtomically(path, text: "", durable: false)
            let output = try File.openForAppending(path)
            var options = SpawnOptions(path: stand.directory + "/bin/saf")
            options.arguments = ["saf", "console", "amfd"] + words
            options.environment = stand.environment
            options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
            let process = try Process.spawn(options)
            let deadline = MonotonicClock.now() + .seconds(30)
            if try !IO.waitUntil(process.rawPidfd, readable: true, deadline: deadline) {
                try Process.kill(process.pid, .kill)
                _ = try IO.waitUntil(process.rawPidfd, readable: true, deadline: deadline + .seconds(10))
            }
            _ = Process.reap(process.pid)
            last = try File.readText(path)
            return isRight(last) ? last : nil
        }
        return try #require(right, "\(words): \(last); amfd said: \(stand.output)")
    }
}
