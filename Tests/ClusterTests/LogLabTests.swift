import EngineKit
import OSAL
import SafLab
import Synchronization
import Testing

extension ClusterLabTests {
    /// Three real logds; within the lab's suite, so that two labs do not compete for the machine.
    @Suite("Global log streams", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct LogTests {
        private final class Writer {
            let name: String
            let node: Int
            let pid: Int32
            private let counter: SharedFile

            init(_ lab: ClusterLab, on node: Int, _ name: String, stream: String = "lab", pause: Int) throws {
                (self.name, self.node) = (name, node)
                let path = lab.folder(of: node) + "/" + name
                counter = try SharedFile.create(path, size: 4096, mode: 0o600)
                pid = try lab.spawn(["logwriter", path, "0", "stream", stream, name, "\(pause)"], on: node).pid
            }

            var written: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
            func stop() { counter.mapping.base.atomic(UInt64.self, at: 8).pointee.store(1, ordering: .releasing) }
        }

        private struct World {
            let lab: ClusterLab
            var stream = "lab"
            var daemons: [Int: Int32] = [:]
            var writers: [Writer] = []
            /// Those that died with their machine.
            var dead: Set<String> = []

            /// The stream's files on a node, one after the other.
            func text(_ node: Int) throws -> [UInt8] {
                let folder = lab.places(of: node).logDirectory
                guard File.exists(folder) else { return [] }
                return try File.list(folder).filter { $0.hasPrefix(stream + "_") && $0.hasSuffix(".log") }.flatMap {
                    name in
                    try File.readAll(folder + "/" + name)
                }
            }

            func bytes(_ node: Int) throws -> Int {
                let folder = lab.places(of: node).logDirectory
                guard File.exists(folder) else { return 0 }
                return try File.list(folder).filter { $0.hasPrefix(stream + "_") && $0.hasSuffix(".log") }.reduce(0) {
                    sum, name in
                    sum + (try File.stat(folder + "/" + name).size)
                }
            }

            /// Writers are served, and what they write gets into these nodes' files.
            func advance(_ nodes: [Int] = [1, 2, 3], by count: UInt64 = 500) throws {
                let living = writers.filter { nodes.contains($0.node) && !dead.contains($0.name) }
                let goals = living.map { $0.written + count }
                _ = try lab.wait(for: "\(count) more of \(living.map(\.name))", timeout: .seconds(60)) {
                    zip(living, goals).allSatisfy { $0.written >= $1 } ? true : nil
                }
                let sizes = try nodes.map { try bytes($0) }
                _ = try lab.wait(for: "progress in the files of \(nodes)", timeout: .seconds(60)) {
                    zip(nodes, sizes).allSatisfy { ((try? bytes($0)) ?? 0) > $1 } ? true : nil
                }
            }

            func end(_ writer: Writer) throws {
                writer.stop()
                let status = try lab.wait(for: "the end of \(writer.name)", timeout: .seconds(60)) {
                    Process.reap(writer.pid)
                }
                #expect(status == .exited(code: 0), "\(writer.name)")
            }

            mutating func start(_ node: Int, environment: [String] = []) throws {
                daemons[node] = try lab.spawn(["logd"], on: node, environment: environment).pid
            }

            mutating func kill(_ node: Int) throws {
                guard let pid = daemons.removeValue(forKey: node) else { return }
                try Process.kill(pid, .kill)
                _ = try lab.wait(for: "the end of logd on node \(node)", timeout: .seconds(30)) { Process.reap(pid) }
            }

            /// Numbers of a writer's records, in the order of a file.
            func numbers(of writer: Writer, in lines: [Substring]) -> [UInt64] {
                lines.compactMap { line in
                    guard let start = line.firstRange(of: ") \(writer.name):")?.upperBound else { return nil }
                    let parts = line[start...].split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
                    guard let number = UInt64(parts[0]), parts.count == 2, parts[1].hasSuffix("|") else {
                        Issue.record("a torn line: \(line)")
                        return nil
                    }
                    return number
                }
            }
        }

        @Test(
            "With a node of the release before streams go on as it knows them; one with a format waits until it is new")
        func previousRelease() throws {
            var options = LabOptions()
            options.name = "test-logold"
            let lab = try ClusterLab.up(options)
            try lab.awaitFormed()
            var world = World(lab: lab, stream: "plain")
            for node in 1...3 { try world.start(node, environment: node == 2 ? ["SAF_WIRE=previous"] : []) }
            for node in 1...3 {
                world.writers.append(try Writer(lab, on: node, "w\(node)", stream: world.stream, pause: 8))
            }
            let formatted = try Writer(lab, on: 1, "f1", pause: 8)
            try world.advance()
            #expect(formatted.written == 0, "a stream that node 2 would write in another form")
            try world.kill(2)
            try world.start(2)
            try world.advance()
            _ = try lab.wait(for: "a stream with a format", timeout: .seconds(60)) {
                formatted.written > 100 ? true : nil
            }
            for writer in world.writers + [formatted] { try world.end(writer) }
            try lab.down()
        }

        @Test("Every record once, in the same order on all controllers, over kills, a lost owner and a partition")
        func failover() throws {
            var options = LabOptions()
            options.name = "test-log"
            let lab = try ClusterLab.up(options)
            try lab.awaitFormed()
            var world = World(lab: lab)
            for node in 1...3 { try world.start(node) }
            for node in 1...3 { world.writers.append(try Writer(lab, on: node, "w\(node)", pause: 8)) }
            try world.advance(by: 2000)
            for node in [1, 2, 3, 1] {
                try world.kill(node)
                try world.advance([1, 2, 3].filter { $0 != node })
                try world.start(node)
                try world.advance()
            }
            // After so many restarts any of them is the owner: each loses its machine once.
            for node in [3, 1] {
                try lab.kill(node)
                world.daemons[node] = nil
                world.dead.insert("w\(node)")
                let others = [1, 2, 3].filter { $0 != node }
                try world.advance(others, by: 1000)
                try lab.boot([node])
                try world.start(node)
                try lab.awaitFormed()
                world.writers.append(try Writer(lab, on: node, "again\(node)", pause: 8))
                try world.advance(others)
                let last = world.writers.count - 1
                _ = try lab.wait(for: "the new writer of node \(node)", timeout: .seconds(60)) {
                    world.writers[last].written > 500 ? true : nil
                }
            }
            // By now node 2 is the owner: the others came later. A follower that stands still is not waited for.
            try lab.signal(.stop, "logd", on: 3)
            try world.advance([1, 2])
            try lab.signal(.continue, "logd", on: 3)
            try world.advance()
            try lab.isolate(2)
            try lab.awaitMembers([1, 3])
            _ = try lab.wait(for: "progress without node 2", timeout: .seconds(60)) { [size = try world.bytes(1)] in
                (try? world.bytes(1)).map { $0 > size } == true ? true : nil
            }
            try lab.heal()
            try lab.awaitFormed()
            for writer in world.writers where !world.dead.contains(writer.name) {
                try world.end(writer)
            }
            try check(world)
            try lab.down()
        }

        private func check(_ world: World) throws {
            // Whose machine died has lost what was in its memory; the others nothing.
            let (whole, cut) = (["w2", "again3", "again1"], ["w1", "w3"])
            let goal = world.writers.filter { whole.contains($0.name) }
            var texts: [[UInt8]] = []
            _ = try world.lab.wait(for: "equal files with all records", timeout: .seconds(90)) { () -> Bool? in
                texts = try (1...3).map { try world.text($0) }
                guard texts[0] == texts[1], texts[1] == texts[2] else { return nil }
                let lines = String(decoding: texts[0], as: UTF8.self).split(separator: "\n")
                return goal.allSatisfy { world.numbers(of: $0, in: lines).count >= Int($0.written) } ? true : nil
            }
            let lines = String(decoding: texts[0], as: UTF8.self).split(separator: "\n")
            #expect(
                lines.map { UInt64($0.drop { $0 == " " }.prefix { $0 != " " }) } == (1...UInt64(lines.count)).map { $0 }
            )
            for writer in world.writers {
                let numbers = world.numbers(of: writer, in: lines)
                #expect(numbers == Array(0..<UInt64(numbers.count)), "\(writer.name)")
                if cut.contains(writer.name) {
                    #expect(numbers.count <= Int(writer.written) + 1, "\(writer.name)")
                } else {
                    #expect(numbers.count == Int(writer.written), "\(writer.name)")
                }
            }
            #expect(lines.count > 20_000)
            // What the files are like stood beside them, on every controller, until the stream ended.
            let configuration = """
                LOG_SVC_VERSION: A.02.01
                FORMAT:@Cr @Ch:@Cn:@Cs.@Ck @Sv (@Sl @Cq) @Cb
                MAX_FILE_SIZE: 1073741824
                FIXED_LOG_REC_SIZE: 0
                LOG_FULL_ACTION: ROTATE 4

                """
            for node in 1...3 {
                let folder = world.lab.places(of: node).logDirectory
                let found = try world.lab.wait(for: "the end of lab.cfg on node \(node)", timeout: .seconds(30)) {
                    let names = try File.list(folder).filter { $0.hasPrefix("lab") && $0.hasSuffix(".cfg") }
                    return names.contains("lab.cfg") ? nil : names
                }
                #expect(found.count == 1, "\(found)")
                for name in found { #expect(try File.readText(folder + "/" + name) == configuration, "\(name)") }
            }
        }
    }
}
