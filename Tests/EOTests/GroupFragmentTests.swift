import EngineKit
import IOCGroups
import SAFTypes
import Testing

@Test("A message above the group's limit arrives whole, in order with the others")
func fragmentsOnLoopback() throws {
    let member = GroupMember(node: NodeID(1), incarnation: 1)
    var group = FragmentingGroup(LoopbackGroup(member: member, messageBytesMax: 30), messageBytesMax: 1000)
    #expect(group.multicast([1]) == .notJoined)
    try group.join("g")
    let large = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
    #expect(group.multicast(large + [0]) == .tooBig)
    for bytes in [[], [7], large, [8]] as [[UInt8]] { #expect(group.multicast(bytes) == .sent) }
    guard case .view? = group.next() else { return #expect(Bool(false), "the view first") }
    for bytes in [[], [7], large, [8]] as [[UInt8]] {
        #expect(group.next() == .message(from: member, bytes: bytes))
    }
    #expect(group.next() == nil)
}

@Test("Pieces from anybody are never a reason to stop")
func fragmentsHostile() throws {
    let network = SimulatedNetwork(nodes: 2, seed: 1)
    var plain = network.attach(NodeID(1), incarnation: 1)
    var group = FragmentingGroup(network.attach(NodeID(2), incarnation: 2), messageBytesMax: 64)
    try plain.join("g")
    try group.join("g")
    var random = SeededRandom(seed: 5)
    for _ in 0..<2_000 {
        let count = Int.random(in: 0...40, using: &random)
        var bytes = (0..<count).map { _ in UInt8.random(in: 0...3, using: &random) }
        for index in 1..<24 where index % 4 != 0 && index < bytes.count { bytes[index] = 0 }  // plausible numbers
        _ = plain.multicast(bytes)
        while network.step() {}
        while let event = group.next() {
            if case .message(_, let bytes) = event { #expect(bytes.count <= 64) }
        }
        while plain.next() != nil {}
    }
}

/// Members that move together deliver the same large messages, and in the end every accepted message once.
@Test("Large messages survive views, cut-offs and back-pressure", arguments: 1...60 as ClosedRange<UInt64>)
func fragmentsUnderViews(seed: UInt64) throws {
    let network = SimulatedNetwork(nodes: 3, seed: seed, outboxMax: 5, messageBytesMax: 40)
    var random = SeededRandom(seed: seed)
    var groups: [FragmentingGroup<SimulatedGroup>] = []
    for node in network.nodes { groups.append(FragmentingGroup(network.attach(node, incarnation: 1))) }
    for index in groups.indices { try groups[index].join("g") }
    var sent: [[[UInt8]]] = [[], [], []]
    var received: [[[[UInt8]]]] = Array(repeating: [[], [], []], count: 3)
    func take(_ index: Int) {
        while let event = groups[index].next() {
            if case .message(let sender, let bytes) = event {
                received[index][Int(sender.node.rawValue) - 1].append(bytes)
            }
        }
    }
    for step in 0..<400 {
        let index = Int.random(in: 0..<3, using: &random)
        if random.chance(percent: 40) {
            let bytes = Array(
                repeating: UInt8(truncatingIfNeeded: step), count: Int.random(in: 0...150, using: &random))
            let message = [UInt8(truncatingIfNeeded: step >> 8)] + bytes
            if groups[index].multicast(message) == .sent { sent[index].append(message) }
        }
        for _ in 0..<4 { _ = network.step() }
        take(Int.random(in: 0..<3, using: &random))
        if random.chance(percent: 3) { network.connect([[NodeID(1), NodeID(2)]]) }
        if random.chance(percent: 5) { network.heal() }
    }
    network.heal()
    repeat { (0..<3).forEach(take) } while network.step()
    (0..<3).forEach(take)
    while network.step() { (0..<3).forEach(take) }
    (0..<3).forEach(take)
    for sender in 0..<3 {
        #expect(received[sender][sender] == sent[sender], "seed \(seed): own messages, each once, in order")
    }
}
