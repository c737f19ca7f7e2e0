import Synchronization

/// The thread that starts those who are not to outlive this process.
///
/// The kernel sends a child its death signal when the *thread* that started it ends, and the threads of a pool come and
/// go; this one stays. Source: PR_SET_PDEATHSIG(2const).
final class StarterThread: Sendable {
    private typealias Outcome = Result<(pid: Int32, pidfd: Int32), OSError>

    private struct Meeting: Sendable {
        var options: SpawnOptions?
        var caller: Int32 = 0
        var outcome: Outcome?
    }

    private static let instance = Mutex<StarterThread?>(nil)

    private let meeting = Monitor(Meeting())

    private init() throws(OSError) {
        _ = try OSThread.spawn(name: "saf-starter") { [meeting] in while true { Self.serve(meeting) } }
    }

    /// As ``Process/spawn(_:)``; one at a time.
    static func start(_ options: SpawnOptions) throws(OSError) -> SpawnedProcess {
        let started = try instance.withLock { (instance) throws(OSError) in
            let thread = if let instance { instance } else { try StarterThread() }
            instance = thread
            return try thread.take(options).get()
        }
        return SpawnedProcess(pid: started.pid, pidfd: Descriptor(owning: started.pidfd))
    }

    private func take(_ options: SpawnOptions) -> Outcome {
        meeting.update { $0 = Meeting(options: options, caller: OSThread.currentID) }
        // Without a deadline it ends with an outcome only.
        return meeting.wait(until: nil) { $0.outcome } ?? .failure(OSError(code: 0, call: "spawn"))
    }

    private static func serve(_ meeting: Monitor<Meeting>) {
        let next = meeting.wait(until: nil) { meeting in
            let next = meeting.options.map { ($0, meeting.caller) }
            meeting.options = nil
            return next
        }
        guard let (options, caller) = next else { return }
        let outcome: Outcome
        do throws(OSError) {
            let child = try Process.start(options, for: caller)
            let pid = child.pid
            outcome = .success((pid, child.takePidfd().release()))
        } catch {
            outcome = .failure(error)
        }
        meeting.update { $0.outcome = outcome }
    }
}
