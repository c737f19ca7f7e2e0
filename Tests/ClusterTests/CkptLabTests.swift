import EngineKit
import OSAL
import SafLab
import Synchronization
import Testing

extension ClusterLabTests {
    /// Three real ckptds; within the lab's suite, so that two labs do not compete for the machine.
    @Suite("Checkpoints on several nodes", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct CkptTests {
        @Test("What was acknowledged is there: over kills of every ckptd under load, a lost node, a partition")
        func nothingIsLost() throws {
            let world = try CkptWorld("test-ckpt", old: 2)
            // Whose writer has ended has it open all the same, so that every node keeps a replica.
            for node in 1...3 { try world.hold("c", "sync", on: node) }
            for node in 1...3 { try world.write("c", "sync", on: node) }
            try world.advance()
            for node in [1, 2, 3, 1] {
                try world.kill(node)
                try world.advance([1, 2, 3].filter { $0 != node })
                try world.start(node)
                try world.advance()
            }
            try world.check("c", [1, 2, 3])

            try world.lab.isolate(3)
            try world.lab.awaitMembers([1, 2])
            try world.advance([1, 2])
            try world.lab.heal()
            try world.advance()

            let kept = world.acknowledged
            try world.lab.kill(1)
            world.daemons[1] = nil
            try world.advance([2, 3])
            let found = try world.read("c", on: 2)
            for node in 1...3 {
                #expect((found["w\(node)"] ?? 0) >= kept[node] ?? 0, "what node \(node) was told is done")
            }
            try world.lab.boot([1])
            try world.start(1)
            try world.hold("c", "sync", on: 1)
            try world.advance([2, 3])
            try world.stop([2, 3])
            try world.check("c", [2, 3])
            try world.awaitEqual("c", [1, 2, 3])
            try world.lab.down()
        }

        @Test("A1.3 ActiveReplicaSet answers when it is so; replica changes are told; without quorum UNAVAILABLE")
        func activeAndMembership() throws {
            let world = try CkptWorld("test-ckptact")
            try world.watch("c", "collocated", on: 3)
            for node in [1, 2, 1, 2, 1] {
                try world.activate("c", "collocated", on: node)
                #expect(try world.active("c", askedOn: node) == node, "at the moment of the answer")
                try world.awaitWatched("active \(node) ", on: 3)
            }
            #expect(try world.ask(["strict", "c"], on: 3) == ["done"])
            try world.hold("s", "sync", on: 1)
            try world.write("s", "sync", on: 1)
            try world.advance([1], by: 5)
            try world.stop([1])
            let places = try world.replicas("s", on: 1)
            let other = try #require([2, 3].first { node in !places.contains { $0.hasPrefix("\(node) ") } })
            #expect(try world.ask(["sections", "s"], on: other).count == 1, "a node without a replica is told, too")

            try world.lab.isolate(3)
            try world.lab.awaitMembers([1, 2])
            // It may notice a moment after the others.
            _ = try world.lab.wait(for: "node 3 to say that it is no member", timeout: .seconds(30)) {
                try world.ask(["strict", "c"], on: 3).first?.hasPrefix("SA_AIS_ERR_UNAVAILABLE") == true ? true : nil
            }
            #expect(try world.ask(["strict", "c"], on: 1) == ["done"])
            try world.lab.heal()
            _ = try world.lab.wait(for: "node 3 to be a member again", timeout: .seconds(60)) {
                try world.ask(["strict", "c"], on: 3) == ["done"] ? true : nil
            }
            try world.lab.down()
        }

        @Test("A node far away makes its own writes slower and nobody else's; when it dies nothing is lost")
        func farNode() throws {
            let world = try CkptWorld("test-far")
            try world.run(["fill", "big", "sync", "8"], on: 1)
            for node in 1...2 { try world.hold("near", "sync", on: node) }
            for node in 1...3 { try world.hold("far", "sync", on: node) }
            try world.lab.delay(.init(milliseconds: 50), on: 3)
            for node in 1...2 { try world.write("near", "sync", on: node) }
            try world.write("far", "sync", on: 3)
            try world.advance(by: 10)  // all have begun
            let far = try time { try world.advance([3], by: 10) }
            let near = try time { try world.advance([1, 2], by: 10) }
            #expect(far > .milliseconds(450), "ten writes of one round trip or more each: \(far)")
            #expect(near < far / 2, "\(near) here, \(far) there")
            // Much, in segments of the largest size, through the long cable.
            try world.hold("big", "sync", on: 3)
            try world.awaitEqual("big", [1, 3])
            try world.advance(by: 10)
            let lost = try #require(world.lab.carried(on: 3, plane: 0)?.lost)
            #expect(lost == 0)
            let kept = world.acknowledged
            try world.lab.kill(3)
            world.daemons[3] = nil
            try world.advance([1, 2])
            let found = try world.read("far", on: 1)
            #expect((found["w3"] ?? 0) >= kept[3] ?? 0, "what it was told is done is here")
            try world.stop([1, 2])
            try world.check("near", [1, 2])
            try world.lab.down()
        }

        private func time(_ body: () throws -> Void) rethrows -> Duration {
            let start = MonotonicClock.now()
            try body()
            return MonotonicClock.now() - start
        }

        @Test("A ckptd that was away for a moment is sent what it missed, not everything")
        func delta() throws {
            let world = try CkptWorld("test-delta")
            for node in 1...3 { try world.hold("c", "sync", on: node) }
            try world.write("c", "sync", on: 1, every: 20)
            try world.advance([1], by: 20)
            let active = try world.active("c", askedOn: 1)
            for node in [1, 2, 3] where node != active {
                let before = try world.copies(on: node)
                try world.kill(node)
                if node != 1 { try world.advance([1], by: 10) }
                try world.start(node)
                try world.advance([1], by: 10)
                try world.awaitCurrent("c", [1, 2, 3])
                #expect(try world.copies(on: node) == before, "node \(node)")
            }
            try world.stop([1])
            try world.awaitEqual("c", [1, 2, 3])
            try world.lab.down()
        }

        @Test("All ckptds killed at once, the active one stopped, a corosync killed: writers go on, nothing is lost")
        func daemons() throws {
            let world = try CkptWorld("test-ckptd")
            for node in 1...3 { try world.hold("c", "sync", on: node) }
            for node in 1...3 { try world.write("c", "sync", on: node) }
            try world.advance()
            for node in 1...3 { try world.kill(node) }
            for node in 1...3 { try world.start(node) }
            try world.advance()

            let active = try world.active("c", askedOn: 1)
            let others = [1, 2, 3].filter { $0 != active }
            try world.lab.signal(.stop, "ckptd", on: active)
            try world.advance(others)
            #expect(try world.active("c", askedOn: others[0]) != active)
            try world.lab.signal(.continue, "ckptd", on: active)
            try world.advance()

            try world.lab.endCorosync(on: 2, .kill)
            try world.advance([1, 3])
            try world.lab.startCorosync(on: 2)
            try world.advance()
            try world.stop([1, 2, 3])
            try world.check("c", [1, 2, 3])
            // Each writer has made its section, and then written.
            let executed = try world.change("c", on: 1)
            #expect(executed == world.acknowledged.values.reduce(3, +), "every request was executed once")
            try world.awaitEqual("c", [1, 2, 3])
            try world.lab.down()
        }

        @Test("A majority that lost its memory knows from its databases whom to wait for")
        func database() throws {
            let world = try CkptWorld("test-ckptdb")
            try world.write("safCkpt=lonely", "collocated-sync", on: 3)
            try world.advance([3])
            for node in [1, 2] { try world.awaitOnDisk("safCkpt=lonely", on: node) }
            try world.lab.isolate(3)
            for node in [1, 2] {
                try world.lab.kill(node)
                world.daemons[node] = nil
            }
            try world.lab.boot([1, 2])
            for node in [1, 2] { try world.start(node) }
            // Its name is known, so it is not made anew, and it is not read either.
            _ = try world.lab.wait(
                for: "the old name in the new directory", timeout: .seconds(90), every: .milliseconds(200)
            ) {
                try world.replicas("safCkpt=lonely", on: 1).contains { $0.hasPrefix("3 absent") } ? true : nil
            }
            try world.lab.heal()
            try world.advance([3])
            try world.stop([3])
            try world.check("safCkpt=lonely", [3])
            try world.lab.down()
        }

        @Test("An open ends with its process wherever that is; a name is unlinked from anywhere")
        func opens() throws {
            let world = try CkptWorld("test-opens")
            try world.hold("c", "brief", on: 1)
            try world.hold("c", "brief", on: 2)
            #expect(try !world.replicas("c", on: 3).isEmpty)
            try world.release(1)
            try world.kill(2)
            try world.release(2)  // while its ckptd is not there
            try world.start(2)
            _ = try world.lab.wait(for: "the end of c", timeout: .seconds(60), every: .milliseconds(100)) {
                try world.replicas("c", on: 3).isEmpty ? true : nil
            }
            try world.hold("d", "sync", on: 1)
            #expect(try world.ask(["unlink", "d"], on: 3) == ["done"])
            #expect(try world.ask(["unlink", "d"], on: 2) == ["SA_AIS_ERR_NOT_EXIST (does not exist)"])
            try world.hold("d", "async", on: 3)
            #expect(
                try world.ask(["open", "d", "sync"], on: 2) == ["SA_AIS_ERR_EXIST (exists already)"],
                "the new one has other attributes")
            try world.lab.down()
        }

        @Test("A hot standby on another node sees every update once, in order, over the death of the writer's node")
        func hotStandby() throws {
            let world = try CkptWorld("test-standby")
            try world.write("c", "sync", on: 1)
            try world.advance([1])
            try world.follow("c", "sync", on: 2)
            try world.follow("c", "sync", on: 3)
            try world.advance([1])
            try world.kill(3)
            try world.advance([1])
            try world.start(3)
            try world.advance([1])
            try world.kill(1)
            try world.start(1)
            try world.advance([1])
            try world.stop([1])
            let last = try world.change("c", on: 2)
            for node in [2, 3] { try world.awaitFollowed(last, on: node) }
            try world.lab.down()
        }

        @Test(
            "A new replica gets everything while writes go on; the active one is where it is set, and writes reach it")
        func copies() throws {
            let world = try CkptWorld("test-copy")
            try world.run(["fill", "c", "sync", "48"], on: 1)
            try world.write("c", "sync", on: 1)
            try world.advance([1])
            try world.write("c", "sync", on: 3)
            try world.hold("c", "sync", on: 3)
            try world.advance([1, 3])
            try world.stop([1, 3])
            try world.check("c", [1, 3])
            try world.awaitEqual("c", [1, 3])

            try world.hold("d", "collocated", on: 1)
            try world.activate("d", "collocated", on: 2)
            try world.write("d", "collocated", on: 3)
            try world.advance([3])
            try world.activate("d", "collocated", on: 1)
            try world.advance([3])
            try world.stop([3])
            try world.check("d", [3])
            try world.lab.down()
        }

        @Test("What is persistent is there after a power failure of one node, and of all while writers were at work")
        func persistent() throws {
            let world = try CkptWorld("test-ckpt-persist")
            for node in 1...3 { try world.write("p", "persistent", on: node) }
            try world.advance()
            let before = world.acknowledged
            try world.lab.kill(3)
            world.daemons[3] = nil
            try world.advance([1, 2])
            try world.lab.boot([3])
            try world.start(3)
            try world.write("p2", "persistent", on: 3)
            try world.advance()
            let kept = world.acknowledged
            for node in 1...3 {
                try world.lab.kill(node)
                world.daemons[node] = nil
            }
            try world.lab.boot([1, 2, 3])
            try world.lab.awaitFormed()
            for node in 1...3 { try world.start(node) }
            for node in 1...3 {
                let found = try world.read("p", on: node)
                for writer in 1...2 { #expect((found["w\(writer)"] ?? 0) >= kept[writer] ?? 0, "writer \(writer)") }
                #expect((found["w3"] ?? 0) >= before[3] ?? 0)
                #expect((try world.read("p2", on: node)["w3"] ?? 0) >= kept[3] ?? 0)
            }
            try world.lab.down()
        }

        @Test("After a power failure of all nodes the database on disk knows what there was, and that its data is lost")
        func coldStart() throws {
            let world = try CkptWorld("test-ckpt-cold")
            let name = "kept-over-power-failure"
            try world.hold(name, "sync", on: 1)
            for node in 1...3 { try world.awaitOnDisk(name, on: node) }
            for node in 1...3 {
                try world.lab.kill(node)
                world.daemons[node] = nil
            }
            try world.lab.boot([1, 2, 3])
            try world.lab.awaitFormed()
            for node in 1...2 { try world.start(node) }
            // Two of three wait for the third, and so does who asks.
            #expect(try world.ask(["open", "made-meanwhile", "sync"], on: 1) == ["done"])
            try world.start(3)
            let never = try world.lab.run(["ckptworker", "read", "never-made"], on: 2, timeout: .seconds(90))
            #expect(never.complaints.contains("does not exist"), "\(never.complaints)")
            let lost = try world.lab.run(["ckptworker", "read", name], on: 2, timeout: .seconds(90))
            #expect(
                !lost.isSuccess && lost.complaints.contains("data of checkpoint \(name) is lost"), "\(lost.complaints)")
            try world.hold(name, "sync", on: 3)
            #expect(try world.read(name, on: 2).isEmpty)
            try world.lab.down()
        }
    }
}

