import AmfClient
import AmfProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

/// A node of its own in a temporary directory: the real amfd and guard, stand-ins for the other daemons.
final class AmfStand {
    let directory: String
    let places: Places
    let admin: AdminClient
    private let binaries: String
    private var started: [Int32] = []
    /// What `start` adds to the environment.
    var additions: [String] = []

    /// - Parameters:
    ///   - model: the applications; nil: `saf config compile` gives `errors`.
    ///   - real: the programs that are no stand-ins.
    init(_ model: AmfModel?, errors: String = "", real: Set<String> = []) throws {
        directory = try File.makeTemporaryDirectory("/dev/shm/saf-amf-")
        try File.setMode(directory, 0o755)  // components may be other users
        places = Places(
            runDirectory: directory + "/run", shmDirectory: directory + "/shm", stateDirectory: directory + "/state",
            logDirectory: directory + "/log", configDirectory: directory + "/config", nodeName: "n1")
        binaries = File.parent(of: try #require(Environment.executablePath))
        admin = AdminClient(places: places)
        try File.makeDirectories(directory + "/bin")
        try File.makeDirectories(places.configDirectory)
        let program = try File.readAll(binaries + "/testcomponent")
        for name in ["saf", "testcomponent"] + MiddlewareModel.services.map(\.program) {
            let content = real.contains(name) ? try File.readAll("\(binaries)/\(name)") : program
            try File.writeAtomically("\(directory)/bin/\(name)", content, durable: false, mode: 0o755)
        }
        if let model {
            try serve(model)
        } else {
            try File.writeAtomically(places.configDirectory + "/errors.txt", text: errors, durable: false)
        }
    }

    /// From now on the stand-in of `saf config compile` gives this.
    func serve(_ model: AmfModel) throws {
        try File.writeAtomically(places.configDirectory + "/model.bin", model.encoded, durable: false)
    }

    var environment: [String] {
        let own = Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("SA_AMF_") }
        return own + places.environment + ["SAF_BIN_DIR=\(directory)/bin", "SAF_LOG_STDERR=1"] + additions
    }

    private var outputPath: String { directory + "/output" }
    /// What amfd and the guard said.
    var output: String { (try? File.readText(outputPath)) ?? "" }

    /// Starts `amfd ARGUMENTS`; returns its pid and a descriptor that is readable when it has ended.
    @discardableResult
    func start(_ arguments: [String] = ["--guard"]) throws -> (pid: Int32, pidfd: SharedDescriptor) {
        let output = try File.openForAppending(outputPath)
        var options = SpawnOptions(path: binaries + "/amfd")
        options.arguments = ["amfd"] + arguments
        options.environment = environment
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        let process = try Process.spawn(options)
        let pid = process.pid
        started.append(pid)
        return (pid, SharedDescriptor(process.takePidfd()))
    }

    /// Looks again and again until `condition` gives a value; nil when it takes too long.
    func wait<Value>(_ limit: Duration = .seconds(30), _ condition: () throws -> Value?) rethrows -> Value? {
        let deadline = MonotonicClock.now() + limit
        while MonotonicClock.now() < deadline {
            if let value = try condition() { return value }
            var word: UInt32 = 0
            _ = try? Futex.wait(&word, expected: 0, deadline: MonotonicClock.now() + .milliseconds(2))  // a pause
        }
        return nil
    }

    var status: StatusReport? { try? admin.status(timeout: .seconds(2)) }

    var components: [ComponentStatus] {
        (status?.applications ?? []).flatMap { $0.serviceGroups.flatMap { $0.serviceUnits.flatMap(\.components) } }
    }

    func component(_ name: String) -> ComponentStatus? { components.first { $0.name == name } }

    /// The status of a component once `condition` holds for it.
    func wait(for name: String, _ condition: (ComponentStatus) -> Bool) -> ComponentStatus? {
        wait { component(name).flatMap { condition($0) ? $0 : nil } }
    }

    func holder(_ role: String) -> Int32? {
        let text = try? File.readText("\(places.runDirectory)/amfd/\(role).lock")
        return text?.split(separator: " ").first.flatMap { Int32($0) }
    }

    /// Every living process that carries this node's mark in its environment.
    var processes: [Int32] {
        ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            guard let text = try? File.readText("/proc/\(pid)/environ", limit: 1 << 20) else { return false }
            return text.contains("SAF_RUN_DIR=" + places.runDirectory)
                && !(Process.information(of: pid)?.isExiting ?? true)
        }
    }

    /// Stops the node in order and looks that nothing is left; kills what is.
    func end() {
        if let pid = holder("guard"), processes.contains(pid) { _ = try? Process.kill(pid, .terminate) }
        let isClean = wait { processes.isEmpty ? true : nil } ?? false
        #expect(isClean, "left behind: \(processes); amfd said: \(output)")
        for pid in processes { _ = try? Process.kill(pid, .kill) }
        for pid in started { _ = Process.reap(pid) }
        admin.close()
        try? File.removeTree(directory)  // a left-over must not hide the test's own outcome
    }
}

/// Models for tests.
enum TestModel {
    /// One application, 2N, a component in each of two service units, one SI with one CSI.
    static func twoN(_ arguments: [String] = ["run"], change: (inout ComponentModel) -> Void = { _ in }) -> AmfModel {
        var group = ServiceGroupModel(name: "SG", .twoN)
        for number in 1...2 {
            var unit = ServiceUnitModel(name: "SU\(number)", node: "n1", rank: UInt32(number))
            var component = ComponentModel(name: "C\(number)", command: "testcomponent")
            component.arguments = arguments
            component.csiTypes = [SupportedCSIType("work")]
            component.timeouts = ComponentTimeouts(all: .seconds(10))
            change(&component)
            unit.components = [component]
            group.serviceUnits.append(unit)
        }
        var instance = ServiceInstanceModel(name: "SI", serviceGroup: "SG")
        instance.csis = [CSIModel(name: "CSI", type: "work")]
        var application = ApplicationModel(name: "App")
        application.serviceGroups = [group]
        application.serviceInstances = [instance]
        var model = AmfModel()
        model.nodes = [NodeModel(name: "n1", id: NodeID(1))]
        model.applications = [application]
        return model
    }
}

extension ComponentStatus {
    func has(_ state: HAState) -> Bool {
        presenceState == .instantiated && assignments.contains { $0.haState == state }
    }
}
