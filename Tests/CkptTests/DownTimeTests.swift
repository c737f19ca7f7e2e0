import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptEngine

/// What is closed while nobody can be told.
@Suite("Closed while ckptd is away", .serialized)
struct DownTimeTests {
    private func openers(_ name: SaName, _ service: CheckpointService) throws -> Int {
        try service.list(timeout: .seconds(30)).checkpoints.first { $0.name == name }?.openers.count ?? 0
    }

    @Test("A checkpoint that is closed, and one that is let go, are closed when ckptd is back; others stay open")
    func checkpoint() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let names = ["safCkpt=closed", "safCkpt=blocking", "safCkpt=gone", "safCkpt=kept"].compactMap { SaName($0) }
        var open: [Checkpoint?] = []
        for name in names {
            open.append(try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: service))
        }
        harness.kill()
        // TIMEOUT: the death was not heard of before the request had left.
        await #expect { try await open[0]?.close(timeout: .milliseconds(1)) } throws: {
            [.tryAgain, .timeout].contains($0 as? AisError)
        }
        #expect { try open[1]?.closeBlocking(timeout: .milliseconds(1)) } throws: {
            [.tryAgain, .timeout].contains($0 as? AisError)
        }
        open[2] = nil
        try harness.start()
        let other = harness.service()
        for name in names.dropLast() {
            // The first to come is told already: nobody of ours had to come back for it.
            #expect(try openers(name, other) == 0, "\(name)")
        }
        #expect(try openers(names[3], other) == 1)
        #expect(try await open[3]?.status(timeout: .seconds(30)).attributes == DaemonHarness.attributes())
    }

    @Test("A service that is closed has nothing open when ckptd is back, and never comes back itself")
    func service() async throws {
        let harness = try DaemonHarness()
        let name = SaName("safCkpt=farewell")!
        let service = harness.service()
        let kept = harness.service()
        _ = try await Checkpoint.open(name, creating: DaemonHarness.attributes(retention: 0), in: service)
        let checkpoint = try await Checkpoint.open("safCkpt=kept", creating: DaemonHarness.attributes(), in: kept)
        harness.kill()
        service.close()
        try harness.start()
        let other = harness.service()
        #expect(try other.list(timeout: .seconds(30)).checkpoints.map(\.name) == [checkpoint.name], "deleted, too")
        #expect(try openers(checkpoint.name, other) == 1)
    }

    @Test("What ckptd dies before reading is closed all the same: a close, a service's close, a service that is let go")
    func unread() async throws {
        let harness = try DaemonHarness()
        let names = ["safCkpt=told", "safCkpt=service", "safCkpt=let go", "safCkpt=kept"].compactMap { SaName($0) }
        var services: [CheckpointService?] = names.map { _ in harness.service() }
        var open: [Checkpoint?] = []
        for (name, service) in zip(names, services) {
            open.append(
                try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: try #require(service)))
        }
        let kept = try #require(open[3])
        harness.freeze()
        open[0] = nil
        services[1]?.close()
        (open[1], open[2], services[2]) = (nil, nil, nil)
        harness.kill()
        try harness.start()
        let other = harness.service()
        // The first to come is told: there are marks.
        #expect(try openers(names[1], other) == 0)
        #expect(try openers(names[2], other) == 0)
        let deadline = MonotonicClock.now() + .seconds(60)
        while try openers(names[0], other) > 0 { try #require(MonotonicClock.now() < deadline) }
        #expect(try openers(names[3], other) == 1)
        #expect(try await kept.status(timeout: .seconds(30)).attributes == DaemonHarness.attributes())
    }

    @Test("A service that is closed ends what goes on, and takes its mark back when ckptd has answered")
    func answered() async throws {
        let harness = try DaemonHarness()
        let name = SaName("safCkpt=farewell")!
        for _ in 0..<10 {
            let service = harness.service()
            let checkpoint = try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: service)
            let updates = checkpoint.updates, replicas = checkpoint.replicaChanges
            async let events = updates.reduce(0) { count, _ in count + 1 }
            async let states = replicas.reduce(0) { count, _ in count + 1 }
            service.close()
            service.close()
            #expect(await events <= 1)
            #expect(await states <= 1)
            await #expect(throws: AisError.badHandle) { try await checkpoint.read() }
            await #expect(throws: AisError.badHandle) { try await Checkpoint.open(name, in: service) }
        }
        let inode = try File.stat("\(harness.places.runDirectory)\(ClosedMark.file)").inode
        func marks() throws -> Int {
            try File.readText("/proc/locks").split(separator: "\n").filter {
                $0.contains("POSIX") && $0.contains(":\(inode) ") && $0.contains(" \(Environment.processID) ")
            }.count
        }
        let deadline = MonotonicClock.now() + .seconds(30)
        while try marks() > 0 { try #require(MonotonicClock.now() < deadline) }
    }

    @Test("A mark counts only if it is by the process that has the open")
    func foreign() async throws {
        let harness = try DaemonHarness()
        let name = SaName("safCkpt=other")!
        let holder = try Process.spawn(holderOptions(harness, name))
        defer {
            _ = try? Process.kill(holder.pid, .kill)
            while Process.reap(holder.pid) == nil { OSAL.pause() }
        }
        let other = harness.service()
        let deadline = MonotonicClock.now() + .seconds(60)
        while try openers(name, other) == 0 { try #require(MonotonicClock.now() < deadline) }
        let handle = try #require(try other.list().checkpoints.first { $0.name == name }?.openers.first?.handle)
        harness.kill()
        #expect(
            ProcessMarks.mark(ClosedMark.number(of: handle), in: "\(harness.places.runDirectory)\(ClosedMark.file)"))
        try harness.start()
        #expect(try openers(name, other) == 1)
    }

    private func holderOptions(_ harness: DaemonHarness, _ name: SaName) throws -> SpawnOptions {
        let tests = try #require(Environment.executablePath)
        var options = SpawnOptions(
            path: File.parent(of: tests) + "/ckptworker", arguments: ["ckptworker", "hold", name.description, "sync"],
            environment: Environment.all + harness.places.environment)
        options.deathSignal = .kill
        return options
    }

    @Test("The engine closes what was abandoned, and nothing else; the last one begins the retention")
    func engine() throws {
        var world = EngineWorld()
        let first = try world.open([.read, .write], EngineWorld.attributes())
        let second = try world.open()
        world.feed(.abandoned([first]))
        #expect(throws: AisError.badHandle) { _ = try world.ask(.status(first)).get() }
        _ = try world.ask(.status(second)).get()
        world.feed(.abandoned([second, first]))
        #expect(world.timers.keys.contains { if case .retention = $0 { true } else { false } })
    }
}
