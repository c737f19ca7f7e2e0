import AmfProtocol
import OSAL
import SafLab
import Testing

/// What is done in order costs nobody the time in which a failure is noticed.
@Suite("amfd in a cluster lab: in order", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct AmfOrderLabTests {
    @Test("A node that is stopped, or locked, hands over what it does; it comes back, and what failed is repaired")
    func inOrder() throws {
        let stand = try ClusterStand("test-amf-order", nodes: 3)
        defer { stand.end() }
        for node in 1...3 { try stand.start(node) }
        let first = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()

        // Stopped in order: it hands over, ends everything, and is no longer waited for.
        try stand.lab.stopNode(first.node)
        let second = try stand.awaitActor(besides: first.node)
        var gap = try stand.judge("node stopped in order", expectingMove: true)
        #expect(gap < stand.detection, "\(stand.logs)")
        #expect(stand.lab.processes(of: first.node).map(\.name) == ["corosync"])
        let left = try #require(stand.status(of: second.node)?.nodes.first { $0.id == .init(UInt32(first.node)) })
        #expect(!left.isMember && !left.isHeard)
        for node in 1...3 where node != first.node {
            let log = stand.log(of: node)
            #expect(!log.contains("node \(LabOptions.nodeName(first.node)) is gone"), "it took leave: \(log)")
        }
        try stand.start(first.node)
        try stand.awaitWhole()
        try stand.judge("node started again", expectingMove: false)

        // Locked, asked from elsewhere: its work moves, its processes stay; unlocked it may be given work again.
        let locked = DN.node(LabOptions.nodeName(second.node), cluster: stand.clusterName)
        let process = stand.component(on: second.node)
        try stand.administer(.lock, locked, from: first.node)
        let third = try stand.awaitActor(besides: second.node)
        gap = try stand.judge("node locked", expectingMove: true)
        #expect(gap < stand.detection, "\(stand.logs)")
        #expect(stand.component(on: second.node) == process)
        try stand.awaitWhole()  // with the third node standing by
        try stand.administer(.unlock, locked, from: third.node)
        try stand.awaitWhole()
        try stand.judge("node unlocked", expectingMove: false)

        // A component that dies is given up at once, its unit repaired.
        let dead = try #require(stand.component(on: third.node))
        try Process.kill(dead, .kill)
        _ = try stand.awaitActor(besides: third.node)
        gap = try stand.judge("component killed", expectingMove: true)
        #expect(gap < stand.detection, "\(stand.logs)")
        try stand.awaitWhole()
        _ = try stand.lab.wait(for: "the unit is repaired", timeout: .seconds(40)) {
            stand.component(on: third.node).flatMap { $0 == dead ? nil : $0 }
        }
    }

    @Test("Without auto-repair a unit that failed waits to be told that it is repaired")
    func repaired() throws {
        let stand = try ClusterStand("test-amf-order", nodes: 3, adjust: { $0.autoRepair = false })
        defer { stand.end() }
        for node in 1...3 { try stand.start(node) }
        let first = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()
        try Process.kill(try #require(stand.component(on: first.node)), .kill)
        let second = try stand.awaitActor(besides: first.node)
        try stand.awaitWhole()  // the third node stands by
        func unit() -> ServiceUnitStatus? {
            stand.status(of: second.node)?.applications.last?.serviceGroups.first?.serviceUnits.first {
                $0.node == LabOptions.nodeName(first.node)
            }
        }
        let failed = try #require(unit())
        #expect(failed.operationalState == .disabled)
        #expect(stand.component(on: first.node) == nil)
        try stand.administer(.repaired, failed.dn, from: second.node)
        _ = try stand.lab.wait(for: "the unit is in service", timeout: .seconds(40)) {
            unit()?.readinessState == .inService ? true : nil
        }
        #expect(stand.component(on: first.node) != nil)
        try stand.judge("component killed, repaired by hand", expectingMove: true)
    }

    enum Two: CaseIterable { case twoNode, tieBreaker }

    @Test("Of two nodes none goes on alone, whatever Corosync's quorum says; never two act", arguments: Two.allCases)
    func twoNodes(_ two: Two) throws {
        let stand = try ClusterStand(
            "test-amf-order", nodes: 2, configure: { $0.hasAutoTieBreaker = two == .tieBreaker })
        defer { stand.end() }
        for node in 1...2 { try stand.start(node) }
        _ = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()

        try stand.lab.partition([[1], [2]])
        try stand.awaitStandstill()
        try stand.lab.heal()
        try stand.awaitWhole()
        _ = try stand.awaitActor(besides: nil)

        // Node 1 is what the tie breaker prefers, and with two_node any of them is quorate alone.
        try stand.lab.kill(2)
        try stand.lab.awaitMembers([1], isQuorate: true, on: [1])
        try stand.awaitStandstill()
        #expect(stand.status(of: 1)?.nodes.first { $0.id == .init(1) }?.lease == .over)
        try stand.lab.boot([2])
        try stand.start(2)
        try stand.awaitWhole()
        let last = try stand.awaitActor(besides: nil)

        // In order there is nothing to decide: the work moves, and stays while both nodes are there.
        try stand.administer(
            .lock, DN.node(LabOptions.nodeName(last.node), cluster: stand.clusterName), from: 3 - last.node)
        _ = try stand.awaitActor(besides: last.node)
        try stand.judgeOrder("two nodes, \(two)")
    }
}
