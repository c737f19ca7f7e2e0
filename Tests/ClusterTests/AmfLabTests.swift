import AmfClient
import AmfProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import SafLab
import Testing

/// Three nodes with the real amfd over a real corosync, and a component in 2N whose every act an observer outside sees.
@Suite("amfd in a cluster lab", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct AmfLabTests {
    @Test("One node acts at a time, through the death, the separation and the freezing of nodes and daemons")
    func oneActs() throws {
        let stand = try ClusterStand(nodes: 3)
        defer { stand.end() }
        for node in 1...3 { try stand.start(node) }
        var active = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()

        for node in 1...3 {
            try stand.killAmfd(on: node)
            try stand.awaitWhole()
        }
        let undisturbed = try stand.awaitActor(besides: nil)
        #expect(undisturbed == active, "the same process goes on: \(stand.logs)")
        guard undisturbed == active else { return }
        try stand.judge("amfd restarted on each node", expectingMove: false)

        try stand.lab.kill(active.node)
        let next = try stand.awaitActor(besides: active.node)
        for node in 1...3 where node != active.node {
            #expect(!stand.log(of: node).contains("does not hear a majority"), "node \(node) hears the other survivor")
        }
        try stand.lab.boot([active.node])
        try stand.start(active.node)
        try stand.awaitWhole()
        try stand.judge("node killed", expectingMove: true)
        active = next

        let others = (1...3).filter { $0 != active.node }
        try stand.lab.partition([[active.node], others])
        let third = try stand.awaitActor(besides: active.node)
        try stand.lab.heal()
        try stand.awaitWhole()
        try stand.judge("active node cut off", expectingMove: true)
        active = third

        try stand.lab.endCorosync(on: active.node, .kill)
        let fourth = try stand.awaitActor(besides: active.node)
        try stand.lab.startCorosync(on: active.node)
        try stand.awaitWhole()
        try stand.judge("corosync killed on the active node", expectingMove: true)
        active = fourth

        try stand.lab.freeze(active.node)
        _ = try stand.awaitActor(besides: active.node)
        try stand.lab.thaw(active.node)
        try stand.awaitWhole()
        try stand.judge("active node frozen and thawed", expectingMove: true)
    }
}

/// A lab with stand-ins for everything but amfd and corosync.
final class ClusterStand {
    let lab: ClusterLab
    private let folder: String
    private let count: Int
    private var read = 0
    private var acts: [Act] = []
    private var judged = 0

    struct Actor: Hashable {
        var node: Int
        /// Of one process: when it began.
        var life: UInt64
    }
    private struct Act {
        var actor: Actor
        var at: UInt64
    }

    init(nodes count: Int) throws {
        self.count = count
        folder = try File.makeTemporaryDirectory("/tmp/saf-stand-")
        let binaries = File.parent(of: try #require(Environment.executablePath))
        let program = try File.readAll(binaries + "/testcomponent")
        try File.makeDirectories(folder + "/bin")
        for name in ["saf", "testcomponent"] + MiddlewareModel.services.map(\.program) {
            try File.writeAtomically("\(folder)/bin/\(name)", program, durable: false, mode: 0o755)
        }
        try File.writeAtomically(
            folder + "/bin/amfd", try File.readAll(binaries + "/amfd"), durable: false, mode: 0o755)
        try File.writeAtomically(folder + "/acts", [], durable: false, mode: 0o644)
        var options = LabOptions()
        (options.nodes, options.name) = (count, "test-amf")
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

    private var model: AmfModel {
        var model = AmfModel()
        model.startupTimeout = .seconds(5)
        model.nodes = (1...count).map { NodeModel(name: LabOptions.nodeName($0), id: NodeID(UInt32($0))) }
        var group = ServiceGroupModel(name: "G", .twoN)
        group.preferredInServiceSUs = UInt32(count)
        group.serviceUnits = (1...count).map { number in
            var unit = ServiceUnitModel(name: "SU\(number)", node: LabOptions.nodeName(number), rank: UInt32(number))
            var component = ComponentModel(name: "C", command: "testcomponent")
            component.arguments = ["act", folder + "/acts"]
            component.csiTypes = [SupportedCSIType("act")]
            unit.components = [component]
            return unit
        }
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
            guard words.count == 3 else { continue }
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

    static func pause(_ time: Duration) { OSThread.sleep(time) }

    /// Since the last time, nobody acted between two acts of another.
    func judge(_ what: String, expectingMove: Bool) throws {
        try observe()
        var first: [Actor: Int] = [:]
        var last: [Actor: Int] = [:]
        var order: [Actor] = []
        for (index, act) in acts.enumerated() {
            if first[act.actor] == nil {
                first[act.actor] = index
                order.append(act.actor)
            }
            last[act.actor] = index
        }
        for (actor, next) in zip(order, order.dropFirst()) {
            let overlap = (last[actor] ?? 0) - (first[next] ?? 0)
            #expect(overlap < 0, "\(what): \(actor) and \(next) acted at once")
        }
        var gap: UInt64 = 0
        for (before, after) in zip(acts[judged...], acts[judged...].dropFirst()) where after.at > before.at {
            gap = max(gap, after.at - before.at)
        }
        print("\(what): nobody acted for \(gap / 1_000_000) ms at most")
        judged = acts.count
    }

    // MARK: The cluster

    /// amfd and its guard, with their log in a file of the node.
    func start(_ node: Int) throws {
        let output = try File.openForAppending(lab.folder(of: node) + "/log/amfd.out")
        _ = try lab.spawn(
            ["amfd", "--guard"], on: node,
            descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)],
            environment: ["SAF_LOG_STDERR=1"])
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

    /// Every node is a member that is heard of and holds its lease, and the instance is assigned twice, as every node
    /// sees it.
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
                    let isHeld = report.nodes.contains { $0.lease == .held }
                    if members.count != count || !isHeld || application?.assignmentState != .fullyAssigned {
                        seen += "node \(node): members \(members), \(states)\n"
                    }
                }
                return seen.isEmpty ? true : nil
            }
        } catch {
            throw LabError("\(error)\n\(seen)\n\(logs)")
        }
    }
}
