import IOCCluster
import OSAL
import SafLab
import Testing

/// Nodes come and go while the cluster runs, as "Changing it" of deploy/README.md says; an observer sees who works.
@Suite("A cluster that grows and shrinks", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct ClusterGrowthTests {
    private let steps = ClusterChangeTests()

    @Test("A node is added and another taken out, and nothing that runs is disturbed")
    func growsAndShrinks() throws {
        let folder = try File.makeTemporaryDirectory("/tmp/saf-growth-")
        defer { _ = try? File.removeTree(folder) }
        let acts = folder + "/acts"
        try File.writeAtomically(acts, [], durable: false, mode: 0o644)
        let lab = try ClusterChangeTests.made("test-growth") { _ in model(acts) }
        let before = [1, 3].map { daemons(lab, $0) }
        let first = try awaitWork(lab, acts, besides: nil)
        #expect(first == 1)

        try refuses(lab)
        #expect([1, 3].map { daemons(lab, $0) } == before, "what is refused changes nothing")
        try add(lab)
        #expect([1, 3].map { daemons(lab, $0) } == before, "no process was started anew")
        #expect(try awaitWork(lab, acts, besides: nil) == 1, "the work stays where it was")

        try remove(lab)
        #expect(zip([1, 3], before).allSatisfy { daemons(lab, $0).isSuperset(of: $1) }, "no process was started anew")
        #expect(daemons(lab, 3).contains { $0.hasPrefix("testcomponent") }, "what was on node 2 is on node 3")
        #expect(try awaitWork(lab, acts, besides: nil) == 1)
        let gap = try judge(acts)
        print("nodes came and went: nobody worked for \(gap / 1_000_000) ms at most")
        #expect(gap < 3_000_000_000, "no longer than a switch-over")

        // A majority is counted of three: one may die, and the standby is on a node that was there before or has come.
        try lab.kill(1)
        #expect(try [3, 4].contains(awaitWork(lab, acts, besides: 1)))
        try lab.down()
    }

    @Test("A kill of every daemon in the middle leaves the old cluster or the new one, whole")
    func killedInTheMiddle() throws {
        let folder = try File.makeTemporaryDirectory("/tmp/saf-growth-")
        defer { _ = try? File.removeTree(folder) }
        let acts = folder + "/acts"
        try File.writeAtomically(acts, [], durable: false, mode: 0o644)
        let lab = try ClusterChangeTests.made("test-growth-killed") { _ in model(acts) }
        let worker = daemons(lab, 1).filter { $0.hasPrefix("testcomponent") }
        try prepare(lab)

        // While it reads: the cluster stays as it is.
        try lab.reloadNode(1)
        _ = try lab.wait(for: "the compiler", timeout: .seconds(60), every: .milliseconds(1)) {
            lab.processes(of: 1).contains { $0.name == "saf" } ? true : nil
        }
        try kill(lab, [1], ["amfd"])
        for node in 1...3 {
            try steps.awaitGood(lab, on: node)
            #expect(try [[1, 2, 3], [1, 2, 3, 4]].contains(nodes(lab, node)))
        }

        // When the first node knows of it: every daemon of every node is killed at one moment.
        try lab.reloadNode(1)
        _ = try lab.wait(for: "the fourth node", timeout: .seconds(60), every: .milliseconds(1)) {
            try (1...3).contains { try nodes(lab, $0) == [1, 2, 3, 4] } ? true : nil
        }
        try kill(lab, [1, 2, 3, 4], ["amfd", "clmd", "logd", "ckptd", "eventd", "cliserver"])
        for node in 1...4 {
            try steps.awaitGood(lab, on: node)
            #expect(try nodes(lab, node) == [1, 2, 3, 4])
        }
        #expect(daemons(lab, 1).isSuperset(of: worker), "the application is not disturbed")
        #expect(try awaitWork(lab, acts, besides: nil) == 1)
        _ = try judge(acts)
        try lab.down()
    }

    /// The nodes that the daemons of a node are told of.
    private func nodes(_ lab: ClusterLab, _ node: Int) throws -> [UInt32] {
        try ClusterDescription.load(lab.places(of: node)).nodes.map(\.id.rawValue)
    }

    private func kill(_ lab: ClusterLab, _ nodes: [Int], _ names: [String]) throws {
        for process in nodes.flatMap({ lab.processes(of: $0) }) where names.contains(process.name) {
            // One that has ended meanwhile is as good as killed.
            guard let line = try? File.readAll("/proc/\(process.pid)/cmdline"),
                !line.split(separator: 0).contains(where: { $0.elementsEqual("--guard".utf8) })
            else { continue }
            _ = try? Process.kill(process.pid, .kill)
        }
    }

    /// Its second service unit is on the second of the nodes, whoever that is.
    private func model(_ acts: String) -> String {
        """
        application: A
        serviceGroups:
          G:
            redundancyModel: 2n
            serviceUnits: 2
            components:
              C:
                command: testcomponent
                arguments: [act, \(acts)]
            serviceInstances:
              SI:
                csis:
                  act: { type: C }
        """
    }

    /// Every process of the middleware and of the application, by name and number.
    private func daemons(_ lab: ClusterLab, _ node: Int) -> Set<String> {
        let names = ["amfd", "clmd", "logd", "ckptd", "eventd", "cliserver", "testcomponent"]
        return Set(lab.processes(of: node).filter { names.contains($0.name) }.map { "\($0.name) \($0.pid)" })
    }

    // MARK: As the README says

    /// The file of node 1 brought to the others, and corosync's made of it.
    private func bring(_ lab: ClusterLab, to nodes: [Int]) throws {
        let text = try File.readText(lab.places(of: 1).configDirectory + "/cluster.yaml")
        for node in nodes {
            if node != 1 { try lab.write(cluster: text, on: node) }
            try steps.run(["saf", "config", "check"], lab, on: node)
            try steps.run(["saf", "cluster", "config", "--write", steps.configuration], lab, on: node)
        }
        try steps.run(["corosync-cfgtool", "-R"], lab, on: 1)
    }

    /// All but the last step of a new node.
    private func prepare(_ lab: ClusterLab) throws {
        try steps.run(["saf", "cluster", "add", "node4=10.77.0.4,10.77.1.4"], lab, on: 1)
        try bring(lab, to: [1, 2, 3])
        try steps.invite(lab, 4)
        try lab.startCorosync(on: 4)
        try lab.awaitMembers([1, 2, 3, 4], timeout: .seconds(60))
        try lab.write(model: try File.readText(lab.places(of: 1).configDirectory + "/model/model.yaml"), on: 4)
        try lab.startNode(4)
        try awaitTrouble(lab, 4, "node node4 is not in the cluster's model and runs nothing")
    }

    private func add(_ lab: ClusterLab) throws {
        try prepare(lab)
        try lab.reloadNode(3)
        for node in 1...4 { try steps.awaitGood(lab, on: node) }
        let status = try lab.run(["saf", "status"], on: 1, timeout: .seconds(30)).output
        #expect(status.split(separator: "\n").contains { $0.hasPrefix("ckptd") && $0.contains("node4") }, "\(status)")
        let doctor = try lab.run(["saf", "doctor"], on: 1, timeout: .seconds(30)).output
        for node in 1...4 {
            let line = doctor.split(separator: "\n").first { $0.contains("version on node\(node)") }
            #expect(line?.hasPrefix("good") == true, "\(doctor)")
        }
    }

    private func remove(_ lab: ClusterLab) throws {
        try refusesToRemove(lab, "saf admin lock node2")
        try steps.run(["saf", "admin", "lock", "node2"], lab, on: 1)
        try refusesToRemove(lab, "systemctl disable --now swiftsaf corosync")
        try lab.stopNode(2, timeout: .seconds(60))
        try lab.endCorosync(on: 2)
        try lab.awaitMembers([1, 3, 4], timeout: .seconds(60))
        try steps.run(["saf", "cluster", "remove", "node2"], lab, on: 1)
        try bring(lab, to: [1, 3, 4])
        try lab.reloadNode(4)
        for node in [1, 3, 4] {
            try steps.awaitGood(lab, on: node)
            let status = try lab.run(["saf", "status"], on: node, timeout: .seconds(30)).output
            #expect(!status.contains("node2"), "\(status)")
        }
    }

    // MARK: What is refused

    private func refusesToRemove(_ lab: ClusterLab, _ advice: String) throws {
        let path = lab.places(of: 1).configDirectory + "/cluster.yaml"
        let text = try File.readText(path)
        let result = try lab.run(["saf", "cluster", "remove", "node2"], on: 1, timeout: .seconds(30))
        #expect(result.status == .exited(code: 2) && result.complaints.contains(advice), "\(result.complaints)")
        #expect(try File.readText(path) == text)
    }

    /// A file with an error, and one that lacks a node that works.
    private func refuses(_ lab: ClusterLab) throws {
        let path = lab.places(of: 1).configDirectory + "/cluster.yaml"
        let text = try File.readText(path)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        let wrong = lines.map {
            $0.hasPrefix("  node3:") ? "  node3: { id: 1, addresses: [10.77.0.3, 10.77.1.3] }" : $0
        }
        try lab.write(cluster: wrong.joined(separator: "\n"), on: 1)
        let added = try lab.run(["saf", "cluster", "add", "node4=10.77.0.4,10.77.1.4"], on: 1, timeout: .seconds(30))
        let line = (lines.firstIndex { $0.hasPrefix("  node3:") } ?? 0) + 1
        #expect(added.status == .exited(code: 2) && added.complaints.contains("cluster.yaml:\(line):"))
        #expect(try File.readText(path) == wrong.joined(separator: "\n"))
        try lab.reloadNode(1)
        try awaitTrouble(lab, 1, "cluster.yaml:\(line):")

        try lab.write(cluster: lines.filter { !$0.hasPrefix("  node2:") }.joined(separator: "\n"), on: 1)
        try lab.reloadNode(1)
        try awaitTrouble(lab, 1, "this machine's cluster.yaml is older than the cluster")
        for node in 1...3 { #expect(try nodes(lab, node) == [1, 2, 3]) }

        try lab.write(cluster: text, on: 1)
        try lab.reloadNode(1)
        for node in 1...3 { try steps.awaitGood(lab, on: node) }
    }

    private func awaitTrouble(_ lab: ClusterLab, _ node: Int, _ text: String) throws {
        var last = ""
        do {
            _ = try lab.wait(for: text, timeout: .seconds(60), every: .milliseconds(100)) {
                last = try lab.run(["saf", "status", "--json"], on: node, timeout: .seconds(30)).output
                return last.contains(text) ? true : nil
            }
        } catch let error as LabError {
            throw LabError("\(error.description) on node \(node): \(last)")
        }
    }

    // MARK: The observer

    private struct Act {
        var node: Int
        var actor: [UInt64]
        var at: UInt64
    }

    private func read(_ path: String) throws -> [Act] {
        try File.readText(path, limit: 1 << 28).split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").compactMap { UInt64($0) }
            return words.count == 3 ? Act(node: Int(words[0]), actor: [words[0], words[1]], at: words[2]) : nil
        }
    }

    /// Where the work is done from now on.
    private func awaitWork(_ lab: ClusterLab, _ acts: String, besides node: Int?) throws -> Int {
        let start = MonotonicClock.now().nanoseconds
        return try lab.wait(for: "somebody works", timeout: .seconds(60), every: .milliseconds(100)) {
            try read(acts).last { $0.at >= start && $0.node != node }?.node
        }
    }

    /// Never two at once; the longest time without work, in nanoseconds.
    private func judge(_ path: String) throws -> UInt64 {
        let acts = try read(path)
        var order = ActingOrder<[UInt64]>()
        for act in acts { order.acted(act.actor) }
        #expect(order.overlaps.isEmpty, "two worked at once: \(order.overlaps)")
        return zip(acts, acts.dropFirst()).map { $1.at > $0.at ? $1.at - $0.at : 0 }.max() ?? 0
    }
}
