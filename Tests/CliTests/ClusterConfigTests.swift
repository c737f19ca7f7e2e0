import AmfProtocol
import IOCCluster
import SAFTypes
import SafCluster
import SafConfig
import Testing

private let three = """
    cluster: shop
    token: 300ms
    quorumLossGrace: 5s
    lease: 1.05
    linkSecurity: none
    portBase: 9000
    users: [web, 1000]
    groups: saf
    fencingTimeout: 20s
    quorum: { expectedVotes: 3, waitForAll: true }
    nodes:
      here: { id: 7, addresses: [10.0.0.7, 10.1.0.7], suFailoverMax: 3 }
      b:
        id: 2
        addresses:
          - { host: 10.0.0.2, device: eth0, source: 10.0.0.9, mark: 5 }
          - 10.1.0.2
        fencing: { agent: fence_ipmilan, parametersFile: /etc/fence-b }
      c: { id: 3, role: payload, addresses: [10.0.0.3, 'fd00::3'] }
    """

@Suite("Configuration of many nodes")
struct ClusterConfigTests {
    func errors(_ text: String) -> [String] {
        load("", cluster: text).errors.filter { $0.file == "cluster.yaml" }.map(\.description)
    }

    @Test("cluster.yaml says all that daemons and corosync must know")
    func complete() throws {
        let outcome = load(model(3), cluster: three)
        #expect(outcome.errors == [])
        let plan = try #require(outcome.cluster)
        let cluster = plan.description
        #expect(cluster.clusterName == "shop")
        #expect(cluster.groupEngine == .corosync)
        #expect(cluster.localNode == NodeID(7))
        #expect(cluster.nodes.map(\.id) == [NodeID(2), NodeID(3), NodeID(7)])
        #expect(cluster.nodes.map(\.role) == [.controller, .payload, .controller])
        #expect(cluster.nodes[0].addresses[0] == LinkAddress("10.0.0.2", device: "eth0", source: "10.0.0.9", mark: 5))
        #expect(cluster.nodes[1].addresses.map(\.host) == ["10.0.0.3", "fd00::3"])
        #expect(
            cluster.links
                == LinkSettings(security: .none, portBase: 9_000, certificateDirectory: "/etc/swiftsaf/certificates"))
        #expect(cluster.token == .milliseconds(300))
        #expect(cluster.quorumLossGrace == .seconds(5))
        #expect(cluster.leasePercent == 105)
        #expect(cluster.access == AccessRule(users: ["web", "1000"], groups: ["saf"]))
        #expect(cluster.fencing?.timeout == .seconds(20))
        #expect(
            cluster.fencing?.devices
                == [FencingDevice(node: NodeID(2), agent: "fence_ipmilan", parametersFile: "/etc/fence-b")])
        #expect(plan.corosync.quorum.expectedVotes == 3)
        #expect(plan.corosync.quorum.waitForAll == true)
        #expect(plan.corosync.keyFile == "/etc/swiftsaf/corosync/authkey")
        #expect(outcome.model.nodes.map(\.name) == ["here", "b", "c"])
        #expect(outcome.model.nodes[0].suFailoverMax == 3)
    }

    private func model(_ units: Int) -> String {
        "application: hello\nserviceGroups: { g: { serviceUnits: \(units), components: { c: { command: counter } }, "
            + "serviceInstances: [i] } }"
    }

    @Test("Service units are placed over the nodes in turn, unless they name one")
    func placement() throws {
        let outcome = load(model(4), cluster: three)
        #expect(outcome.errors == [])
        let units = try #require(outcome.model.applications.first?.serviceGroups.first?.serviceUnits)
        #expect(units.map(\.node) == ["here", "b", "c", "here"])
        let named = model(4).replacing("serviceUnits: 4", with: "serviceUnits: { A: { node: c }, B: , C: }")
        let second = load(named, cluster: three)
        #expect(second.errors == [])
        #expect(second.model.applications[0].serviceGroups[0].serviceUnits.map(\.node) == ["c", "b", "c"])
        let unknown = load(named.replacing("node: c", with: "node: d"), cluster: three)
        #expect(unknown.errors.count == 1)
        #expect(unknown.cluster != nil, "a wrong model leaves the cluster usable")
    }

    @Test("What is read and written again is the same")
    func roundTrip() throws {
        let plan = try #require(load("", cluster: three).cluster)
        let text = ClusterText.yaml(plan)
        #expect(load("", cluster: text).cluster == plan, "\(text)")
        var other = plan
        other.corosync.isRealtime = false
        other.corosync.isEncrypted = false
        other.corosync.logFile = "/var/log/c o.log"
        other.corosync.quorum = QuorumSettings()
        other.corosync.quorum.device = QuorumDevice(host: "true", algorithm: .lms, isEncrypted: false)
        other.description.clusterName = "on"
        other.description.leasePercent = 95
        let again = ClusterText.yaml(other)
        #expect(load("", cluster: again).cluster == other, "\(again)")
    }

    @Test(
        "Every error has its place and says what was expected",
        arguments: [
            ("nodes: [here, b]", "1:9: cluster: node 'here': the key 'addresses' (one or two) is missing"),
            ("engine: ring\nnodes: [here]", "1:9: cluster: engine: one of alone, corosync expected, 'ring' found"),
            (
                "engine: alone\nnodes: { here: { addresses: 10.0.0.1 }, b: { addresses: 10.0.0.2 } }",
                "1:9: cluster: engine: 2 nodes need 'corosync'; 'alone' is for one node"
            ),
            (
                "nodes: { here: { addresses: [10.0.0.1, 10.1.0.1] }, b: { addresses: 10.0.0.2 } }",
                "1:53: cluster: node 'b': 1 addresses, the first node has 2; as many for each node expected: the n-th "
                    + "addresses are one network"
            ),
            (
                "nodes: { here: { addresses: db1 } }",
                "1:29: node 'here': addresses: a numeric IPv4 or IPv6 address expected, 'db1' found"
            ),
            (
                "nodes: { here: { addresses: 10.0.0.1 }, b: { addresses: 10.0.0.1 } }",
                "1:41: cluster: nodes: the address 10.0.0.1 is that of node 'here', too"
            ),
            (
                "nodes: { here: { id: 1, addresses: 10.0.0.1 }, b: { id: 1, addresses: 10.0.0.2 } }",
                "1:8: cluster: node 1 follows node 1; ascending ids without repetition expected"
            ),
            (
                "token: 300\nnodes: [here]",
                "1:8: cluster: token: a duration with its unit (such as 500ms, 10s, 2m) from 50ms to 1m expected, "
                    + "'300' found"
            ),
            ("lease: 2.5\nnodes: [here]", "1:8: cluster: lease: a number from 0.5 to 2.0 expected, '2.5' found"),
            (
                "nodes: { here: { role: boss } }",
                "1:24: node 'here': role: one of controller, payload expected, 'boss' found"
            ),
            (
                "nodes: { here: { role: payload } }",
                "1:10: cluster: nodes: at least one node of role 'controller' expected"
            ),
            (
                "quorum: { twoNode: true }\nnodes: { here: { addresses: 10.0.0.1 } }\nengine: corosync",
                "1:9: cluster: twoNode needs two nodes, not 1"
            ),
            (
                "nodes: { here: { fencing: { agent: ipmi, parametersFile: /x } } }",
                "1:36: node 'here', fencing: agent: a fence agent's name (fence_…) or its whole path expected, "
                    + "'ipmi' found"
            ),
            (
                "nodes: { here: { addresses: [ { device: eth0 } ] } }",
                "1:31: node 'here', address: the key 'host' (the numeric address) is missing"
            ),
            (
                "cluster: 'a b'\nnodes: { here: { addresses: 10.0.0.1 }, b: { addresses: 10.0.0.2 } }",
                "1:10: cluster: cluster: 1 to 32 letters, digits, '.', '_' or '-' expected, 'a b' found"
            ),
        ])
    func mistakes(text: String, expected: String) {
        let found = errors(text)
        #expect(found.contains("cluster.yaml:" + expected), "\(found)")
        #expect(load("", cluster: text).cluster == nil)
    }

    @Test("An invitation has one byte form, and refuses whatever is cut or random")
    func bundle() {
        checkWire(
            ClusterBundle(
                node: "b", clusterFile: "cluster: x", corosyncKey: [1, 2], authority: [3], certificate: [4], key: [5]))
    }
}
