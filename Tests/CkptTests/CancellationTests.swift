import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptClient
@testable import IOC

@Suite("Cancelled tasks, real processes", .serialized)
struct CancellationTests {
    private static let attributes = CreationAttributes(
        flags: .writeAllReplicas, checkpointSize: 1 << 14, retentionDuration: .saTimeEnd, sectionsMax: 4,
        sectionSizeMax: 1 << 12)

    private static func outcome(_ body: () async throws(AisError) -> Void) async -> AisError? {
        do throws(AisError) {
            try await body()
            return nil
        } catch {
            return error
        }
    }

    /// Cancels it when its call is on its way.
    private static func cancel(_ task: Task<AisError?, Never>, in service: CheckpointService) async throws -> AisError?
    {
        let deadline = MonotonicClock.now() + .seconds(30)
        let connection = service.connection
        while connection.lock.withLock({ _ in
            connection.calls.inOrder.allSatisfy { $0.completion == nil || $0.isAbandoned }
        }) {
            try #require(MonotonicClock.now() < deadline, "no call is under way")
            await Task.yield()
        }
        task.cancel()
        return await task.value
    }

    @Test("With ckptd stopped a cancelled call ends at once; the checkpoint goes on when ckptd does")
    func calls() async throws {
        let harness = try DaemonHarness()
        defer { harness.thaw() }
        let service = harness.service()
        let name = try #require(SaName("safCkpt=cancelled"))
        let checkpoint = try await Checkpoint.open(name, creating: Self.attributes, timeout: .seconds(30), in: service)
        try await checkpoint.createSection("a", [1], timeout: .seconds(30))
        let start = MonotonicClock.now()
        harness.freeze()
        let write = Task {
            await Self.outcome { () async throws(AisError) in
                try await checkpoint.overwrite("a", [2], timeout: .seconds(300))
            }
        }
        #expect(try await Self.cancel(write, in: service) == .interrupt)
        let status = Task {
            await Self.outcome { () async throws(AisError) in
                _ = try await checkpoint.status(timeout: .seconds(300))
            }
        }
        #expect(try await Self.cancel(status, in: service) == .interrupt)
        harness.thaw()
        // It was sent before it was cancelled, or not.
        let found = try await checkpoint.read("a", timeout: .seconds(30))
        #expect(found == [1] || found == [2])
        try await checkpoint.overwrite("a", [3], timeout: .seconds(30))
        #expect(try await checkpoint.read("a", timeout: .seconds(30)) == [3])
        #expect(MonotonicClock.now() - start < .seconds(150))
    }

    @Test("What is opened or closed by a cancelled task is closed in the end")
    func opens() async throws {
        let harness = try DaemonHarness()
        defer { harness.thaw() }
        let service = harness.service()
        let name = try #require(SaName("safCkpt=cancelled"))
        let checkpoint = try await Checkpoint.open(name, creating: Self.attributes, timeout: .seconds(30), in: service)
        harness.freeze()
        let open = Task {
            await Self.outcome { () async throws(AisError) in
                _ = try await Checkpoint.open(name, timeout: .seconds(300), in: service)
            }
        }
        #expect(try await Self.cancel(open, in: service) == .interrupt)
        let close = Task {
            await Self.outcome { () async throws(AisError) in
                try await checkpoint.close(timeout: .seconds(300))
            }
        }
        #expect(try await Self.cancel(close, in: service) == .interrupt)
        harness.thaw()
        let other = harness.service()
        let deadline = MonotonicClock.now() + .seconds(30)
        while true {
            let openers = try other.list(timeout: .seconds(30)).checkpoints.first { $0.name == name }?.openers
            if openers?.isEmpty == true { break }
            try #require(MonotonicClock.now() < deadline, "\(String(describing: openers))")
            await Task.yield()
        }
    }
}
