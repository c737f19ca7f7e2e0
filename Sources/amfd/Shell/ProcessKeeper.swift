import AmfEngine
import AmfProtocol
import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// One process life of a component.
struct ChildKey: Hashable, Comparable, Sendable {
    let component: SaName
    let instance: InstanceNumber
    static func < (left: ChildKey, right: ChildKey) -> Bool {
        (left.component, left.instance) < (right.component, right.instance)
    }
}

/// A process this node is responsible for.
final class Child {
    let key: ChildKey
    let record: ChildRecord
    /// Names this life to the life watcher.
    let token: UInt64
    let pidfd: SharedDescriptor
    let output: ChildOutput
    var watch: WatchID?
    /// Set when the component registers; unmapped with the rest, when there is time.
    var lifePage: LifePage?
    /// The life lock has told what it can.
    var isLifeTold = false

    init(key: ChildKey, record: ChildRecord, token: UInt64, pidfd: SharedDescriptor, output: ChildOutput) {
        (self.key, self.record, self.token, self.pidfd, self.output) = (key, record, token, pidfd, output)
    }

    var pid: Int32 { record.pid }
}

/// Performs what the node engine decides about processes: spawns, watches, ends and adopts them. Loop thread only.
final class ProcessKeeper {
    /// What happened to a process, for the node engine.
    var onEvent: (NodeEvent) -> Void = { _ in }
    /// A child (new or adopted) whose output wants to be captured.
    var onOutput: (Child) -> Void = { _ in }
    var onOutputEnd: (Child) -> Void = { _ in }
    var onNote: (ShellNote) -> Void = { _ in }

    private let loop: Loop
    private let plan: SpawnPlan
    private let table: ChildrenTable
    private var watcher: LifeWatcher?
    private var children: [ChildKey: Child] = [:]
    private var byToken: [UInt64: ChildKey] = [:]
    private var byPid: [Int32: ChildKey] = [:]
    private var cleanups: [Int32: Cleanup] = [:]
    private var lastToken: UInt64 = 0

    private final class Cleanup {
        let key: ChildKey
        let pidfd: SharedDescriptor
        var watch: WatchID?
        var timer: LoopTimer?
        var isLate = false
        init(key: ChildKey, pidfd: SharedDescriptor) { (self.key, self.pidfd) = (key, pidfd) }
    }

    init(loop: Loop, plan: SpawnPlan, table: ChildrenTable) {
        self.loop = loop
        self.plan = plan
        self.table = table
        let relay = LoopRelay(self)
        // Refused only by an overfull loop; the pidfd tells as well.
        watcher = LifeWatcher(
            onRelease: { [unowned loop] token, probe in
                _ = loop.post(.control) { if probe.isExiting { relay.target?.lifeLockSpoke(token, .dead) } }
            },
            report: { [unowned loop] token, finding in
                _ = loop.post(.control) { relay.target?.lifeLockSpoke(token, finding) }
            })
    }

    deinit {
        watcher?.stop()
        for child in children.values { if let watch = child.watch { loop.unwatch(watch) } }
        for cleanup in cleanups.values {
            if let watch = cleanup.watch { loop.unwatch(watch) }
            if let timer = cleanup.timer { loop.cancel(timer) }
        }
    }

    /// Every child, by name and instance.
    var all: [Child] { children.keys.sorted().compactMap { children[$0] } }
    var isEmpty: Bool { children.isEmpty && cleanups.isEmpty }

    func child(_ key: ChildKey) -> Child? { children[key] }

    /// The child that `pid` belongs to: it is its process, or lives in its session or process group.
    func child(ofMember pid: Int32) -> Child? {
        if let key = byPid[pid] { return children[key] }
        guard let information = Process.information(of: pid) else { return nil }
        return (byPid[information.session] ?? byPid[information.group]).flatMap { children[$0] }
    }

    // MARK: Starting

    func spawn(_ key: ChildKey, _ model: ComponentModel, environment: [EnvironmentVariable]) {
        do throws(SpawnRefusal) {
            let child = try start(key, model, environment)
            onEvent(.spawned(key.component, key.instance, pid: child.pid, startedAt: child.record.startedAt))
            onOutput(child)
        } catch {
            onEvent(.spawnFailed(key.component, key.instance, reason: error.text))
        }
    }

