/// Where a component's process is in its life. The presence state of the specification is derived from it.
public enum LifeState: Hashable, Sendable {
    /// No process.
    case absent
    /// The shell was asked to start it.
    case spawning
    /// It runs and has not registered yet.
    case registering
    /// It runs and is registered (or need not be).
    case ready
    /// It runs, but no connection of it is registered: adopted from a former life of amfd, or it lost the connection.
    case unconnected
    /// It was asked to end.
    case terminating
    /// It executes nothing any more, but is not reaped.
    case dying
    /// It ended by itself and is reaped; what it left is not cleaned up.
    case dead
    /// SIGKILL was sent to its group.
    case killing(then: AfterCleanup)
    /// It is reaped; the clean-up command runs.
    case cleaning(then: AfterCleanup)
    /// It waits for the next attempt.
    case delaying
    /// Every attempt failed.
    case instantiationFailed
    /// It could not be killed or cleaned up.
    case terminationFailed
}

public enum AfterCleanup: Hashable, Sendable { case absent, again }

/// What can happen to it.
enum LifeEvent: Hashable, Sendable {
    /// Orders: a new instance, at once or (after quick deaths) later; the graceful and the abrupt end.
    case instantiate, instantiateLater, terminate, cleanup
    case adopted
    /// `spawnedReady`: a component that need not register.
    case spawned, spawnedReady, spawnFailed
    case registered, connectionLost
    case terminateAnswered, terminateRefused
    case lockReleased, exited
    /// The life timer.
    case timedOut
    /// Clean-up is done; what follows a failed attempt to instantiate is decided by the number of attempts.
    case cleaned(Retry), cleanFailed
}

enum Retry: Hashable, Sendable, CaseIterable { case now, later, never }

enum LifeAction: Hashable, Sendable {
    case spawn, kill, sendTerminate, runCleanup
    /// The life timer: one at a time, each start replaces.
    case timer(LifeTimer), cancelTimer
    case reportInstantiated, reportAdopted, reportAbsent, reportDelayed, reportInstantiationFailed
    case reportTerminationFailed
    /// The process is dead, unexpectedly or at last.
    case reportDead
    /// It lives and did not come back.
    case reportUnconnected
    case noteAttemptFailed
}

enum LifeTimer: Hashable, Sendable { case instantiate, terminate, exitGrace, cleanup, retryDelay, reconnect }

/// The whole life cycle: every state meets every event.
enum LifeTable {
    typealias Outcome = (state: LifeState, actions: [LifeAction])

    static func next(_ state: LifeState, _ event: LifeEvent) -> Outcome {
        switch state {
        case .absent: absent(event)
        case .spawning: spawning(event)
        case .registering: registering(event)
        case .ready: ready(event)
        case .unconnected: unconnected(event)
        case .terminating: terminating(event)
        case .dying: dying(event)
        case .dead: dead(event)
        case .killing(let then): killing(event, then)
        case .cleaning(let then): cleaning(event, then)
        case .delaying: delaying(event)
        case .instantiationFailed: instantiationFailed(event)
        case .terminationFailed: terminationFailed(event)
        }
    }

    private static func absent(_ event: LifeEvent) -> Outcome {
        switch event {
        case .instantiate: (.spawning, [.spawn])
        case .instantiateLater: (.delaying, [.timer(.retryDelay)])
        case .terminate, .cleanup: (.absent, [.reportAbsent])
        case .adopted: (.unconnected, [.timer(.reconnect)])
        case .spawned, .spawnedReady, .spawnFailed, .registered, .connectionLost, .terminateAnswered, .terminateRefused,
            .lockReleased, .exited, .timedOut, .cleaned, .cleanFailed:
            (.absent, [])
        }
    }

    private static func spawning(_ event: LifeEvent) -> Outcome {
        switch event {
        case .spawned: (.registering, [.timer(.instantiate)])
        case .spawnedReady: (.ready, [.reportInstantiated])
        case .spawnFailed, .exited: (.cleaning(then: .again), [.noteAttemptFailed, .runCleanup])
        // The kill waits for `spawned`: there is no process to kill yet.
        case .terminate, .cleanup: (.killing(then: .absent), [.timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.timer(.cleanup)])
        case .adopted, .registered, .connectionLost, .terminateAnswered, .terminateRefused, .lockReleased, .timedOut,
            .cleaned, .cleanFailed:
            (.spawning, [])
        }
    }

    private static func registering(_ event: LifeEvent) -> Outcome {
        switch event {
        case .registered: (.ready, [.cancelTimer, .reportInstantiated])
        case .timedOut: (.killing(then: .again), [.noteAttemptFailed, .kill, .timer(.cleanup)])
        case .exited: (.cleaning(then: .again), [.noteAttemptFailed, .cancelTimer, .runCleanup])
        case .terminate, .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        // The exit follows a released lock.
        case .adopted, .spawned, .spawnedReady, .spawnFailed, .connectionLost, .terminateAnswered, .terminateRefused,
            .lockReleased, .cleaned, .cleanFailed:
            (.registering, [])
        }
    }

    private static func ready(_ event: LifeEvent) -> Outcome {
        switch event {
        case .lockReleased: (.dying, [.reportDead])
        case .exited: (.dead, [.reportDead])
        case .terminate: (.terminating, [.sendTerminate, .timer(.terminate)])
        case .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        case .registered: (.ready, [.reportAdopted])
        case .connectionLost: (.unconnected, [.timer(.reconnect)])
        case .adopted, .spawned, .spawnedReady, .spawnFailed, .terminateAnswered, .terminateRefused, .timedOut,
            .cleaned, .cleanFailed:
            (.ready, [])
        }
    }

