import OSAL
import SafLab
import Testing

extension ClusterLabTests {
    /// Sections that their writer writes itself, while other nodes have replicas.
    @Suite("Direct writes on several nodes", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct CkptDirectTests {
        @Test("A writer that asks nobody goes on while ckptd is stopped, and others have it all in the end")
        func directWrites() throws {
            let world = try CkptWorld("test-ckptdirect")
            try world.activate("c", "collocated", on: 1)
            for node in [2, 3] { try world.hold("c", "collocated", on: node) }
            try world.awaitCurrent("c", [1, 2, 3])
            try world.write("c", "collocated", on: 1)
            try world.advance([1], by: 200)
            let daemon = try #require(world.daemons[1])
            var times = 0
            for _ in 0..<6 {
                try Process.kill(daemon, .stop)
                // For less time than would end the lease. Where the section has no room left ckptd is asked for more.
                if world.advances(1, by: 20, within: .milliseconds(500)) { times += 1 }
                try Process.kill(daemon, .continue)
                try world.advance([1])
            }
            #expect(times > 0, "it never wrote without ckptd")
            try world.stop([1])
            #expect(try world.read("c", on: 2)["w1"] == world.acknowledged[1])
            try world.awaitEqual("c", [1, 2, 3])
            try world.lab.down()
        }

        @Test("Who writes directly on a node that is cut off does not come over what others go on with")
        func directWritesCutOff() throws {
            let world = try CkptWorld("test-ckptcut")
            try world.activate("c", "collocated", on: 1)
            for node in [2, 3] { try world.hold("c", "collocated", on: node) }
            try world.awaitCurrent("c", [1, 2, 3])
            try world.write("c", "collocated", on: 1)
            try world.advance([1], by: 200)
            try world.lab.isolate(1)
            try world.lab.awaitMembers([2, 3])
            try world.activate("c", "collocated", on: 2)
            try world.write("c", "collocated", on: 2)
            try world.advance([2])
            try world.lab.heal()
            try world.advance([1, 2])
            try world.stop([1, 2])
            // What only node 1 knew of is gone, as with every asynchronous write; not so what node 2 went on with.
            let line = try world.ask(["read", "c"], on: 3).first { $0.hasPrefix("w2 ") } ?? "none"
            let words = line.split(separator: " ").map(String.init)
            let acknowledged = try #require(world.acknowledged[2])
            #expect(words.count == 3 && words[2] == "intact" && (UInt64(words[1]) ?? 0) >= acknowledged, "\(line)")
            try world.awaitEqual("c", [1, 2, 3])
            try world.lab.down()
        }
    }
}

extension CkptWorld {
    /// As ``advance(_:by:)``, or not within that time.
    fileprivate func advances(_ node: Int, by count: UInt64, within limit: Duration) -> Bool {
        let goal = (acknowledged[node] ?? 0) + count
        // Not in time is an answer, too.
        let isThere = try? lab.wait(for: "\(count) more acknowledged", timeout: limit, every: .milliseconds(2)) {
            acknowledged[node] ?? 0 >= goal ? true : nil
        }
        return isThere == true
    }
}