/// A lab of three nodes with a ckptd each, and what is done with them.
final class CkptWorld {
    private final class Writer {
        let pid: Int32
        private let counter: SharedFile

        init(
            _ lab: ClusterLab, _ name: String, _ kind: String, on node: Int, _ path: String, milliseconds: Int
        ) throws {
            counter = try SharedFile.create(path, size: 4096, mode: 0o600)
            let words = ["ckptworker", "write", name, kind, "w\(node)", path, "\(milliseconds)"]
            pid = try lab.spawn(words, on: node).pid
        }

        var acknowledged: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
        func stop() { counter.mapping.base.atomic(UInt64.self, at: 8).pointee.store(1, ordering: .releasing) }
    }

    let lab: ClusterLab
    var daemons: [Int: Int32] = [:]
    private var writers: [Int: Writer] = [:]
    private var files = 0

    /// - Parameter old: a node whose first ckptd is of the release before.
    init(_ name: String, old: Int? = nil) throws {
        var options = LabOptions()
        options.name = name
        lab = try ClusterLab.up(options)
        try lab.awaitFormed()
        for node in 1...3 { try start(node, environment: node == old ? ["SAF_WIRE=previous"] : []) }
    }

    func start(_ node: Int, environment: [String] = []) throws {
        let output = try File.openForAppending(lab.folder(of: node) + "/log/ckptd.out")
        daemons[node] =
            try lab.spawn(
                ["ckptd"], on: node,
                descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)],
                environment: ["SAF_LOG_STDERR=1"] + environment
            ).pid
    }

    func kill(_ node: Int) throws {
        guard let pid = daemons.removeValue(forKey: node) else { return }
        try Process.kill(pid, .kill)
        _ = try lab.wait(for: "the end of ckptd on node \(node)", timeout: .seconds(30)) { Process.reap(pid) }
    }

    // MARK: Workers

    /// - Parameter milliseconds: from one write to the next.
    func write(_ name: String, _ kind: String, on node: Int, every milliseconds: Int = 1) throws {
        files += 1
        let path = lab.folder(of: node) + "/counter\(files)"
        writers[node] = try Writer(lab, name, kind, on: node, path, milliseconds: milliseconds)
    }

    /// How often a ckptd of this node has said that a replica is copied.
    func copies(on node: Int) throws -> Int {
        let text = try File.readText(lab.folder(of: node) + "/log/ckptd.out", limit: 1 << 26)
        return text.split(separator: "\n").count { $0.contains("is copied anew") }
    }

    /// A worker that says "ready" when it has done its part.
    func run(_ arguments: [String], on node: Int) throws {
        let worker = try LabProcess(lab, ["ckptworker"] + arguments, on: node)
        holders.append(worker)
        _ = try lab.wait(for: "\(arguments) on node \(node)", timeout: .seconds(60)) {
            try worker.listen()
            return worker.lines.contains("ready") ? true : nil
        }
    }
    private var holders: [LabProcess] = []

    /// Ends the workers that hold something open on a node.
    func release(_ node: Int) throws {
        for worker in holders where worker.node == node { worker.kill() }
        holders.removeAll { $0.node == node }
    }

    func hold(_ name: String, _ kind: String, on node: Int) throws { try run(["hold", name, kind], on: node) }
    func activate(_ name: String, _ kind: String, on node: Int) throws { try run(["activate", name, kind], on: node) }

    func follow(_ name: String, _ kind: String, on node: Int) throws {
        _ = try lab.spawn(["ckptworker", "follow", name, kind, lab.folder(of: node) + "/followed"], on: node)
        _ = try lab.wait(for: "the follower on node \(node)", timeout: .seconds(60)) {
            followed(node).isEmpty ? nil : true
        }
    }

    func watch(_ name: String, _ kind: String, on node: Int) throws {
        let path = lab.folder(of: node) + "/watched"
        try File.writeAtomically(path, [], durable: false)
        _ = try lab.spawn(["ckptworker", "watch", name, kind, path], on: node)
    }

    /// Until the last that was told begins so.
    func awaitWatched(_ prefix: String, on node: Int) throws {
        let path = lab.folder(of: node) + "/watched"
        _ = try lab.wait(for: "'\(prefix)' on node \(node)", timeout: .seconds(60)) {
            let lines = try File.readText(path, limit: 1 << 20).split(separator: "\n")
            return lines.last?.hasPrefix(prefix) == true ? true : nil
        }
    }

    private func followed(_ node: Int) -> [String] {
        ((try? File.readText(lab.folder(of: node) + "/followed", limit: 1 << 26)) ?? "")
            .split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }

    /// Every update from the first snapshot to that change, each once and in order.
    func awaitFollowed(_ change: UInt64, on node: Int) throws {
        _ = try lab.wait(for: "update \(change) on node \(node)", timeout: .seconds(60)) {
            followed(node).last == "update \(change)" ? true : nil
        }
        let lines = followed(node)
        let first = try #require(UInt64(lines[0].split(separator: " ")[1]))
        #expect(lines == ["snapshot \(first)"] + ((first + 1)...change).map { "update \($0)" }, "node \(node)")
    }

    var acknowledged: [Int: UInt64] { writers.mapValues(\.acknowledged) }

    /// Every writer has so many more acknowledged.
    func advance(_ nodes: [Int] = [1, 2, 3], by count: UInt64 = 50) throws {
        let goals = nodes.map { (writers[$0]?.acknowledged ?? 0) + count }
        do {
            _ = try lab.wait(for: "\(count) more acknowledged on \(nodes)", timeout: .seconds(60)) {
                zip(nodes, goals).allSatisfy { (writers[$0]?.acknowledged ?? 0) >= $1 } ? true : nil
            }
        } catch let error as LabError {
            throw LabError("\(error.description); they have \(acknowledged)")
        }
    }

    func stop(_ nodes: [Int]) throws {
        for node in nodes { writers[node]?.stop() }
        for node in nodes {
            guard let writer = writers[node] else { continue }
            let status = try lab.wait(for: "the end of the writer on node \(node)", timeout: .seconds(60)) {
                Process.reap(writer.pid)
            }
            #expect(status == .exited(code: 0), "the writer on node \(node)")
        }
    }

    // MARK: What is there

    func ask(_ arguments: [String], on node: Int) throws -> [String] {
        let result = try lab.run(["ckptworker"] + arguments, on: node, timeout: .seconds(90))
        guard result.isSuccess else { throw LabError("\(arguments) on node \(node): \(result.complaints)") }
        return result.output.split(separator: "\n").map(String.init)
    }

    /// How many numbers each section of the active replica has; each must have all from 0 on.
    func read(_ name: String, on node: Int) throws -> [String: UInt64] {
        var found: [String: UInt64] = [:]
        for line in try ask(["read", name], on: node) {
            let words = line.split(separator: " ")
            guard words.count == 3 else { continue }
            #expect(words[2] == "intact", "\(line)")
            found[String(words[0])] = UInt64(words[1])
        }
        return found
    }

    func replicas(_ name: String, on node: Int) throws -> [String] { try ask(["replicas", name], on: node) }

    func active(_ name: String, askedOn node: Int) throws -> Int {
        try lab.wait(for: "the active replica of \(name)", timeout: .seconds(60), every: .milliseconds(50)) {
            let line = try replicas(name, on: node).first { $0.hasSuffix("active") }
            return line.flatMap { $0.split(separator: " ").first }.flatMap { Int($0) }
        }
    }

    func change(_ name: String, on node: Int) throws -> UInt64 {
        let line = try ask(["read", name], on: node).last ?? ""
        return try #require(UInt64(line.split(separator: " ").last ?? ""), "\(line)")
    }

    /// Everything that was acknowledged to the writers of these nodes is read everywhere.
    func check(_ name: String, _ nodes: [Int]) throws {
        let known = acknowledged
        for node in nodes {
            let found = try read(name, on: node)
            for writer in nodes {
                #expect((found["w\(writer)"] ?? 0) >= known[writer] ?? 0, "node \(node) of the writer on \(writer)")
            }
        }
    }

    /// The database of the directory has that name; nothing else says so from outside.
    func awaitOnDisk(_ name: String, on node: Int) throws {
        let wanted = Array(name.utf8)
        _ = try lab.wait(for: "\(name) on the disk of node \(node)", timeout: .seconds(60)) { () -> Bool? in
            let path = lab.folder(of: node) + "/state/checkpoints-wal"
            guard let bytes = try? File.readAll(path), let first = wanted.first else { return nil }
            let isThere = bytes.indices.contains { start in
                bytes[start] == first && bytes[start...].starts(with: wanted)
            }
            return isThere ? true : nil
        }
    }

    func awaitCurrent(_ name: String, _ nodes: [Int]) throws {
        _ = try lab.wait(for: "current replicas of \(name)", timeout: .seconds(60), every: .milliseconds(200)) {
            let replicas = try replicas(name, on: nodes[0])
            return nodes.allSatisfy { node in replicas.contains { $0.hasPrefix("\(node) current") } } ? true : nil
        }
    }

    /// The replicas of these nodes are current and have the same data.
    func awaitEqual(_ name: String, _ nodes: [Int]) throws {
        try awaitCurrent(name, nodes)
        _ = try lab.wait(for: "equal replicas of \(name) on \(nodes)", timeout: .seconds(60), every: .milliseconds(200))
        {
            let first = try ask(["local", name], on: nodes[0])
            return try nodes.dropFirst().allSatisfy { try ask(["local", name], on: $0) == first } ? true : nil
        }
    }
}
