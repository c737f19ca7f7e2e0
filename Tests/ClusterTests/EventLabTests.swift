import EngineKit
import OSAL
import SafLab
import Synchronization
import Testing

extension ClusterLabTests {
    /// Three real eventds; within the lab's suite, so that two labs do not compete for the machine.
    @Suite("Events between nodes", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct EventTests {
        private final class Publisher {
            let name: String
            let pid: Int32
            private let counter: SharedFile

            init(_ lab: ClusterLab, on node: Int) throws {
                name = "p\(node)"
                let path = lab.folder(of: node) + "/counter"
                counter = try SharedFile.create(path, size: 4096, mode: 0o600)
                pid = try lab.spawn(["eventworker", "publish", "c", name, path, "5"], on: node).pid
            }

            var acknowledged: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
            func stop() { counter.mapping.base.atomic(UInt64.self, at: 8).pointee.store(1, ordering: .releasing) }
        }

        private struct World {
            let lab: ClusterLab
            var daemons: [Int: Int32] = [:]
            var publishers: [Publisher] = []

            func received(_ node: Int) -> [String] {
                ((try? File.readText(lab.folder(of: node) + "/received", limit: 1 << 26)) ?? "")
                    .split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
            }

            /// Every publisher has so many more acknowledged.
            func advance(_ nodes: [Int] = [1, 2, 3], by count: UInt64 = 50) throws {
                let goals = nodes.map { publishers[$0 - 1].acknowledged + count }
                _ = try lab.wait(for: "\(count) more acknowledged on \(nodes)", timeout: .seconds(60)) {
                    zip(nodes, goals).allSatisfy { publishers[$0 - 1].acknowledged >= $1 } ? true : nil
                }
            }

            /// Subscribers of these nodes have what is acknowledged now.
            func arrive(_ nodes: [Int] = [1, 2, 3], of from: [Int] = [1, 2, 3]) throws {
                let last = from.map { "\(publishers[$0 - 1].name):\(publishers[$0 - 1].acknowledged - 1)" }
                for node in nodes {
                    _ = try lab.wait(for: "\(last) on node \(node)", timeout: .seconds(60)) {
                        Set(received(node)).isSuperset(of: last) ? true : nil
                    }
                }
            }

            mutating func start(_ node: Int) throws { daemons[node] = try lab.spawn(["eventd"], on: node).pid }

            mutating func kill(_ node: Int) throws {
                guard let pid = daemons.removeValue(forKey: node) else { return }
                try Process.kill(pid, .kill)
                _ = try lab.wait(for: "the end of eventd on node \(node)", timeout: .seconds(30)) {
                    Process.reap(pid)
                }
            }
        }

        @Test(
            "Every event once on every node, in order, over kills, a stopped eventd and a partition; nobody is held up")
        func forwarding() throws {
            var options = LabOptions()
            options.name = "test-events"
            let lab = try ClusterLab.up(options)
            try lab.awaitFormed()
            var world = World(lab: lab)
            for node in 1...3 { try world.start(node) }
            for node in 1...3 {
                _ = try lab.spawn(["eventworker", "subscribe", "c", lab.folder(of: node) + "/received"], on: node)
            }
            for node in 1...3 {
                _ = try lab.wait(for: "the subscriber on node \(node)", timeout: .seconds(60)) {
                    world.received(node).isEmpty ? nil : true
                }
            }
            world.publishers = try (1...3).map { try Publisher(lab, on: $0) }
            try world.advance()
            try world.arrive()
            for node in [1, 2, 3, 1] {
                try world.kill(node)
                try world.advance([1, 2, 3].filter { $0 != node })
                try world.start(node)
                try world.advance()
                try world.arrive()
            }
            // A stopped eventd fills its own queues only.
            try lab.signal(.stop, "eventd", on: 2)
            try world.advance([1, 3], by: 200)
            try world.arrive([1, 3], of: [1, 3])
            try lab.signal(.continue, "eventd", on: 2)
            try world.arrive()
            try lab.isolate(3)
            try lab.awaitMembers([1, 2])
            try world.advance(by: 100)
            try world.arrive([1, 2], of: [1, 2])
            try lab.heal()
            try world.arrive()
            for publisher in world.publishers { publisher.stop() }
            for publisher in world.publishers {
                let status = try lab.wait(for: "the end of \(publisher.name)", timeout: .seconds(60)) {
                    Process.reap(publisher.pid)
                }
                #expect(status == .exited(code: 0))
            }
            try world.arrive()
            for node in 1...3 {
                let lines = world.received(node).dropFirst()
                for publisher in world.publishers {
                    let own = lines.filter { $0.hasPrefix(publisher.name + ":") }
                    #expect(own == (0..<publisher.acknowledged).map { "\(publisher.name):\($0)" }, "node \(node)")
                }
                #expect(!lines.contains("LOST"), "node \(node)")
            }
            try lab.down()
        }
    }
}