    private func start(
        _ key: ChildKey, _ model: ComponentModel, _ environment: [EnvironmentVariable]
    ) throws(SpawnRefusal) -> Child {
        if children[key] != nil { throw SpawnRefusal("\(key.component) instance \(key.instance) runs already") }
        let nonce = UInt64.random(in: 1 ... .max)
        let extra = environment.map { "\($0.name)=\($0.value)" } + ["\(Self.nonceVariable)=\(nonce)"]
        var options = try plan.options(
            key.component, model, command: model.command, arguments: model.arguments, extra: extra)
        do throws(OSError) {
            let (output, childOutput) = try OutputPipe.make()
            let (error, childError) = try OutputPipe.make()
            options.descriptors = [DescriptorMapping(childOutput.raw, as: 1), DescriptorMapping(childError.raw, as: 2)]
            let record = ChildRecord(
                component: key.component, instance: key.instance, nonce: nonce, outputPipe: output.inode,
                errorPipe: error.inode, startedAt: MonotonicClock.wallNanoseconds())
            return try run(key, record, options, ChildOutput(output: output, error: error))
        } catch {
            throw SpawnRefusal("\(error)")
        }
    }

    private func run(
        _ key: ChildKey, _ intended: ChildRecord, _ options: SpawnOptions, _ output: ChildOutput
    ) throws(OSError) -> Child {
        guard table.intend(intended) else {
            throw .outOfSpace("more than \(ChildrenTable.slotsMax) processes on this node")
        }
        do throws(OSError) {
            let process = try Process.spawn(options)
            var record = intended
            record.pid = process.pid
            record.startTime = Process.startTime(of: process.pid) ?? 0
            table.running(record.nonce, pid: record.pid, startTime: record.startTime)
            return try add(key, record, SharedDescriptor(process.takePidfd()), output)
        } catch {
            table.forget(intended.nonce)
            throw error
        }
    }

    static let nonceVariable = "SAF_INSTANTIATION"

    @discardableResult
    private func add(
        _ key: ChildKey, _ record: ChildRecord, _ pidfd: SharedDescriptor, _ output: ChildOutput
    ) throws(OSError) -> Child {
        lastToken += 1
        let child = Child(key: key, record: record, token: lastToken, pidfd: pidfd, output: output)
        child.watch = try loop.watch(pidfd.raw, .read, lane: .control) { [unowned self] _ in exited(key) }
        children[key] = child
        byToken[child.token] = key
        byPid[record.pid] = key
        return child
    }

    // MARK: Adopting

    /// Takes over what an earlier amfd left alive; ends what it cannot name.
    func adopt() -> [LivingComponent] {
        var living: [LivingComponent] = []
        var strays: Set<UInt64> = []
        for record in table.records {
            let key = ChildKey(component: record.component, instance: record.instance)
            if record.pid > 0, Process.isAlive(record.pid, startTime: record.startTime), children[key] == nil,
                let child = readopt(key, record)
            {
                living.append(
                    LivingComponent(
                        component: key.component, instance: key.instance, pid: record.pid, startedAt: record.startedAt))
                onOutput(child)
            } else {
                strays.insert(record.nonce)
                table.forget(record.nonce)
            }
        }
        if !strays.isEmpty { endStrays(strays) }
        return living
    }

    private func readopt(_ key: ChildKey, _ record: ChildRecord) -> Child? {
        do throws(OSError) {
            let pidfd = SharedDescriptor(try Process.pidfdOpen(record.pid))
            guard Process.startTime(of: record.pid) == record.startTime else { return nil }
            let output = ChildOutput(
                output: OutputPipe.reopen(pid: record.pid, number: 1, inode: record.outputPipe),
                error: OutputPipe.reopen(pid: record.pid, number: 2, inode: record.errorPipe))
            return try add(key, record, pidfd, output)
        } catch {
            onNote(.cannotAdopt(key.component, pid: record.pid, reason: "\(error)"))
            return nil
        }
    }

    /// Processes that carry the mark of a spawn nobody answers for: of a component that died while amfd was away, or
    /// one started in the instant amfd was killed.
    private func endStrays(_ nonces: Set<UInt64>) {
        let prefix = "\(Self.nonceVariable)="
        // Without /proc nothing can be found, and nothing could have been adopted.
        for name in (try? File.list("/proc")) ?? [] {
            guard let pid = Int32(name), pid != Environment.processID,
                let text = try? File.readText("/proc/\(pid)/environ", limit: 1 << 20)
            else { continue }
            let mark = text.split(separator: "\0").first { $0.hasPrefix(prefix) }
            guard let mark, let nonce = UInt64(mark.dropFirst(prefix.count)), nonces.contains(nonce) else { continue }
            onNote(.endedStray(pid: pid))
            _ = try? Process.kill(pid, .kill)  // gone in between is as good
        }
    }

    // MARK: Life

