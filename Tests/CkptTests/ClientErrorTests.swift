import CkptClient
import CkptProtocol
import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Testing

/// Errors that every function has, and where they come from.
@Suite("Errors of the client, a real process", .serialized)
struct ClientErrorTests {
    private static let name = SaName("safCkpt=errors")!

    @Test("A0.3 after close every function is BAD_HANDLE, close itself too; another open is not concerned")
    func afterClose() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let checkpoint = try await Checkpoint.open(Self.name, creating: DaemonHarness.attributes(), in: service)
        let other = try await Checkpoint.open(Self.name, in: service)
        try await checkpoint.put("a", [1])
        let mirror = checkpoint.mirror("a")
        try await checkpoint.close()
        let calls: [(String, () async throws(AisError) -> Void)] = [
            ("close", { () async throws(AisError) in try await checkpoint.close() }),
            ("closeBlocking", { () async throws(AisError) in try checkpoint.closeBlocking() }),
            ("read", { () async throws(AisError) in _ = try await checkpoint.read("a") }),
            ("readBlocking", { () async throws(AisError) in _ = try checkpoint.readBlocking("a") }),
            ("readAll", { () async throws(AisError) in _ = try await checkpoint.readAll() }),
            ("readAllBlocking", { () async throws(AisError) in _ = try checkpoint.readAllBlocking() }),
            ("write", { () async throws(AisError) in try await checkpoint.write("a", at: 0, [1]) }),
            ("writeBlocking", { () async throws(AisError) in try checkpoint.writeBlocking("a", at: 0, [1]) }),
            ("batch", { () async throws(AisError) in try await checkpoint.write { $0.delete("a") } }),
            ("overwrite", { () async throws(AisError) in try await checkpoint.overwrite("a", [1]) }),
            ("put", { () async throws(AisError) in try await checkpoint.put("a", [1]) }),
            ("mirror", { () async throws(AisError) in try await mirror.overwrite([1]) }),
            ("createSection", { () async throws(AisError) in try await checkpoint.createSection("b") }),
            ("deleteSection", { () async throws(AisError) in try await checkpoint.deleteSection("a") }),
            ("setExpiration", { () async throws(AisError) in try await checkpoint.setExpiration("a", .saTimeEnd) }),
            ("sections", { () async throws(AisError) in _ = try await checkpoint.sections() }),
            (
                "iterate",
                { () async throws(AisError) in
                    var iteration = checkpoint.iterate()
                    _ = try iteration.next()
                }
            ),
            ("contains", { () async throws(AisError) in _ = try await checkpoint.contains("a") }),
            ("describe", { () async throws(AisError) in _ = try await checkpoint.describe("a") }),
            ("status", { () async throws(AisError) in _ = try await checkpoint.status() }),
            ("setRetentionDuration", { () async throws(AisError) in try await checkpoint.setRetentionDuration(1) }),
            ("setActiveReplica", { () async throws(AisError) in try await checkpoint.setActiveReplica() }),
            ("synchronize", { () async throws(AisError) in try await checkpoint.synchronize() }),
            ("replicas", { () async throws(AisError) in _ = try await checkpoint.replicas() }),
            ("value", { () async throws(AisError) in _ = try await checkpoint.value(of: "a", as: Int.self) }),
        ]
        for (what, call) in calls {
            var error: AisError?
            do throws(AisError) { try await call() } catch let caught { error = caught }
            #expect(error == .badHandle, "\(what)")
        }
        #expect(await checkpoint.updates.first { _ in true } == nil)
        #expect(await checkpoint.replicaChanges.first { _ in true } == nil)
        #expect(try await other.read("a") == [1])
    }

    @Test("Without ckptd a call ends within its timeout: TRY_AGAIN when it was not sent, never a hang")
    func noDaemon() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let checkpoint = try await Checkpoint.open(Self.name, creating: DaemonHarness.attributes(), in: service)
        harness.kill()
        // Not on the threads of all tests: others may block those for as long as they like.
        try await withTaskExecutorPreference(OwnThread()) {
            let begin = MonotonicClock.now()
            for isAsync in [true, false] {
                var error: AisError?
                do throws(AisError) {
                    if isAsync {
                        _ = try await checkpoint.status(timeout: .milliseconds(200))
                    } else {
                        _ = try checkpoint.statusBlocking(timeout: .milliseconds(200))
                    }
                } catch let caught { error = caught }
                #expect(error == .tryAgain || error == .timeout, "\(String(describing: error))")
            }
            let fresh = harness.service()
            var error: AisError?
            do throws(AisError) {
                _ = try Checkpoint.openBlocking(Self.name, timeout: .milliseconds(200), in: fresh)
            } catch let caught { error = caught }
            #expect(error == .tryAgain, "nothing was sent")
            #expect(MonotonicClock.now() - begin < .seconds(30))
        }
        try harness.start()
        #expect(try await checkpoint.status(timeout: .seconds(30)).attributes == DaemonHarness.attributes())
    }

    @Test("A1.4 ACCESS: what an open was not for is refused, each function by its own right")
    func access() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let writer = try await Checkpoint.open(Self.name, [.write], creating: DaemonHarness.attributes(), in: service)
        let reader = try await Checkpoint.open(Self.name, [.read], in: service)
        let neither = try await Checkpoint.open(Self.name, [], creating: DaemonHarness.attributes(), in: service)
        try await writer.put("a", [1])
        for checkpoint in [reader, neither] {
            await #expect(throws: AisError.access) { try await checkpoint.put("a", [1]) }
            await #expect(throws: AisError.access) { try await checkpoint.write("a", at: 0, [1]) }
            await #expect(throws: AisError.access) { try await checkpoint.overwrite("a", [1]) }
            await #expect(throws: AisError.access) { try await checkpoint.createSection("b") }
            await #expect(throws: AisError.access) { try await checkpoint.deleteSection("a") }
            await #expect(throws: AisError.access) { try await checkpoint.setExpiration("a", 1) }
            await #expect(throws: AisError.access) { try await checkpoint.synchronize() }
            await #expect(throws: AisError.access) { try await checkpoint.setActiveReplica() }
        }
        for checkpoint in [writer, neither] {
            await #expect(throws: AisError.access) { try await checkpoint.read("a") }
            #expect(throws: AisError.access) { try checkpoint.readBlocking("a") }
            await #expect(throws: AisError.access) { try await checkpoint.readAll() }
        }
        for checkpoint in [reader, writer, neither] {
            #expect(try await checkpoint.status().sectionCount == 1, "any open mode")
            #expect(try await checkpoint.sections().map(\.id) == ["a"])
            #expect(try await checkpoint.contains("a"))
            try await checkpoint.setRetentionDuration(.saTimeEnd)
        }
    }
}

/// A thread for tasks whose time is measured.
private final class OwnThread: TaskExecutor {
    private let loop: Loop
    private let thread: OSThread

    init() throws {
        let loop = try Loop(name: "own-thread")
        self.loop = loop
        thread = try OSThread.spawn(name: "own-thread", stackSize: 1 << 20) { loop.run() }
    }

    deinit { loop.stop() }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.post(.normal) { [self] in job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
