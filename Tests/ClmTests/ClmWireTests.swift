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
        checkWire(
            view,
            golden: "0800000000000000 01000000 01 04 0000000000000000 00000000 0000000000000000 01000000 02" + nodeHex)
        checkWire(
            ClusterView(
                viewNumber: 8, memberCount: 1, notifications: [], isLocalMember: false, step: .start, invocation: 5,
                rootCause: NodeID(2), timeSupervision: 16),
            golden: "0800000000000000 01000000 00 02 0500000000000000 02000000 1000000000000000 00000000")
        checkWire(TrackFlags([.current, .changesOnly, .validateStep]), golden: "25")
        checkWire(ChangeResponse(invocation: 7, answer: .rejected), golden: "0700000000000000 02")
        checkWire(NodeAdministration(node: NodeID(3), operation: .lock), golden: "03000000 02")
    }

    @Test("A reversed range, unknown kinds and contradicting flags are refused")
    func refused() {
        #expect(ServiceRange(type: 1, lower: 2, upper: 1) == nil)
        #expect(throws: DecodeError.self) { try ServiceRange(decoding: [1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]) }
        #expect(throws: DecodeError.self) { try TopologyNotice(decoding: [0, 0, 0, 0, 9]) }
        for flags: UInt8 in [0, 6, 7, 8, 0x38, 0x41, 255] {
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
        checkWire(ClusterTable.Command.names(.nodeLeft(NodeID(1))), golden: "01 04 01000000")
        let record = NodeRecord(node: node, addresses: ["a", "b"], incarnation: 9)
        checkWire(ClusterTable.Command.nodeJoined(record, viewFloor: 7))
        checkWire(ClusterTable.Command.nodeLeft(NodeID(1), incarnation: 2), golden: "03 01000000 0200000000000000")
        checkWire(ClusterTable.Command.administer(NodeAdministration(node: NodeID(1), operation: .unlock)))
        checkWire(
            ClusterTable.Command.stepDone(NodeID(1), change: 2, .start, isRejected: true),
            golden: "05 01000000 0200000000000000 02 01")
        checkWire(ClusterTable.Command.supervisionOver(change: 3), golden: "06 0300000000000000")
    }

    @Test("The table as a whole")
    func table() {
        var table = ClusterTable()
        checkWire(table)
        for (number, name) in [(1 as UInt32, "n1"), (2, "n2"), (3, "n3")] {
            let node = ClusterNode(
                nodeID: NodeID(number), name: SaName(name)!, bootTimestamp: 3, initialViewNumber: 0)
            let record = NodeRecord(node: node, addresses: ["a"], incarnation: 1)
            _ = table.handle(.nodeJoined(record, viewFloor: 4), at: .start)
        }
        let session = ClientSession(node: NodeID(1), high: 2, low: 3)
        _ = table.handle(.names(.bind(binding, by: session)), at: .start)
        for number: UInt32 in [1, 2] {
            let lock = NodeAdministration(node: NodeID(number), operation: .lock)
            _ = table.handle(.administer(lock), at: .start)
            guard number == 1 else { continue }
            for member: UInt32 in 1...3 {
                _ = table.handle(.stepDone(NodeID(member), change: 1, .start, isRejected: false), at: .start)
            }
        }
        #expect(table.isLocked(NodeID(1)) && table.planned?.awaiting == [NodeID(2), NodeID(3)])
        checkWire(table)
    }
}