    /// A page for the component's life lock, watched from now on; nil when there is no memory: the pidfd remains.
    func beginLife(_ key: ChildKey, holder pid: Int32) -> LifePage? {
        guard let child = children[key] else { return nil }
        if child.lifePage != nil { watcher?.unwatch(child.token) }
        child.isLifeTold = false
        do throws(OSError) {
            let page = try LifePage()
            try watcher?.watch(child.token, page: page, pid: pid)
            child.lifePage = page
            return page
        } catch {
            onNote(.noLifeLock(key.component, reason: "\(error)"))
            return nil
        }
    }

    private func lifeLockSpoke(_ token: UInt64, _ finding: LifeWatcher.Finding) {
        guard let key = byToken[token], let child = children[key], !child.isLifeTold else { return }
        child.isLifeTold = true
        switch finding {
        case .dead: onEvent(.lifeLockReleased(key.component, key.instance))
        case .unreliable: onNote(.lifeLockUnreliable(key.component, pid: child.pid))
        }
    }

    // MARK: Ending

    func terminate(_ key: ChildKey) {
        guard let child = children[key] else { return }
        try? Process.pidfdSendSignal(child.pidfd.raw, .terminate)  // gone already: its pidfd says so
    }

    func kill(_ key: ChildKey) {
        guard let child = children[key] else { return onEvent(.exited(key.component, key.instance, reason: "gone")) }
        killGroup(child)
    }

    private func killGroup(_ child: Child) {
        do throws(OSError) {
            try Process.killGroup(child.pid)
        } catch {
            onNote(.cannotKill(child.key.component, pid: child.pid, reason: "\(error)"))
        }
        try? Process.pidfdSendSignal(child.pidfd.raw, .kill)  // the leader, should it have left its group
    }

    private func exited(_ key: ChildKey) {
        guard let child = children.removeValue(forKey: key) else { return }
        // Its zombie keeps the number of the group from being used again until it is reaped.
        killGroup(child)
        let status = Process.reap(child.pid) ?? .unknown
        if let watch = child.watch { loop.unwatch(watch) }
        watcher?.unwatch(child.token)
        byToken[child.token] = nil
        byPid[child.pid] = nil
        table.forget(child.record.nonce)
        onEvent(.exited(key.component, key.instance, reason: status.description))
        onOutputEnd(child)
    }

    // MARK: Clean-up commands

    func cleanUp(_ key: ChildKey, _ model: ComponentModel) {
        guard !model.cleanupCommand.isEmpty else {
            return onEvent(.cleanedUp(key.component, key.instance, succeeded: true, reason: ""))
        }
        do throws(SpawnRefusal) {
            try startCleanup(key, model)
        } catch {
            onEvent(.cleanedUp(key.component, key.instance, succeeded: false, reason: error.text))
        }
    }

    private func startCleanup(_ key: ChildKey, _ model: ComponentModel) throws(SpawnRefusal) {
        let options = try plan.options(
            key.component, model, command: model.cleanupCommand, arguments: model.cleanupArguments, extra: [])
        do throws(OSError) {
            let process = try Process.spawn(options)
            let pid = process.pid
            let cleanup = Cleanup(key: key, pidfd: SharedDescriptor(process.takePidfd()))
            cleanups[pid] = cleanup
            cleanup.watch = try loop.watch(cleanup.pidfd.raw, .read, lane: .control) { [unowned self] _ in
                cleanupEnded(pid)
            }
            cleanup.timer = loop.schedule(after: model.timeouts.cleanup) { [unowned self] in
                cleanups[pid]?.isLate = true
                _ = try? Process.killGroup(pid)  // gone in between is as good
            }
        } catch {
            throw SpawnRefusal("\(error)")
        }
    }

    private func cleanupEnded(_ pid: Int32) {
        guard let cleanup = cleanups.removeValue(forKey: pid) else { return }
        _ = try? Process.killGroup(pid)  // what it left running; usually nothing
        let status = Process.reap(pid) ?? .unknown
        if let watch = cleanup.watch { loop.unwatch(watch) }
        if let timer = cleanup.timer { loop.cancel(timer) }
        let succeeded = status == .exited(code: 0)
        let reason = cleanup.isLate ? "the clean-up command did not end in time" : "the clean-up command \(status)"
        onEvent(
            .cleanedUp(
                cleanup.key.component, cleanup.key.instance, succeeded: succeeded, reason: succeeded ? "" : reason))
    }

    /// At the very end of amfd: nothing may stay.
    func killEverything() {
        for child in all { killGroup(child) }
        for pid in cleanups.keys.sorted() { _ = try? Process.killGroup(pid) }  // gone in between is as good
    }
}

/// Carries a reference that is used on the loop's thread only through others.
final class LoopRelay<Target: AnyObject>: @unchecked Sendable {
    private(set) weak var target: Target?
    init(_ target: Target) { self.target = target }
}
