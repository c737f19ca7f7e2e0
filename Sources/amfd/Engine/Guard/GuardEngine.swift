import EngineKit

/// Decides for the guard: when amfd is started again, when it is given up, when the guard itself ends.
///
/// | state | amfd died | timer | stop asked | spawn failed | reload asked |
/// |---|---|---|---|---|---|
/// | running | start again (at once, or after the back-off) | – | SIGTERM to amfd → stopping | – | SIGHUP to amfd |
/// | waiting | – | start | end | – | – |
/// | starting | as running | – | as running | wait for the back-off | as running |
/// | stopping | end | SIGKILL to amfd → killing | – | end | – |
/// | killing | sweep the components, end | – | – | end | – |
public struct GuardEngine: Engine, Hashable, Sendable {
    public enum Event: Hashable, Sendable {
        case begin
        /// A running amfd is taken over instead of starting one.
        case adopted
        case spawned
        case spawnFailed(String)
        /// `nil`: died in a way whose status cannot be read (an adopted amfd is not our child).
        case died(Ending?)
        case timer
        case stopRequested
        /// The model was changed on disk.
        case reloadRequested
    }

    public enum Ending: Hashable, Sendable {
        case exited(Int32)
        case signaled(Int32)
        /// Not our child, but it had noted that it stopped in order.
        case orderly
    }

    public enum Effect: Hashable, Sendable {
        case spawn
        case startTimer(Duration)
        case cancelTimer
        case terminate
        case kill
        /// Passes the request to read the model again on.
        case reload
        /// Ends every component that the children table still names.
        case sweep
        case say(String)
        case exit(Int32)
    }

    public enum State: Hashable, Sendable { case idle, starting, running, waiting, stopping, killing, ended }

    /// amfd says with this exit code that starting it again would not help (bad arguments, a second amfd).
    public static let permanentExitCode: Int32 = 100

    /// An amfd that lives this long counts as healthy; its death is answered without delay.
    public static let healthyLife: Duration = .seconds(1)
    static let delays: [Duration] = [
        .zero, .zero, .milliseconds(10), .milliseconds(50), .milliseconds(200), .milliseconds(500), .seconds(1),
        .seconds(5),
    ]

    public private(set) var state: State = .idle
    public private(set) var quickDeaths = 0
    private var startedAt = Instant.start
    private let stopDeadline: Duration

    /// - Parameter stopDeadline: how long amfd may take to stop everything before it is killed.
    public init(stopDeadline: Duration) { self.stopDeadline = stopDeadline }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        switch state {
        case .idle: return begin(event, now)
        case .starting, .running: return runningHandles(event, now)
        case .waiting: return waitingHandles(event, now)
        case .stopping: return stoppingHandles(event)
        case .killing: return killingHandles(event)
        case .ended: return []
        }
    }

    private mutating func begin(_ event: Event, _ now: Instant) -> [Effect] {
        switch event {
        case .begin: return start()
        case .adopted:
            state = .running
            startedAt = now
            return []
        case .stopRequested: return end(0)
        case .spawned, .spawnFailed, .died, .timer, .reloadRequested: return []
        }
    }

    private mutating func runningHandles(_ event: Event, _ now: Instant) -> [Effect] {
        switch event {
        case .spawned:
            state = .running
            startedAt = now
            return []
        case .spawnFailed(let reason):
            quickDeaths += 1
            return retry(because: "cannot start amfd: \(reason)")
        case .died(let ending): return amfdDied(ending, now)
        case .stopRequested:
            state = .stopping
            return [.terminate, .startTimer(stopDeadline)]
        case .reloadRequested: return [.reload]
        case .begin, .adopted, .timer: return []
        }
    }

    private mutating func waitingHandles(_ event: Event, _ now: Instant) -> [Effect] {
        switch event {
        case .timer: return start()
        case .stopRequested: return [.cancelTimer, .sweep] + end(0)
        case .begin, .adopted, .spawned, .spawnFailed, .died, .reloadRequested: return []
        }
    }

    private mutating func stoppingHandles(_ event: Event) -> [Effect] {
        switch event {
        case .died(.exited(0)), .died(.orderly): return [.cancelTimer] + end(0)
        case .died, .spawnFailed: return [.cancelTimer, .sweep] + end(1)
        case .timer:
            state = .killing
            return [.say("amfd did not stop within \(stopDeadline); it is killed, and what it started with it"), .kill]
        case .begin, .adopted, .spawned, .stopRequested, .reloadRequested: return []
        }
    }

    private mutating func killingHandles(_ event: Event) -> [Effect] {
        switch event {
        case .died, .spawnFailed: return [.sweep] + end(1)
        case .begin, .adopted, .spawned, .timer, .stopRequested, .reloadRequested: return []
        }
    }

    private mutating func amfdDied(_ ending: Ending?, _ now: Instant) -> [Effect] {
        let lived = now - startedAt
        switch ending {
        case .exited(0), .orderly: return end(0)
        case .exited(Self.permanentExitCode): return end(Self.permanentExitCode)
        case .exited, .signaled, nil: break
        }
        quickDeaths = lived >= Self.healthyLife ? 0 : quickDeaths + 1
        let cause =
            switch ending {
            case .exited(let code): "exited with status \(code)"
            case .signaled(let signal): "was killed by signal \(signal)"
            case .orderly, nil: "ended"
            }
        return retry(because: "amfd \(cause) after \(Self.text(lived))")
    }

    private mutating func retry(because cause: String) -> [Effect] {
        let delay = Self.delays[min(quickDeaths, Self.delays.count - 1)]
        if delay == .zero { return [.say("\(cause); starting it again")] + start() }
        state = .waiting
        let count = "\(quickDeaths) times in a row"
        return [.say("\(cause), \(count); starting it again in \(Self.text(delay))"), .startTimer(delay)]
    }

    private mutating func start() -> [Effect] {
        state = .starting
        return [.spawn]
    }

    private mutating func end(_ code: Int32) -> [Effect] {
        state = .ended
        return [.exit(code)]
    }

    static func text(_ duration: Duration) -> String {
        let milliseconds = duration.nanoseconds / 1_000_000
        return milliseconds < 1_000 ? "\(milliseconds) ms" : "\(milliseconds / 1_000).\(milliseconds % 1_000 / 100) s"
    }
}
