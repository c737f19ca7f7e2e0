import AmfClient
import AmfProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import SafLab
import Testing

/// A lab with stand-ins for everything but amfd and corosync.
final class ClusterStand {
    let lab: ClusterLab
    private let folder: String
    private let count: Int
    private var read = 0
    private var acts: [Act] = []
    private var judged = 0
    /// Lines that tell something else than an act.
    private(set) var remarks: [String] = []

    /// The cluster's name in the model.
    let clusterName: String

    /// How long it takes until a dead node is noticed: what a move in order need not wait for.
    var detection: Duration { .milliseconds(Int64(lab.options.token) * 22 / 10) }

    struct Actor: Hashable {
        var node: Int
        /// Of one process: when it began.
        var life: UInt64
    }
    private struct Act {
        var actor: Actor
        var at: UInt64
    }

    /// - Parameters:
    ///   - name: the lab's; another one in each suite.
    ///   - configure: what of the lab is not as usual.
    ///   - services: daemons that are no stand-ins.
    ///   - adjust: what of the model's only group is not as usual.
    init(
        _ name: String, nodes count: Int, configure: (inout LabOptions) -> Void = { _ in },
        services: [String] = [], adjust: (inout ServiceGroupModel) -> Void = { _ in }
    ) throws {
        self.count = count
        folder = try File.makeTemporaryDirectory("/tmp/saf-stand-")
        let binaries = File.parent(of: try #require(Environment.executablePath))
        let program = try File.readAll(binaries + "/testcomponent")
        try File.makeDirectories(folder + "/bin")
        for name in ["saf", "testcomponent"] + MiddlewareModel.services.map(\.program) {
            try File.writeAtomically("\(folder)/bin/\(name)", program, durable: false, mode: 0o755)
        }
        for name in ["amfd"] + services {
            try File.writeAtomically(
                "\(folder)/bin/\(name)", try File.readAll("\(binaries)/\(name)"), durable: false, mode: 0o755)
        }
        try File.writeAtomically(folder + "/acts", [], durable: false, mode: 0o644)
        var options = LabOptions()
        (options.nodes, options.name) = (count, name)
        configure(&options)
        let model = Self.model(nodes: count, acts: folder + "/acts", adjust)
        clusterName = model.cluster
        lab = try ClusterLab.up(options, binaries: folder + "/bin")
        for node in 1...count {
            try File.writeAtomically(
                lab.places(of: node).configDirectory + "/model.bin", model.encoded, durable: false)
        }
        try lab.awaitFormed()
    }

    func end() {
        try? lab.down()  // what is left is swept by the next lab
        _ = try? File.removeTree(folder)
    }

    private static func model(
        nodes count: Int, acts: String, _ adjust: (inout ServiceGroupModel) -> Void
    ) -> AmfModel {
        var model = AmfModel()
        model.startupTimeout = .seconds(5)
        model.nodes = (1...count).map { NodeModel(name: LabOptions.nodeName($0), id: NodeID(UInt32($0))) }
        var group = ServiceGroupModel(name: "G", .twoN)
        group.preferredInServiceSUs = UInt32(count)
        group.serviceUnits = (1...count).map { number in
            var unit = ServiceUnitModel(name: "SU\(number)", node: LabOptions.nodeName(number), rank: UInt32(number))
            var component = ComponentModel(name: "C", command: "testcomponent")
            component.arguments = ["act", acts]
            component.csiTypes = [SupportedCSIType("act")]
            unit.components = [component]
            return unit
        }
        adjust(&group)
        var instance = ServiceInstanceModel(name: "SI", serviceGroup: "G")
        instance.csis = [CSIModel(name: "act", type: "act")]
        var application = ApplicationModel(name: "A")
        application.serviceGroups = [group]
        application.serviceInstances = [instance]
        model.applications = [application]
        return model
    }

    // MARK: The observer

    private func observe() throws {
        let text = try File.readText(folder + "/acts", limit: 1 << 28).utf8.dropFirst(read)
        let lines = text.split(separator: 10, omittingEmptySubsequences: true)
        guard let end = text.lastIndex(of: 10) else { return }
        read += text.distance(from: text.startIndex, to: end) + 1
        for line in lines {
            let words = line.split(separator: 32).compactMap { UInt64(String(Substring($0))) }
            guard words.count == 3 else {
                remarks.append(String(Substring(line)))
                continue
            }
            acts.append(Act(actor: Actor(node: Int(words[0]), life: words[1]), at: words[2]))
        }
    }

    /// Who acts now, on another node than `node`.
    func awaitActor(besides node: Int?) throws -> Actor {
        try lab.wait(for: "somebody acts besides \(node.map { "node \($0)" } ?? "nobody")", timeout: .seconds(40)) {
            let start = MonotonicClock.now().nanoseconds
            ClusterStand.pause(.milliseconds(20))
            try observe()
            return acts.last { $0.at >= start && $0.actor.node != node }?.actor
        }
    }

    /// Between two looks at what actors write, so that each look sees lines that are newer than its beginning.
    static func pause(_ time: Duration) { OSThread.sleep(time) }

    /// Waits until a line says something else that `isWanted`.
    func awaitRemark(_ what: String, _ isWanted: (String) throws -> Bool) throws {
        _ = try lab.wait(for: what, timeout: .seconds(40)) {
            try observe()
            return try remarks.contains(where: isWanted) ? true : nil
        }
    }

    /// Since the last time, nobody acted after another had begun, however often the work moved.
    func judgeOrder(_ what: String) throws {
        try observe()
        var order = ActingOrder<Actor>()
        for act in acts[judged...] { order.acted(act.actor) }
        #expect(order.overlaps.isEmpty, "\(what): two acted at once: \(order.overlaps)")
    }

    /// As ``judgeOrder(_:)``; returns the longest time in which nobody acted.
    @discardableResult
    func judge(_ what: String, expectingMove: Bool) throws -> Duration {
        try judgeOrder(what)
        var gap: UInt64 = 0
        for (act, next) in zip(acts[judged...], acts[judged...].dropFirst()) where next.at > act.at {
            gap = max(gap, next.at - act.at)
        }
        #expect((Set(acts[judged...].map(\.actor)).count > 1) == expectingMove, "\(what): whether the work moved")
        print("\(what): nobody acted for \(gap / 1_000_000) ms at most")
        judged = max(0, acts.count - 1)  // who acted last goes on
        return .nanoseconds(Int64(gap))
    }

    /// Waits until nobody has acted for `time`.
    func awaitStandstill(_ time: Duration = .seconds(1)) throws {
        var count = -1
        var since = MonotonicClock.now()
        _ = try lab.wait(for: "nobody acts", timeout: .seconds(40)) {
            try observe()
            if acts.count != count { (count, since) = (acts.count, MonotonicClock.now()) }
            return MonotonicClock.now() - since >= time ? true : nil
        }
    }

    // MARK: The cluster

    /// amfd and its guard, with their log in a file of the node.
    func start(_ node: Int, environment: [String] = []) throws {
        let output = try File.openForAppending(lab.folder(of: node) + "/log/amfd.out")
        _ = try lab.spawn(
            ["amfd", "--guard"], on: node,
            descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)],
            environment: ["SAF_LOG_STDERR=1"] + environment)
    }

    /// What amfd and its guard said on each node.
    var logs: String {
        (1...count).map(log).joined(separator: "\n---\n")
    }

    func log(of node: Int) -> String { (try? File.readText(lab.folder(of: node) + "/log/amfd.out")) ?? "" }

    func killAmfd(on node: Int) throws {
        for process in lab.processes(of: node) where process.name == "amfd" {
            let line = try File.readAll("/proc/\(process.pid)/cmdline")
            if !String(decoding: line, as: UTF8.self).contains("--guard\0") { try Process.kill(process.pid, .kill) }
        }
    }

    /// The process of the component on a node; nil: none.
    func component(on node: Int) -> Int32? { lab.processes(of: node).first { $0.name == "testcomponent" }?.pid }

    /// Asks amfd of one node.
    func administer(_ operation: AdminOperation, _ entity: SaName, from node: Int) throws {
        let client = AdminClient(places: lab.places(of: node))
        defer { client.close() }
        try client.perform(operation, on: entity, timeout: .seconds(30))
    }

    func status(of node: Int) -> StatusReport? {
        let client = AdminClient(places: lab.places(of: node))
        defer { client.close() }
        return try? client.status(timeout: .seconds(2))
    }

    /// Every node is a member that is heard of, holds its lease and has no problem, and the instance is assigned twice,
    /// as every node sees it.
    func awaitWhole() throws {
        var seen = ""
        do {
            _ = try lab.wait(for: "the cluster is whole", timeout: .seconds(40), every: .milliseconds(100)) {
                seen = ""
                for node in 1...count {
                    let client = AdminClient(places: lab.places(of: node))
                    defer { client.close() }
                    let report: StatusReport
                    do throws(CallError) {
                        report = try client.status(timeout: .seconds(2))
                    } catch {
                        seen += "node \(node): \(error)\n"
                        continue
                    }
                    let members = report.nodes.filter { $0.isMember && $0.isHeard }.map(\.name)
                    let states = report.applications.flatMap(\.serviceInstances).map {
                        "\($0.name) \($0.assignmentState.word)"
                    }
                    let application = report.applications.last?.serviceInstances.first
                    let isHeld = report.nodes.contains { $0.lease == .held } && report.problems.isEmpty
                    if members.count != count || !isHeld || application?.assignmentState != .fullyAssigned {
                        let units = report.applications.last?.serviceGroups.flatMap(\.serviceUnits) ?? []
                        let unitTexts = units.map { unit in
                            "\(unit.name) \(unit.presenceState.word) \(unit.readinessState.word) "
                                + unit.components.map { "pid \($0.pid) \($0.lastError)" }.joined()
                        }
                        seen +=
                            "node \(node): members \(members), \(states.suffix(1)), \(unitTexts), "
                            + "\(report.problems)\n"
                    }
                }
                return seen.isEmpty ? true : nil
            }
        } catch {
            throw LabError("\(error)\n\(seen)\n\(logs)")
        }
    }
}
