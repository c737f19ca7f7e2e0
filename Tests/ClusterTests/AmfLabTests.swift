import OSAL
import SafLab
import Testing

/// Three nodes with the real amfd over a real corosync, and a component in 2N whose every act an observer outside sees.
@Suite("amfd in a cluster lab", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct AmfLabTests {
    @Test("One node acts at a time, through the death, the separation and the freezing of nodes and daemons")
    func oneActs() throws {
        let stand = try ClusterStand("test-amf", nodes: 3)
        defer { stand.end() }
        // One node is of the release before until it is killed.
        for node in 1...3 { try stand.start(node, environment: node == 1 ? ["SAF_WIRE=previous"] : []) }
        var active = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()

        for node in 1...3 {
            try stand.killAmfd(on: node)
            try stand.awaitWhole()
        }
        let undisturbed = try stand.awaitActor(besides: nil)
        #expect(undisturbed == active, "the same process goes on: \(stand.logs)")
        guard undisturbed == active else { return }
        try stand.judge("amfd restarted on each node", expectingMove: false)

        try stand.lab.kill(active.node)
        let next = try stand.awaitActor(besides: active.node)
        for node in 1...3 where node != active.node {
            let log = stand.log(of: node)
            #expect(!log.contains("does not hear a majority"), "node \(node) hears the other survivor: \(log)")
        }
        try stand.lab.boot([active.node])
        try stand.start(active.node)
        try stand.awaitWhole()
        try stand.judge("node killed", expectingMove: true)
        active = next

        let others = (1...3).filter { $0 != active.node }
        try stand.lab.partition([[active.node], others])
        let third = try stand.awaitActor(besides: active.node)
        try stand.lab.heal()
        try stand.awaitWhole()
        try stand.judge("active node cut off", expectingMove: true)
        active = third

        try stand.lab.endCorosync(on: active.node, .kill)
        let fourth = try stand.awaitActor(besides: active.node)
        try stand.lab.startCorosync(on: active.node)
        try stand.awaitWhole()
        try stand.judge("corosync killed on the active node", expectingMove: true)
        active = fourth

        try stand.lab.freeze(active.node)
        _ = try stand.awaitActor(besides: active.node)
        try stand.lab.thaw(active.node)
        try stand.awaitWhole()
        try stand.judge("active node frozen and thawed", expectingMove: true)
    }

    @Test("A node that was frozen while it wrote a checkpoint, and whose amfd does not come to itself, writes too late")
    func lateWriter() throws {
        let stand = try ClusterStand("test-late", nodes: 3, services: ["ckptd"]) { group in
            for index in group.serviceUnits.indices {
                group.serviceUnits[index].components[0].arguments[0] = "write"
            }
        }
        defer { stand.end() }
        for node in 1...3 { try stand.start(node) }
        let first = try stand.awaitActor(besides: nil)
        try stand.awaitWhole()
        let process = try #require(stand.component(on: first.node))

        try stand.lab.freeze(first.node)
        _ = try stand.awaitActor(besides: first.node)
        // Nobody there stops the process that does not know that it has lost its work.
        _ = try stand.lab.signal(.stop, "amfd", on: first.node)
        try stand.lab.thaw(first.node)
        try stand.awaitRemark("the late writer is refused, or dead") { remark in
            if Process.information(of: process) == nil { return true }
            _ = try stand.lab.signal(.continue, "testcomponent", on: first.node)
            return remark == "refused \(first.node) \(first.life)"
        }
        _ = try stand.lab.signal(.continue, "amfd", on: first.node)
        try stand.awaitWhole()
        try stand.judge("a late writer", expectingMove: true)
        let overwritten = stand.remarks.filter { $0.hasPrefix("overwritten") }
        #expect(overwritten.allSatisfy { $0 == "overwritten \(first.node) \(first.life)" }, "\(overwritten)")
        #expect(stand.remarks.contains("refused \(first.node) \(first.life)"), "\(stand.remarks)")
    }
}
