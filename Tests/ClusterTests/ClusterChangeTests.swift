import OSAL
import SafLab
import Testing

/// "Changing it" of deploy/README.md, in four namespaces: what the text says is done, as it says it.
@Suite("A cluster that is changed", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct ClusterChangeTests {
    let configuration = "/etc/corosync/corosync.conf"

    func run(_ arguments: [String], _ lab: ClusterLab, on node: Int) throws {
        let result = try lab.run(arguments, on: node, timeout: .seconds(60))
        if !result.isSuccess { throw LabError("\(arguments) on node \(node): \(result.complaints)\(result.output)") }
    }

    /// Until everything is in service, as the node sees it.
    func awaitGood(_ lab: ClusterLab, on node: Int) throws {
        var last = ""
        do {
            _ = try lab.wait(for: "all in service", timeout: .seconds(60), every: .milliseconds(100)) {
                let result = try lab.run(["saf", "status", "--check"], on: node, timeout: .seconds(30))
                last = result.output + result.complaints
                return result.isSuccess ? true : nil
            }
        } catch let error as LabError {
            throw LabError("\(error.description) on node \(node): \(last)")
        }
    }

    /// The text of node 1 changed, brought to all, and written for corosync.
    private func change(_ lab: ClusterLab, _ nodes: [Int], _ body: (inout [String]) -> Void) throws {
        let path = lab.places(of: 1).configDirectory + "/cluster.yaml"
        var lines = try File.readText(path).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        body(&lines)
        for node in nodes {
            try lab.write(cluster: lines.joined(separator: "\n"), on: node)
            try run(["saf", "config", "check"], lab, on: node)
            try run(["saf", "cluster", "config", "--write", configuration], lab, on: node)
        }
    }

    private func restart(_ lab: ClusterLab, _ nodes: [Int], corosyncToo: Bool = false) throws {
        for node in nodes {
            try lab.stopNode(node, timeout: .seconds(60))
            if corosyncToo {
                try lab.endCorosync(on: node)
                try lab.startCorosync(on: node)
                try lab.awaitMembers([1, 2, 3], timeout: .seconds(60))
            }
            try lab.startNode(node)
            try awaitGood(lab, on: node)
        }
    }

    /// A lab of four machines, of which three are a cluster that runs.
    static func made(_ name: String, model: (ClusterLab) -> String? = { _ in nil }) throws -> ClusterLab {
        try ClusterChangeTests().made(name, model)
    }

    private func made(_ name: String, _ model: (ClusterLab) -> String?) throws -> ClusterLab {
        var options = LabOptions()
        (options.nodes, options.name) = (4, name)
        let lab = try ClusterLab.up(options)
        for node in options.allNodes {
            try lab.endCorosync(on: node)
            try File.removeTree(lab.places(of: node).configDirectory)
            try File.removeTree(lab.folder(of: node) + "/corosync/corosync.conf")
        }
        let nodes = (1...3).flatMap { node -> [String] in
            let addresses = options.allPlanes.map { LabOptions.address(of: node, plane: $0) }
            return ["--node", "\(LabOptions.nodeName(node))=\(addresses.joined(separator: ","))"]
        }
        let command = ["saf", "cluster", "init", "shop", "--token", "1000", "--corosync-conf", configuration]
        try run(command + nodes, lab, on: 1)
        for node in 2...3 { try invite(lab, node) }
        for node in 1...3 { try lab.startCorosync(on: node) }
        try lab.awaitMembers([1, 2, 3], timeout: .seconds(60))
        for node in 1...3 {
            if let model = model(lab) { try lab.write(model: model, on: node) }
            try lab.startNode(node)
        }
        for node in 1...3 { try awaitGood(lab, on: node) }
        return lab
    }

    func invite(_ lab: ClusterLab, _ node: Int) throws {
        let name = LabOptions.nodeName(node)
        let file = "\(lab.folder)/\(name).safjoin"
        try run(["saf", "cluster", "invite", name, file], lab, on: 1)
        try run(["saf", "cluster", "join", file, "--corosync-conf", configuration], lab, on: node)
        _ = try File.remove(file)
    }

    @Test("An address is changed, certificates and the key are made anew")
    func changes() throws {
        let lab = try Self.made("test-changed")
        try renew(lab)
        try readdress(lab)
        try lab.down()
    }

    private func renew(_ lab: ClusterLab) throws {
        let certificate = lab.places(of: 2).configDirectory + "/certificates/node.pem"
        let old = try File.readAll(certificate)
        try invite(lab, 2)
        #expect(try File.readAll(certificate) != old)
        try restart(lab, [2])
        let key = lab.folder + "/authkey"
        try run(["corosync-keygen", "-k", key], lab, on: 1)
        for node in 1...3 {
            let own = lab.places(of: node).configDirectory + "/corosync/authkey"
            try File.writeAtomically(own, try File.readAll(key), durable: false, mode: 0o400)
        }
        try run(["corosync-cfgtool", "-R"], lab, on: 1)
        for node in 1...3 { try awaitGood(lab, on: node) }
        // Only who has the new key is heard.
        try restart(lab, [3], corosyncToo: true)
    }

    private func readdress(_ lab: ClusterLab) throws {
        try run(["ip", "addr", "del", "10.77.1.3/24", "dev", "eth1"], lab, on: 3)
        try run(["ip", "addr", "add", "10.77.1.33/24", "dev", "eth1"], lab, on: 3)
        try change(lab, [1, 2, 3]) { lines in
            for index in lines.indices where lines[index].hasPrefix("  node3:") {
                lines[index] = "  node3: { id: 3, addresses: [10.77.0.3, 10.77.1.33] }"
            }
        }
        for node in [3, 2, 1] {
            try lab.stopNode(node, timeout: .seconds(60))
            try lab.endCorosync(on: node)
            try lab.startCorosync(on: node)
            try lab.awaitMembers([1, 2, 3], timeout: .seconds(60))
            try lab.startNode(node)
            _ = try lab.wait(for: "amfd on node \(node)", timeout: .seconds(60)) {
                try lab.run(["saf", "status"], on: node, timeout: .seconds(30)).isSuccess ? true : nil
            }
        }
        for node in 1...3 { try awaitGood(lab, on: node) }
    }
}
