import ClmEngine
import ClmProtocol
import SAFTypes
import Testing

private let binding = NameBinding(
    range: ServiceRange(type: 100, lower: 1, upper: 9)!,
    address: PortAddress(node: NodeID(1), port: 7, incarnation: 0x1122), scope: .cluster)
private let bindingHex = """
    64000000 01000000 09000000
    01000000 07000000 2211000000000000
    02
    """
private let node = ClusterNode(nodeID: NodeID(1), name: SaName("n1")!, bootTimestamp: 3, initialViewNumber: 4)

@Suite("clmd on the wire")
struct ClmWireTests {
    @Test("Names")
    func names() {
        checkWire(binding, golden: bindingHex)
        checkWire(LookupRequest(type: 100, instance: 2), golden: "64000000 02000000")
        checkWire(LookupReply(addresses: [binding.address]), golden: "01000000 01000000 07000000 2211000000000000")
        checkWire(
            SubscribeRequest(subscription: 5, range: ServiceRange(allOf: 64)),
            golden: "05000000 40000000 00000000 ffffffff")
        checkWire(TopologyNotice(subscription: 5, change: .published(binding)), golden: "05000000 01" + bindingHex)
        checkWire(TopologyNotice(subscription: 5, change: .withdrawn(binding)), golden: "05000000 02" + bindingHex)
        checkWire(TopologyNotice(subscription: 5, change: .settled), golden: "05000000 03")
        checkWire(TopologyNotice(subscription: 5, change: .lost), golden: "05000000 04")
        checkWire(ClientSession(node: NodeID(1), high: 2, low: 3), golden: "01000000 0200000000000000 0300000000000000")
    }

    @Test("Membership")
    func membership() {
        let nodeHex = "01000000 02000000 6e31 00000000 01 0300000000000000 0400000000000000"
        checkWire(node, golden: nodeHex)
        let view = ClusterView(viewNumber: 8, memberCount: 1, notifications: [.init(node: node, change: .joined)])
        checkWire(view, golden: "0800000000000000 01000000 01000000 02" + nodeHex)
        checkWire(TrackFlags([.current, .changesOnly]), golden: "05")
    }

    @Test("A reversed range, unknown kinds and contradicting flags are refused")
    func refused() {
        #expect(ServiceRange(type: 1, lower: 2, upper: 1) == nil)
        #expect(throws: DecodeError.self) { try ServiceRange(decoding: [1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]) }
        #expect(throws: DecodeError.self) { try TopologyNotice(decoding: [0, 0, 0, 0, 9]) }
        for flags: UInt8 in [0, 6, 7, 8, 255] {
            #expect(throws: DecodeError.self, "flags \(flags)") { try TrackFlags(decoding: [flags]) }
        }
    }

    @Test("Commands of the name table")
    func commands() {
        let session = ClientSession(node: NodeID(1), high: 2, low: 3)
        checkWire(NameTable.Command.bind(binding, by: session))
        checkWire(NameTable.Command.withdraw(binding, by: session))
        checkWire(NameTable.Command.sessionLeft(session))
        checkWire(NameTable.Command.nodeLeft(NodeID(1)), golden: "04 01000000")
    }
}
