import EngineKit
import OSAL
import SafLab
import Testing

extension ClusterLabTests {
    /// All that ran is gone at once, and comes back in another order.
    @Suite(
        "Checkpoints over cold starts of the cluster", .serialized,
        .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct CkptColdTests {
        @Test("Every ckptd is killed: what was acknowledged is there, persistent or not, whoever comes first")
        func daemons() throws {
            let world = try CkptWorld("test-ckpt-kills")
            try world.write("p", "persistent", on: 1)
            try world.write("v", "sync", on: 2)
            try world.write("v", "sync", on: 3)
            try world.advance()
            // Node 3 falls behind.
            try world.kill(3)
            try world.advance([1, 2])
            for node in [2, 1] { try world.kill(node) }
            let kept = world.acknowledged
            for node in [3, 2, 1] { try world.start(node) }
            try world.advance()
            for node in 1...3 {
                #expect((try world.read("p", on: node)["w1"] ?? 0) >= kept[1] ?? 0)
                let found = try world.read("v", on: node)
                for writer in 2...3 { #expect((found["w\(writer)"] ?? 0) >= kept[writer] ?? 0, "writer \(writer)") }
            }
            try world.lab.down()
        }

        @Test(
            "Every machine loses power: what was acknowledged is read, what was unlinked stays so, whoever comes first"
        )
        func machines() throws {
            let world = try CkptWorld("test-ckpt-order")
            try world.write("p", "persistent", on: 1)
            try world.write("p", "persistent", on: 2)
            try world.write("p", "persistent", on: 3)
            try world.hold("v", "sync", on: 1)
            for node in [1, 3] { try world.hold("gone", "persistent", on: node) }
            try world.advance()
            let before = world.acknowledged
            try world.powerOff(3)
            try world.advance([1, 2])
            // Of "gone" nothing is left but what node 3 has on its disk.
            #expect(try world.ask(["unlink", "gone"], on: 2) == ["done"])
            try world.release(1)
            _ = try world.lab.wait(for: "the end of gone", timeout: .seconds(60), every: .milliseconds(200)) {
                try world.replicas("gone", on: 1).isEmpty ? true : nil
            }
            try world.advance([1, 2])
            let kept = world.acknowledged
            let last = try world.active("p", askedOn: 1)
            for node in [1, 2] { try world.powerOff(node) }

            try world.lab.boot([1, 2, 3])
            try world.lab.awaitFormed()
            for node in [3, 3 - last] { try world.start(node) }
            // Two of three wait for the third, and then go on without it; but not with less than it has.
            #expect(try world.ask(["open", "made-meanwhile", "sync"], on: 3) == ["done"])
            try world.start(last)
            for node in [3, last, 3 - last] {
                let found = try world.read("p", on: node)
                for writer in 1...2 { #expect((found["w\(writer)"] ?? 0) >= kept[writer] ?? 0, "writer \(writer)") }
                #expect((found["w3"] ?? 0) >= before[3] ?? 0)
                let gone = try world.lab.run(["ckptworker", "read", "gone"], on: node, timeout: .seconds(90))
                #expect(gone.complaints.contains("does not exist"), "\(gone.complaints)")
            }
            // What was only in memory is known to be lost.
            let lost = try world.lab.run(["ckptworker", "read", "v"], on: 2, timeout: .seconds(90))
            #expect(!lost.isSuccess && lost.complaints.contains("data of checkpoint v is lost"), "\(lost.complaints)")
            try world.lab.down()
        }
    }
}

extension CkptWorld {
    func powerOff(_ node: Int) throws {
        try lab.kill(node)
        daemons[node] = nil
    }
}
