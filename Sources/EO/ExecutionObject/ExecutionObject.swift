public import CliClient
public import CliProtocol
import EngineKit
public import OSAL
import SAFTypes
import Synchronization

/// The run time of an application's process: its console commands and what watches over it.
///
/// One in every process. Commands appear on the console under the component's DN (`SA_AMF_COMPONENT_NAME`; any short
/// form of it does), or under the program's name when it was started by hand. Any thread.
public final class ExecutionObject: Sendable {
    public static let shared = ExecutionObject(places: .fromEnvironment(), name: defaultName)

    /// What the console calls it.
    public let name: String
    private let commands: CommandRegistry
    private let startedAt = MonotonicClock.now()
    private let monitor = Mutex(JobMonitor())
    private let hasBasics = Mutex(false)

    public init(places: Places, name: String) {
        self.name = name
        commands = CommandRegistry(owner: name, places: places)
    }

    /// Offers a command on the console; one of the same name is replaced.
    ///
    /// - Parameter handler: runs on the library's thread and must not block; it may keep the reply and answer later,
    ///   from any thread or task. What it never answers is answered as failed.
    public func register(_ spec: CommandSpec, _ handler: @escaping CommandRegistry.Handler) {
        attach()
        commands.register(spec, handler)
    }

    /// Offers `info` and `jobs`, as every component does once it is registered; a second call does nothing.
    public func attach() {
        let isFirst = hasBasics.withLock { has in
            defer { has = true }
            return !has
        }
        if isFirst { registerBasics() }
    }

    /// Says that a job has begun that should not take longer than `limit`; ended by ``JobTicket/end()``.
    ///
    /// A job that takes longer is told on the console (`jobs`) and makes ``isHealthy`` false, for the health check.
    public func begin(_ job: String, limit: Duration) -> JobTicket {
        let now = MonotonicClock.now()
        let thread = OSThread.currentID
        let number = monitor.withLock { $0.begin(job, thread: thread, at: now, limit: limit) }
        return JobTicket { [weak self] in self?.monitor.withLock { $0.end(number) } }
    }

    /// Runs `body` as a job that should not take longer than `limit`.
    public func monitored<Value, Failure: Error>(
        _ job: String, limit: Duration, _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let ticket = begin(job, limit: limit)
        defer { ticket.end() }
        return try body()
    }

    /// No job is past its limit.
    public var isHealthy: Bool { monitor.withLock { $0.stuck(at: MonotonicClock.now()).isEmpty } }

    /// The component's DN, or the program's name.
    private static var defaultName: String {
        if let component = Environment.get("SA_AMF_COMPONENT_NAME"), !component.isEmpty { return component }
        let path = Environment.executablePath ?? "program"
        return path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    private func registerBasics() {
        let startedAt = startedAt
        commands.register(CommandSpec(name: "info", help: "Shows the process: pid, time since its start, memory.")) {
            _, reply in
            let pid = Environment.processID
            let seconds = (MonotonicClock.now() - startedAt).nanoseconds / 1_000_000_000
            let memory = Process.residentBytes(of: pid) ?? 0
            reply.either(
                text: "pid \(pid), up \(seconds) s, \(memory >> 10) KiB of memory",
                json: [
                    "pid": .integer(Int64(pid)), "uptimeSeconds": .integer(seconds),
                    "residentBytes": .integer(Int64(memory)),
                ])
        }
        commands.register(
            CommandSpec(name: "jobs", help: "Lists running jobs that are watched, the stuck ones marked.")
        ) {
            [weak self] _, reply in
            let now = MonotonicClock.now()
            let jobs = self?.monitor.withLock { $0.running } ?? []
            reply.either(text: Self.text(jobs, now), json: .array(jobs.map { Self.json($0, now) }))
        }
    }

    private static func text(_ jobs: [JobMonitor.Job], _ now: Instant) -> String {
        if jobs.isEmpty { return "no watched job is running" }
        return jobs.map { job in
            let mark = job.isStuck(at: now) ? "STUCK " : ""
            return "\(mark)\(job.name): for \(now - job.begunAt) on thread \(job.thread), limit \(job.limit)"
        }.joined(separator: "\n")
    }

    private static func json(_ job: JobMonitor.Job, _ now: Instant) -> JSONValue {
        [
            "job": .string(job.name), "thread": .integer(Int64(job.thread)), "stuck": .bool(job.isStuck(at: now)),
            "forNanoseconds": .integer((now - job.begunAt).nanoseconds),
            "limitNanoseconds": .integer(job.limit.nanoseconds),
        ]
    }
}

/// A job that is being watched; ends with ``end()``, or when it is forgotten.
public final class JobTicket: Sendable {
    private let finish: Mutex<(@Sendable () -> Void)?>

    init(_ finish: @escaping @Sendable () -> Void) { self.finish = Mutex(finish) }

    deinit { end() }

    /// Idempotent.
    public func end() {
        let finish = self.finish.withLock { slot in
            defer { slot = nil }
            return slot
        }
        finish?()
    }
}
