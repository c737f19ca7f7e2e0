import AmfEngine
import EngineKit
import OSAL

/// The parent that keeps amfd alive: it starts it, starts it again, reaps orphans, and passes SIGTERM on. It knows no
/// model, opens no socket and allocates next to nothing, so that there is little in it that can fail.
final class Guard {
    private enum Token { static let signals: UInt64 = 1, amfd: UInt64 = 2, timer: UInt64 = 3 }

    private let options: AmfOptions
    private let files: NodeFiles
    private let poller: Poller
    private let signals: SignalDescriptor
    private var engine: GuardEngine
    private var lock: SharedDescriptor?
    private var amfd: (identity: ProcessIdentity, pidfd: SharedDescriptor)?
    private var amfdStatus: ExitStatus?
    private var deadline: Instant?
    private var exitCode: Int32?
    private var lease: LeaseGuard?
    private var supervisor: Supervisor?

    init(options: AmfOptions, places: Places) throws(OSError) {
        self.options = options
        files = NodeFiles(places: places)
        supervisor = ServiceManager.take().map { Supervisor($0) }
        engine = GuardEngine(stopDeadline: options.stopDeadline + .seconds(5))
        poller = try Poller()
        signals = try SignalDescriptor(blocking: [.terminate, .interrupt, .child, .hangup, .user1, .user2])
        try poller.add(signals.raw, interest: .read, token: Token.signals)
    }

    /// Until amfd has stopped in order, or cannot be started for good; returns the exit status.
    func run() -> Int32 {
        do {
            try files.makeDirectories()
        } catch {
            say("cannot make the directories of this node: \(error)")
            return 1
        }
        do {
            lock = SharedDescriptor(try files.claim(.guard) { say("warning: \($0)") })
        } catch {
            say(error.text)
            return error.isPermanent ? GuardEngine.permanentExitCode : 1
        }
        try? Process.becomeSubreaper()  // without it orphans go to init, which reaps them as well
        mindLease()
        supervisor?.begin()
        let hasAdopted = adopt()
        if hasAdopted { supervisor?.isServing(amfd?.identity.pid) }
        perform(engine.handle(hasAdopted ? .adopted : .begin, at: MonotonicClock.now()))
        while exitCode == nil { turn() }
        return exitCode ?? 0
    }

    /// A living amfd, started by an earlier guard, is watched instead of starting one.
    private func adopt() -> Bool {
        guard let identity = options.adopt ?? files.holder(.amfd), identity.isAlive else { return false }
        do {
            let pidfd = try Process.pidfdOpen(identity.pid)
            guard ProcessIdentity(living: identity.pid) == identity else { return false }
            try watch(identity, pidfd)
            return true
        } catch {
            return false
        }
    }

    private func watch(_ identity: ProcessIdentity, _ pidfd: consuming Descriptor) throws(OSError) {
        let shared = SharedDescriptor(pidfd)
        try poller.add(shared.raw, interest: .read, token: Token.amfd)
        amfd = (identity, shared)
    }

    private func turn() {
        var events: [PollEvent] = []
        do {
            let timeout = deadline.map { max(.zero, $0 - MonotonicClock.now()) }
            let others = [timeout, lease?.timeout, supervisor?.timeout].compactMap { $0 }
            _ = try poller.wait(into: &events, timeout: others.min())
        } catch {
            say("cannot wait for events: \(error)")
            exitCode = 1
            return
        }
        checkLease()  // before anything else
        supervisor?.beat()
        if let deadline, MonotonicClock.now() >= deadline {
            self.deadline = nil
            handle(.timer)
        }
        var ending: GuardEngine.Ending??
        for event in events {
            if event.token == Token.signals { takeSignals() }
            if event.token == Token.amfd { ending = .some(reapAmfd()) }
        }
        if let ending { handle(.died(ending)) }
    }

    /// From when there is a lease, this process is in a hurry.
    private func mindLease() {
        guard lease == nil, let page = LeasePage.open(files.leasePath, writable: true) else { return }
        lease = LeaseGuard(page)
        OSThread.runFirst()
    }

