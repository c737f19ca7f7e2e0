import OSAL
import SafLab
import Testing

/// The walk-through of deploy/README.md, in three namespaces.
@Suite("A cluster made by its commands", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct ClusterCommandTests {
    private func saf(_ arguments: [String], _ lab: ClusterLab, on node: Int) throws -> ProgramResult {
        try lab.run(["saf"] + arguments, on: node, timeout: .seconds(60))
    }

    @Test("init, invite and join give three machines one quorate cluster in which the doctor finds nothing wrong")
    func walkThrough() throws {
        var options = LabOptions()
        options.name = "test-made"
        let lab = try ClusterLab.up(options)
        for node in options.allNodes {
            try lab.endCorosync(on: node)
            // Only the namespaces of the lab are used, nothing that it configured.
            try File.removeTree(lab.places(of: node).configDirectory)
            try File.removeTree(lab.folder(of: node) + "/corosync/corosync.conf")
        }
        let configuration = lab.folder(of: 1) + "/corosync/corosync.conf"
        let nodes = options.allNodes.flatMap { node -> [String] in
            let addresses = options.allPlanes.map { LabOptions.address(of: node, plane: $0) }
            return ["--node", "\(LabOptions.nodeName(node))=\(addresses.joined(separator: ","))"]
        }
        let made = try saf(
            ["cluster", "init", "shop", "--token", "1000", "--corosync-conf", configuration] + nodes, lab, on: 1)
        #expect(made.isSuccess, "\(made.complaints)")
        let again = try saf(["cluster", "init", "shop"] + nodes, lab, on: 1)
        #expect(again.complaints.contains("is there already"), "keys are not replaced by mistake")
        for node in 2...3 {
            let name = LabOptions.nodeName(node)
            let file = "\(lab.folder)/\(name).safjoin"
            let invited = try saf(["cluster", "invite", name, file], lab, on: 1)
            #expect(invited.isSuccess && invited.output.contains(" --corosync-conf /etc/corosync/corosync.conf\n"))
            #expect(try File.stat(file).mode & 0o777 == 0o600)
            let wrong = try saf(["cluster", "join", file], lab, on: 5 - node)
            #expect(wrong.complaints.contains("the invitation is for '\(name)'"), "\(wrong)")
            let own = lab.folder(of: node) + "/corosync/corosync.conf"
            let joined = try saf(["cluster", "join", file, "--corosync-conf", own], lab, on: node)
            #expect(joined.isSuccess, "\(joined.complaints)")
        }
        for node in options.allNodes { try lab.startCorosync(on: node) }
        try lab.awaitFormed(timeout: .seconds(60))
        for node in options.allNodes {
            let own = lab.folder(of: node) + "/corosync/corosync.conf"
            let check = try saf(["cluster", "config", "--check", own], lab, on: node)
            #expect(check.isSuccess, "\(check)")
            let doctor = try saf(["doctor"], lab, on: node)
            #expect(doctor.isSuccess, "\(doctor.output)")
            #expect(doctor.output.contains("quorate, nodes 1, 2, 3"), "\(doctor.output)")
        }
        try lab.endCorosync(on: 1)
        let sick = try saf(["doctor"], lab, on: 1)
        #expect(sick.status == .exited(code: 1))
        #expect(sick.output.contains("not running"), "\(sick.output)")
        try lab.down()
    }

    @Test(
        "amfd of a node of the lab knows its cluster by cluster.yaml, and tells its daemons", arguments: [false, true])
    func member(isEncrypted: Bool) throws {
        var options = LabOptions()
        (options.nodes, options.name, options.areLinksEncrypted) = (2, "test-member", isEncrypted)
        let lab = try ClusterLab.up(options)
        try lab.awaitFormed(timeout: .seconds(60))
        let places = lab.places(of: 2)
        let file = places.runDirectory + "/cluster"
        try File.removeTree(file)
        try lab.startNode(2)
        _ = try lab.wait(for: "the description of node 2", timeout: .seconds(60)) { File.exists(file) ? true : nil }
        #expect(try File.readAll(file) == lab.description(of: 2).encoded)
        _ = try lab.wait(for: "amfd on node 2", timeout: .seconds(60)) {
            try lab.run(["saf", "status", "--json"], on: 2, timeout: .seconds(30)).isSuccess ? true : nil
        }
        try lab.stopNode(2, timeout: .seconds(60))
        try lab.down()
    }
}
