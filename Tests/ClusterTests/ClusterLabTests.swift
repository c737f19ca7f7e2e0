import EngineKit
import OSAL
import SafLab
import Testing

/// What this machine lacks for a lab.
enum Machinery {
    static let obstacle = ClusterLab.obstacle()
    static var reason: Comment { Comment(rawValue: obstacle ?? "nothing is missing") }
}

/// Real namespaces and a real corosync. Skipped, with the reason, where they cannot be had.
@Suite("Cluster lab", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct ClusterLabTests {
    /// What a lab may leave nothing in.
    private struct Machine: Equatable {
        var namespaces: Set<String> = []
        var folders: [String] = []
        var groups: [String] = []
        var links: [String] = []

        init() throws {
            let kinds = ["net", "mnt", "pid", "uts", "ipc"]
            for pid in try Self.labProcesses() {
                for kind in kinds {
                    // A process that ends between the two calls has no namespaces left to count.
                    if let link = try? File.readLink("/proc/\(pid)/ns/\(kind)") { namespaces.insert(link) }
                }
            }
            folders = try File.list("/tmp").filter { $0.hasPrefix("saflab-test") }
            for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] where File.exists(root) {
                groups += try File.list(root).filter { $0.hasPrefix("saflab-test") }
            }
            links = try File.list("/sys/class/net")
        }

        /// Every process of the labs of these tests; zombies are not among them.
        static func labProcesses() throws -> [Int32] {
            try File.list("/proc").compactMap { Int32($0) }.filter { pid in
                guard let environment = try? File.readAll("/proc/\(pid)/environ") else { return false }
                return String(decoding: environment, as: UTF8.self).contains("SAF_LAB=/tmp/saflab-test")
            }
        }
    }

    private func options(_ nodes: Int, _ name: String) -> LabOptions {
        var options = LabOptions()
        (options.nodes, options.name) = (nodes, name)
        return options
    }

    @Test("Three nodes form, lose and find each other through every fault, and leave nothing behind")
    func life() throws {
        let before = try Machine()
        let lab = try ClusterLab.up(options(3, "test-life"))
        try lab.awaitFormed()
        try programs(lab)
        try planes(lab)
        try partitions(lab)
        try loss(lab)
        try standstill(lab)
        try power(lab)
        let all = try Machine.labProcesses()
        #expect(all.count >= 7, "a switch, and init and corosync of each node")
        try lab.down()
        for pid in all { #expect(Process.information(of: pid) == nil, "not even a zombie") }
        #expect(try Machine() == before)
    }

    private func programs(_ lab: ClusterLab) throws {
        let result = try lab.run(["sh", "-c", "hostname; echo $SAF_NODE_NAME; echo >&2 no; exit 3"], on: 2)
        #expect(result.output == "node2\nnode2\n")
        #expect(result.complaints == "no\n")
        #expect(result.status == .exited(code: 3))
        _ = try lab.run(["sh", "-c", "echo x > /dev/shm/mine; echo y > $SAF_STATE_DIR/mine"], on: 1)
        #expect(try !lab.run(["cat", "/dev/shm/mine"], on: 2).isSuccess, "shared memory is each node's own")
        #expect(throws: LabError.self) { try lab.run(["sleep", "9"], on: 1, timeout: .milliseconds(50)) }
        #expect(lab.processes(of: 1).map(\.name) == ["corosync"], "what takes too long is ended")
    }

    /// The memberships of all nodes, to see that nothing changed them.
    private func rings(_ lab: ClusterLab) -> [String?] { lab.upNodes.map { lab.quorum(of: $0)?.ringID } }

    private func planes(_ lab: ClusterLab) throws {
        let before = rings(lab)
        #expect(!before.contains(nil))
        for plane in 0...1 {
            try lab.cut(plane: plane)
            #expect(try link(lab, 1, to: 2, plane: plane, isUp: false))
            #expect(rings(lab) == before, "one plane is enough")
            try lab.restore(plane: plane)
            // Some of the links come back 0.5 s after others. The other plane is theirs alone until then.
            for (node, other) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
                #expect(try link(lab, node, to: other, plane: plane, isUp: true))
            }
        }
        #expect(rings(lab) == before)
    }

    @Test("A dead node is excluded after twice the configured token, however many nodes there are, and not before")
    func exclusion() throws {
        var options = options(4, "test-exclusion")
        options.token = 1_000
        let lab = try ClusterLab.up(options)
        try lab.awaitFormed()
        var best = Duration.seconds(3_600)
        // A lost race for the consensus costs another round; seldom.
        for _ in 0..<3 where best > .milliseconds(2_800) {
            let start = MonotonicClock.now()
            try lab.kill(4)
            try lab.awaitMembers([1, 2, 3])
            let took = MonotonicClock.now() - start
            #expect(took > .milliseconds(1_900), "the lease of a silent node ends before it is excluded")
            best = min(best, took)
            try lab.boot([4])
            try lab.awaitFormed()
        }
        #expect(best < .milliseconds(2_800), "corosync adds nothing to the token for a fourth node")
        try lab.down()
    }

    /// Waits until corosync of a node says that of a link to another.
    private func link(_ lab: ClusterLab, _ node: Int, to other: Int, plane: Int, isUp: Bool) throws -> Bool {
        try lab.wait(for: "link \(plane) of node \(node) to \(other) \(isUp)", timeout: .seconds(10)) {
            let text = try lab.run(["corosync-cfgtool", "-s"], on: node).output
            let links = text.split(separator: "LINK ID ").dropFirst()
            let lines = links.first { $0.hasPrefix("\(plane) ") }?.split(separator: "\n") ?? []
            let line = lines.first { $0.contains(" \(other):\t") }
            return line?.contains("disconnected") == !isUp ? true : nil
        }
    }

    private func partitions(_ lab: ClusterLab) throws {
        try lab.partition([[1], [2, 3]])
        try lab.awaitMembers([2, 3])
        try lab.awaitMembers([1], isQuorate: false)
        try lab.heal()
        try lab.awaitFormed()
        try lab.isolate(3)
        try lab.awaitMembers([1, 2])
        #expect(lab.faults.isolated == [3])
        try lab.heal()
        try lab.awaitFormed()
    }

    private func loss(_ lab: ClusterLab) throws {
        try lab.lose(permille: 1000, on: 2)
        try lab.awaitMembers([1, 3])
        try lab.lose(permille: 50, on: 2)
        try lab.awaitFormed()
        try lab.heal()
    }

    private func standstill(_ lab: ClusterLab) throws {
        try lab.freeze(3)
        #expect(lab.isFrozen(3))
        try lab.awaitMembers([1, 2])
        try lab.thaw(3)
        try lab.awaitFormed()
        #expect(try lab.signal(.stop, "corosync", on: 2) == 1)
        try lab.awaitMembers([1, 3])
        #expect(lab.corosync(of: 2)?.isStopped == true)
        try lab.signal(.continue, "corosync", on: 2)
        try lab.awaitFormed()
    }

    private func power(_ lab: ClusterLab) throws {
        try lab.freeze(1)  // the dead need not be thawed to die
        try lab.kill(1)
        #expect(!lab.isUp(1))
        #expect(lab.processes(of: 1).isEmpty)
        try lab.awaitMembers([2, 3])
        #expect(throws: LabError("node 1 is down")) { try lab.run(["true"], on: 1) }
        #expect(throws: LabError("node 4: this lab has the nodes 1 to 3")) { try lab.kill(4) }
        try lab.boot([1])
        try lab.awaitFormed()
        #expect(try lab.run(["cat", "/dev/shm/mine"], on: 1).isSuccess == false, "memory is lost with the power")
        let state = lab.places(of: 1).stateDirectory
        #expect(try lab.run(["cat", state + "/mine"], on: 1).output == "y\n", "the disk is not")
        try lab.endCorosync(on: 2)
        try lab.awaitMembers([1, 3])
        try lab.startCorosync(on: 2)
        try lab.awaitFormed()
    }

    /// The shortest of ten round trips: a connection that is refused takes one.
    private func roundTrip(_ lab: ClusterLab, _ node: Int, to other: Int) throws -> Duration {
        let script = """
            for i in 1 2 3 4 5 6 7 8 9 10; do a=${EPOCHREALTIME/./}; : 2>/dev/null </dev/tcp/$1/9; \
            echo $((${EPOCHREALTIME/./} - a)); done
            """
        let address = LabOptions.address(of: other, plane: 0)
        let result = try lab.run(["bash", "-c", script, "bash", address], on: node, timeout: .seconds(60))
        let times = result.output.split(separator: "\n").compactMap { Int($0) }
        return .microseconds(try #require(times.min(), "\(result)"))
    }

    @Test("A node that is farther away answers later by what was asked, and nothing else changes")
    func longCable() throws {
        let before = try Machine()
        let lab = try ClusterLab.up(options(3, "test-cable"))
        try lab.awaitFormed()
        let rings = rings(lab)
        let near = try roundTrip(lab, 1, to: 2)
        try lab.delay(.init(milliseconds: 50), on: 2)
        let far = try roundTrip(lab, 1, to: 2)
        #expect(far - near > .milliseconds(49) && far - near < .milliseconds(75), "\(near), \(far)")
        #expect(try roundTrip(lab, 1, to: 3) < .milliseconds(25), "the others are as near as ever")
        #expect(self.rings(lab) == rings, "50 ms are no reason to part")
        let carried = try #require(lab.carried(on: 2, plane: 0))
        #expect(carried.frames > 20 && carried.lost == 0, "\(carried)")
        try lab.kill(2)
        try lab.awaitMembers([1, 3])
        try lab.boot([2])
        try lab.awaitFormed()
        #expect(try roundTrip(lab, 3, to: 2) > .milliseconds(49), "it is where it was before it lost its power")
        try lab.delay(.init(milliseconds: 10, jitter: 10), on: 2, plane: 0)
        #expect(try roundTrip(lab, 1, to: 2) > .milliseconds(9))
        try lab.heal()
        #expect(try roundTrip(lab, 1, to: 2) < .milliseconds(9))
        try lab.awaitFormed()
        try lab.delay(.init(milliseconds: 50), on: 1)
        try lab.down()
        #expect(try Machine() == before)
    }

    @Test("A lab whose owner has died is removed by the next one")
    func abandoned() throws {
        let before = try Machine()
        let lab = try ClusterLab.up(options(1, "test-left"))
        let pid = try #require(lab.corosync(of: 1)?.pid)
        // A process that is certainly over stands in for the owner.
        try File.writeAtomically(lab.folder + "/owner", text: "\(Environment.processID) 1\n", durable: false)
        #expect(try ClusterLab.removeAbandoned().contains(lab.folder))
        #expect(Process.information(of: pid) == nil)
        #expect(try Machine() == before)
    }

    @Test("A lab object that goes takes its lab with it")
    func forgotten() throws {
        let before = try Machine()
        do { _ = try ClusterLab.up(options(1, "test-gone")) }
        #expect(try Machine() == before)
    }
}