    private func checkLease() {
        switch lease?.check() {
        case .stopped(let count)?:
            say("amfd does not look after the lease of this node, which is over: stopped \(count) active components")
        case .hung?:
            guard amfd != nil else { return }
            say("amfd hangs: killed")
            signal(.kill)
        case nil: break
        }
    }

    private func takeSignals() {
        while let signal = signals.next() {
            switch signal.signal {
            case .terminate, .interrupt: handle(.stopRequested)
            case .child: reapOrphans()
            case .user1: mindLease()
            case .user2: supervisor?.isServing(amfd?.identity.pid)
            case .hangup: handle(.reloadRequested)  // also of a terminal that is closed: that ends no node
            default: break
            }
        }
    }

    /// Orphans of a killed amfd and of its components come to us. amfd's own end is kept for the turn of its pidfd.
    private func reapOrphans() {
        while let (pid, status) = Process.reapAny() {
            if pid == amfd?.identity.pid { amfdStatus = status }
        }
    }

    private func reapAmfd() -> GuardEngine.Ending? {
        guard let dead = amfd else { return nil }
        try? poller.remove(dead.pidfd.raw)  // closing it below removes it as well
        reapOrphans()
        defer { (amfd, amfdStatus) = (nil, nil) }
        switch amfdStatus {
        case .exited(let code): return .exited(code)
        case .signaled(let number): return .signaled(number.rawValue)
        case .unknown, nil: return files.hasStoppedInOrder(dead.identity) ? .orderly : nil
        }
    }

    private func handle(_ event: GuardEngine.Event) { perform(engine.handle(event, at: MonotonicClock.now())) }

    private func perform(_ effects: [GuardEngine.Effect]) {
        for effect in effects {
            switch effect {
            case .spawn: handle(spawn())
            case .startTimer(let duration): deadline = MonotonicClock.now() + duration
            case .cancelTimer: deadline = nil
            case .terminate:
                supervisor?.isStopping()
                signal(.terminate)
            case .kill: signal(.kill)
            case .reload: signal(.hangup)
            case .sweep: ChildrenSweep.run(files)
            case .say(let text): say(text)
            case .exit(let code): exitCode = code
            }
        }
    }

    private func spawn() -> GuardEngine.Event {
        do {
            var spawning = SpawnOptions(path: options.executable)
            spawning.arguments =
                [options.executable]
                + options.daemonArguments(
                    guardedBy: ProcessIdentity.own, isSupervised: supervisor != nil)
            spawning.descriptors = [
                DescriptorMapping(0, as: 0), DescriptorMapping(1, as: 1), DescriptorMapping(2, as: 2),
            ]
            let process = try Process.spawn(spawning)
            let identity = ProcessIdentity(living: process.pid) ?? ProcessIdentity(pid: process.pid, startTime: 0)
            try watch(identity, process.takePidfd())
            return .spawned
        } catch {
            return .spawnFailed("\(options.executable): \(error)")
        }
    }

    private func signal(_ number: SignalNumber) {
        guard let amfd else { return }
        try? Process.pidfdSendSignal(amfd.pidfd.raw, number)  // already dead is as good
    }

    private func say(_ text: String) {
        Say.error("amfd --guard: \(text)")
        supervisor?.say(text)
    }
}

/// Ends what the children table of a dead amfd still names, when no amfd will come to adopt it.
enum ChildrenSweep {
    static func run(_ files: NodeFiles) {
        guard let file = try? SharedFile.open(files.childrenPath, writable: false) else { return }  // none: nothing ran
        let records = ChildrenTable.records(in: UnsafeRawBufferPointer(file.mapping.bytes))
        for record in records where record.pid > 0 {
            guard Process.startTime(of: record.pid) == record.startTime else { continue }
            _ = try? Process.killGroup(record.pid)  // gone in between is as good
        }
        _ = AfterLife.end(Set(records.map(\.nonce)))
    }
}