    private static func unconnected(_ event: LifeEvent) -> Outcome {
        switch event {
        case .registered: (.ready, [.cancelTimer, .reportAdopted])
        case .timedOut: (.unconnected, [.reportUnconnected])
        case .lockReleased: (.dying, [.cancelTimer, .reportDead])
        case .exited: (.dead, [.cancelTimer, .reportDead])
        // Nobody is there to be asked.
        case .terminate, .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        case .adopted, .spawned, .spawnedReady, .spawnFailed, .connectionLost, .terminateAnswered, .terminateRefused,
            .cleaned, .cleanFailed:
            (.unconnected, [])
        }
    }

    private static func terminating(_ event: LifeEvent) -> Outcome {
        switch event {
        case .exited: (.cleaning(then: .absent), [.cancelTimer, .runCleanup])
        case .terminateAnswered: (.terminating, [.timer(.exitGrace)])
        case .timedOut, .terminateRefused, .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        case .registered: (.terminating, [.sendTerminate])
        // A dead process answers nothing; its exit follows.
        case .lockReleased, .connectionLost, .terminate, .adopted, .spawned, .spawnedReady, .spawnFailed, .cleaned,
            .cleanFailed:
            (.terminating, [])
        }
    }

    private static func dying(_ event: LifeEvent) -> Outcome {
        switch event {
        case .exited: (.dead, [])
        // What else is in its group is killed too.
        case .terminate, .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        case .lockReleased, .connectionLost, .registered, .adopted, .spawned, .spawnedReady, .spawnFailed,
            .terminateAnswered, .terminateRefused, .timedOut, .cleaned, .cleanFailed:
            (.dying, [])
        }
    }

    private static func dead(_ event: LifeEvent) -> Outcome {
        switch event {
        case .terminate, .cleanup: (.cleaning(then: .absent), [.runCleanup])
        case .instantiate, .instantiateLater: (.cleaning(then: .again), [.runCleanup])
        case .lockReleased, .exited, .connectionLost, .registered, .adopted, .spawned, .spawnedReady, .spawnFailed,
            .terminateAnswered, .terminateRefused, .timedOut, .cleaned, .cleanFailed:
            (.dead, [])
        }
    }

    private static func killing(_ event: LifeEvent, _ then: AfterCleanup) -> Outcome {
        switch event {
        case .exited, .spawnFailed: (.cleaning(then: then), [.cancelTimer, .runCleanup])
        case .spawned, .spawnedReady: (.killing(then: then), [.kill, .timer(.cleanup)])
        case .lockReleased: (.killing(then: then), [.reportDead])
        case .timedOut: (.terminationFailed, [.reportTerminationFailed])
        case .terminate, .cleanup: (.killing(then: .absent), [])
        case .instantiate, .instantiateLater: (.killing(then: .again), [])
        case .connectionLost, .registered, .adopted, .terminateAnswered, .terminateRefused, .cleaned, .cleanFailed:
            (.killing(then: then), [])
        }
    }

    private static func cleaning(_ event: LifeEvent, _ then: AfterCleanup) -> Outcome {
        switch (event, then) {
        case (.cleaned, .absent): (.absent, [.reportAbsent])
        case (.cleaned(.now), .again): (.spawning, [.spawn])
        case (.cleaned(.later), .again): (.delaying, [.timer(.retryDelay), .reportDelayed])
        case (.cleaned(.never), .again): (.instantiationFailed, [.reportInstantiationFailed])
        case (.cleanFailed, _): (.terminationFailed, [.reportTerminationFailed])
        case (.terminate, _), (.cleanup, _): (.cleaning(then: .absent), [])
        case (.instantiate, _), (.instantiateLater, _): (.cleaning(then: .again), [])
        case (.lockReleased, _), (.exited, _), (.connectionLost, _), (.registered, _), (.adopted, _), (.spawned, _),
            (.spawnedReady, _), (.spawnFailed, _), (.terminateAnswered, _), (.terminateRefused, _), (.timedOut, _):
            (.cleaning(then: then), [])
        }
    }

    private static func delaying(_ event: LifeEvent) -> Outcome {
        switch event {
        case .timedOut: (.spawning, [.spawn])
        case .terminate, .cleanup: (.absent, [.cancelTimer, .reportAbsent])
        case .instantiate: (.spawning, [.cancelTimer, .spawn])
        case .instantiateLater: (.delaying, [.timer(.retryDelay)])
        case .lockReleased, .exited, .connectionLost, .registered, .adopted, .spawned, .spawnedReady, .spawnFailed,
            .terminateAnswered, .terminateRefused, .cleaned, .cleanFailed:
            (.delaying, [])
        }
    }

    private static func instantiationFailed(_ event: LifeEvent) -> Outcome {
        switch event {
        case .instantiate, .instantiateLater: (.spawning, [.spawn])
        case .terminate, .cleanup: (.absent, [.reportAbsent])
        case .timedOut, .lockReleased, .exited, .connectionLost, .registered, .adopted, .spawned, .spawnedReady,
            .spawnFailed, .terminateAnswered, .terminateRefused, .cleaned, .cleanFailed:
            (.instantiationFailed, [])
        }
    }

    private static func terminationFailed(_ event: LifeEvent) -> Outcome {
        switch event {
        // An unkillable process went at last.
        case .exited: (.cleaning(then: .absent), [.runCleanup])
        case .lockReleased: (.terminationFailed, [.reportDead])
        case .terminate, .cleanup: (.killing(then: .absent), [.kill, .timer(.cleanup)])
        case .instantiate, .instantiateLater: (.killing(then: .again), [.kill, .timer(.cleanup)])
        case .timedOut, .connectionLost, .registered, .adopted, .spawned, .spawnedReady, .spawnFailed,
            .terminateAnswered, .terminateRefused, .cleaned, .cleanFailed:
            (.terminationFailed, [])
        }
    }
}
