import EngineKit
import OSAL
import SafLab
import Synchronization
import Testing

extension ClusterLabTests {
    /// One writer counts, and readers on every node look whether they see less than it had been told is done; all
    /// processes of the lab have one clock and one memory.
    @Suite(
        "Reads of checkpoints on several nodes", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct CkptReadTests {
        @Test("Nobody reads what is old: the active node cut off, frozen, its ckptd stopped, its corosync stopped")
        func reads() throws {
            let world = try CkptWorld("test-reads")
            for node in 1...3 { try world.hold("c", "sync", on: node) }
            try world.awaitCurrent("c", [1, 2, 3])
            let path = world.lab.folder(of: 3) + "/counters"
            let page = try SharedFile.create(path, size: 4096, mode: 0o600)
            for node in 1...3 { _ = try world.lab.spawn(["ckptworker", "count", "c", path, "\(node)"], on: node) }
            var readers: [Reader] = []
            for node in 1...3 {
                for how in ["mapped", "asked"] { readers.append(try Reader(world.lab, path, how, on: node)) }
            }
            func count(_ node: Int) -> UInt64 {
                page.mapping.base.atomic(UInt64.self, at: 8 * node).pointee.load(ordering: .acquiring)
            }
            func advance(_ what: String, besides victim: Int = 0) throws {
                let nodes = [1, 2, 3].filter { $0 != victim }
                let goals = nodes.map { count($0) + 200 }
                _ = try world.lab.wait(for: "200 more writes of each: \(what)", timeout: .seconds(60)) {
                    zip(nodes, goals).allSatisfy { count($0) >= $1 } ? true : nil
                }
            }
            /// Everybody has read again, and nobody anything old.
            func judge(_ what: String) throws {
                try advance("after \(what)")
                try world.awaitCurrent("c", [1, 2, 3])
                let goals = readers.map { $0.reads + 20 }
                _ = try world.lab.wait(for: "reads on every node after \(what)", timeout: .seconds(90)) {
                    zip(readers, goals).allSatisfy { $0.reads >= $1 } ? true : nil
                }
                for reader in readers {
                    #expect(reader.old == 0, "\(what): \(reader.how) on node \(reader.node), of \(reader.reads)")
                }
            }
            try judge("the beginning")
            for (what, begin, end) in Self.faults {
                let victim = try world.active("c", askedOn: 3)
                let other = victim % 3 + 1
                try begin(world.lab, victim)
                try advance(what, besides: victim)
                // The victim acts until the others have excluded it.
                _ = try world.lab.wait(for: "another active replica: \(what)", timeout: .seconds(60)) {
                    try world.active("c", askedOn: other) != victim ? true : nil
                }
                try end(world.lab, victim)
                try judge(what)
            }
            for reader in readers { print("\(reader.how) on node \(reader.node): \(reader.reads) reads") }
            try world.lab.down()
        }

        private typealias Step = (ClusterLab, Int) throws -> Void
        private static var faults: [(String, Step, Step)] {
            [
                ("cut off", { try $0.isolate($1) }, { lab, _ in try lab.heal() }),
                ("frozen", { try $0.freeze($1) }, { try $0.thaw($1) }),
                (
                    "ckptd stopped", { try $0.signal(.stop, "ckptd", on: $1) },
                    { try $0.signal(.continue, "ckptd", on: $1) }
                ),
                (
                    "corosync stopped", { try $0.signal(.stop, "corosync", on: $1) },
                    { try $0.signal(.continue, "corosync", on: $1) }
                ),
                ("cut off again", { try $0.isolate($1) }, { lab, _ in try lab.heal() }),
            ]
        }
    }
}

private final class Reader {
    let how: String
    let node: Int
    private let page: SharedFile

    init(_ lab: ClusterLab, _ counters: String, _ how: String, on node: Int) throws {
        (self.how, self.node) = (how, node)
        let path = lab.folder(of: node) + "/" + how
        page = try SharedFile.create(path, size: 4096, mode: 0o600)
        _ = try lab.spawn(["ckptworker", "compare", "c", counters, path, how], on: node)
    }

    var reads: UInt64 { page.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
    /// How many of them saw less than had been acknowledged before they began.
    var old: UInt64 { page.mapping.base.atomic(UInt64.self, at: 8).pointee.load(ordering: .acquiring) }
}
