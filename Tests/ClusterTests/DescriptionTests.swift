import EngineKit
import IOCCluster
import OSAL
import SAFTypes
import Testing

@Suite("Cluster description")
struct DescriptionTests {
    static func name(_ text: String) -> SaName { SaName(text) ?? SaName([1])! }

    static let three = ClusterDescription(
        clusterName: "shop", groupEngine: .corosync, localNode: NodeID(2),
        nodes: [
            ClusterDescribedNode(
                id: NodeID(1), name: name("a"), role: .controller,
                addresses: [
                    LinkAddress("10.0.0.1", device: "eth0", source: "10.0.0.9", mark: 0), LinkAddress("10.0.1.1"),
                ]),
            ClusterDescribedNode(id: NodeID(2), name: name("b"), role: .controller),
            ClusterDescribedNode(id: NodeID(7), name: name("c"), role: .payload, addresses: [LinkAddress("c.net")]),
        ],
        links: LinkSettings(security: .none, portBase: 9_000, certificateDirectory: ""), token: .milliseconds(300),
        quorumLossGrace: .seconds(3), leasePercent: 120,
        fencing: FencingSettings(
            timeout: .seconds(20),
            devices: [FencingDevice(node: NodeID(1), agent: "fence_x", parametersFile: "/etc/swiftsaf/fence-a")]),
        access: AccessRule(users: ["web", "1000"], groups: ["saf"]))

    @Test("Has one byte form, and refuses whatever is cut or random")
    func wire() {
        checkWire(Self.three)
        checkWire(
            ClusterDescription.alone(NodeID(3), name: Self.name("x")),
            golden: """
                0100 05000000616c6f6e65 01 03000000
                01000000 03000000 0100000078 01 00000000
                02 e81c 1a000000 2f6574632f73776966747361662f636572746966696361746573
                00ca9a3b00000000 00e40b5402000000 78000000 00 00000000 00000000
                """)
    }

    @Test("What the version before can say is written in it; a choice that it cannot say needs the next")
    func versions() throws {
        var description = Self.three
        #expect(description.encoded.starts(with: [1, 0]))
        description.database = .gdbm
        #expect(description.encoded.starts(with: [2, 0]))
        checkWire(description)
        var later = description.encoded
        later[0] = 3
        #expect(throws: DecodeError.self) { try ClusterDescription(decoding: later) }
    }

    @Test("Who may connect: everybody, or root, the own user, users by name or number, and who has one of the groups")
    func access() {
        let open = LocalAccess(AccessRule())
        #expect(open.admits(user: 4_711, groups: []))
        let rule = LocalAccess(AccessRule(users: ["nobody", "4711", "no-such-user"], groups: ["daemon", "12"]))
        let nobody = Environment.account(named: "nobody")?.userID ?? 0
        for user in [0, Environment.userID, nobody, 4_711] { #expect(rule.admits(user: user, groups: [77])) }
        #expect(!rule.admits(user: 4_712, groups: [77, 78]))
        #expect(rule.admits(user: 4_712, groups: [77, 12]))
        #expect(rule.admits(user: 4_712, groups: [Environment.groupID(named: "daemon") ?? 0]))
        #expect(rule.unknown == ["no-such-user"])
    }

    @Test("The compiled configuration has one byte form, with and without a model")
    func compiled() {
        checkWire(CompiledConfiguration(cluster: Self.three, model: [1, 2, 3]))
        checkWire(CompiledConfiguration(cluster: Self.three, model: nil))
    }

    @Test("Says in a sentence what makes no sense")
    func faults() {
        #expect(Self.three.fault == nil)
        let stranger = FencingDevice(node: NodeID(9), agent: "fence_x", parametersFile: "")
        func fault(_ change: (inout ClusterDescription) -> Void) -> String {
            var changed = Self.three
            change(&changed)
            #expect((try? ClusterDescription(decoding: changed.encoded)) == nil)
            return changed.fault ?? ""
        }
        #expect(fault { $0.localNode = NodeID(5) } == "the local node 5 is not one of the nodes")
        #expect(fault { $0.nodes.swapAt(0, 1) }.hasPrefix("node 1 follows node 2"))
        #expect(fault { $0.nodes[1].name = Self.name("a") } == "two nodes are named a")
        #expect(fault { $0.groupEngine = .alone } == "3 nodes without a group engine; 1 expected")
        #expect(fault { $0.clusterName = "" }.hasPrefix("cluster name"))
        #expect(fault { $0.token = .zero }.hasPrefix("token"))
        #expect(fault { $0.nodes[0].addresses[0].host = "" } == "node a: an empty address")
        #expect(fault { $0.fencing = FencingSettings(devices: [stranger]) }.hasPrefix("fencing device of node 9"))
        #expect(fault { $0.access.groups = [""] } == "a group without a name")
        #expect(fault { $0.links = LinkSettings(security: .tls, certificateDirectory: "") }.hasPrefix("TLS"))
    }

    @Test("Is read back from its file; a damaged file is an error that names it; without a file a node is alone")
    func file() throws {
        let root = "/tmp/saf-description-\(Environment.processID)"
        defer { try? File.removeTree(root) }
        let places = Places(
            runDirectory: root + "/run", shmDirectory: root, stateDirectory: root, logDirectory: root,
            configDirectory: root, nodeName: "lonely")
        let alone = try ClusterDescription.load(places)
        #expect(alone.groupEngine == .alone)
        #expect(alone.local.name == Self.name("lonely"))
        #expect(alone.others.isEmpty)

        try Self.three.save(places)
        #expect(try ClusterDescription.load(places) == Self.three)
        #expect(try File.stat(ClusterDescription.path(places)).mode == 0o644)
        #expect(Self.three.local.name == Self.name("b"))
        #expect(Self.three.others.map(\.id) == [NodeID(1), NodeID(7)])
        #expect(Self.three.node(named: Self.name("c"))?.id == NodeID(7))

        try File.writeAtomically(ClusterDescription.path(places), [9, 9, 9], durable: false)
        let error = #expect(throws: ClusterDescriptionError.self) { try ClusterDescription.load(places) }
        #expect((error.map { "\($0)" } ?? "").contains("\(root)/run/cluster is no cluster description"))
    }
}
