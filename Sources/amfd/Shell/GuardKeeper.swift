import AmfEngine
import EOLoop
import EngineKit
import OSAL

/// amfd's half of watching each other: when the guard dies, a new one is started, which adopts this amfd. Loop thread
/// only.
final class GuardKeeper {
    var onNote: (ShellNote) -> Void = { _ in }

    private let loop: Loop
    private let options: AmfOptions
    private let files: NodeFiles
    private var pidfd: SharedDescriptor?
    private var watch: WatchID?
    private var timer: LoopTimer?
    private(set) var pid: Int32 = 0
    private var startedAt = Instant.start
    private var quickDeaths = 0
    private var diedAt = Instant.start
    private var isStopped = false

    static let delays: [Duration] = [
        .milliseconds(1), .milliseconds(1), .milliseconds(50), .milliseconds(500), .seconds(5),
    ]

    /// How long a service manager has to start the guard again, before it is done here: its own is the one it watches.
    static let managerPatience: Duration = .seconds(2)
    static let managerInterval: Duration = .milliseconds(100)

    init(loop: Loop, files: NodeFiles, options: AmfOptions) {
        self.loop = loop
        self.files = files
        self.options = options
    }

    /// Watches the guard that started us; without one (amfd was started by hand) there is none.
    func start() {
        guard let guardedBy = options.guardedBy else { return }
        do throws(OSError) {
            let pidfd = SharedDescriptor(try Process.pidfdOpen(guardedBy.pid))
            guard ProcessIdentity(living: guardedBy.pid) == guardedBy else { return respawn() }
            try begin(guardedBy.pid, pidfd)
        } catch {
            respawn()
        }
    }

    /// There is a lease that the guard is to look after; a guard that starts later finds it by itself.
    func mindLease() {
        guard let pidfd else { return }
        try? Process.pidfdSendSignal(pidfd.raw, .user1)  // died meanwhile: its successor looks
    }

    /// The node serves; a supervised guard passes it on.
    func serving() {
        guard options.isSupervised, let pidfd else { return }
        try? Process.pidfdSendSignal(pidfd.raw, .user2)  // died meanwhile: its successor adopts, and says so
    }

    /// From now on a guard that ends is not replaced.
    func stop() {
        isStopped = true
        if let watch { loop.unwatch(watch) }
        if let timer { loop.cancel(timer) }
        (watch, timer) = (nil, nil)
    }

    private func begin(_ pid: Int32, _ pidfd: SharedDescriptor) throws(OSError) {
        watch = try loop.watch(pidfd.raw, .read, lane: .high) { [unowned self] _ in died() }
        (self.pid, self.pidfd, startedAt) = (pid, pidfd, MonotonicClock.now())
        onNote(.guardStarted(pid: pid))
    }

    private func died() {
        if let watch { loop.unwatch(watch) }
        _ = Process.reap(pid)  // a guard we started is our child; the one that started us is not
        (watch, pidfd) = (nil, nil)
        onNote(.guardDied(pid: pid))
        diedAt = MonotonicClock.now()
        quickDeaths = MonotonicClock.now() - startedAt < GuardEngine.healthyLife ? quickDeaths + 1 : 0
        respawn()
    }

    private func respawn() {
        guard !isStopped else { return }
        let delay = options.isSupervised ? Self.managerInterval : Self.delays[min(quickDeaths, Self.delays.count - 1)]
        timer = loop.schedule(after: delay) { [unowned self] in replace() }
    }

    /// The service manager's new guard is watched; without one in time it is started here.
    private func replace() {
        timer = nil
        guard options.isSupervised else { return spawn() }
        if let other = files.holder(.guard), other.isAlive, let pidfd = try? Process.pidfdOpen(other.pid),
            ProcessIdentity(living: other.pid) == other
        {
            // Refused by epoll only without memory: the next look is as good.
            do { try begin(other.pid, SharedDescriptor(pidfd)) } catch { respawn() }
        } else if MonotonicClock.now() - diedAt < Self.managerPatience {
            respawn()
        } else {
            spawn()
        }
    }

    private func spawn() {
        do throws(OSError) {
            var spawning = SpawnOptions(path: options.executable)
            spawning.arguments = [options.executable] + options.guardArguments(adopting: ProcessIdentity.own)
            spawning.descriptors = [
                DescriptorMapping(0, as: 0), DescriptorMapping(1, as: 1), DescriptorMapping(2, as: 2),
            ]
            let process = try Process.spawn(spawning)
            let pid = process.pid
            try begin(pid, SharedDescriptor(process.takePidfd()))
        } catch {
            quickDeaths += 1
            onNote(.guardFailed("\(error)"))
            respawn()
        }
    }
}
