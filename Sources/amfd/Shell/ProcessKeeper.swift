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
    var onNote: (ShellNote) -> Void = { _ in } { didSet { afterLife.onNote = onNote } }

    private let loop: Loop
    private let afterLife: AfterLife
    private let plan: SpawnPlan
    private let table: ChildrenTable
    /// This process's own oom_score_adj; proc(5).
    private let oomShield: Int
    private var watcher: LifeWatcher?
    private var children: [ChildKey: Child] = [:]
    private var byToken: [UInt64: ChildKey] = [:]
    private var byPid: [Int32: ChildKey] = [:]
    private var cleanups: [Int32: Cleanup] = [:]
    private var lastToken: UInt64 = 0

    /// A running clean-up command.
    private final class Cleanup {
        let child: Child
        var timer: LoopTimer?
        var isLate = false
        init(child: Child) { self.child = child }
    }

    init(loop: Loop, plan: SpawnPlan, table: ChildrenTable) {
        self.loop = loop
        self.plan = plan
        self.table = table
        let shield = (try? File.readText("/proc/self/oom_score_adj", limit: 64)) ?? ""  // no /proc: no shield
        oomShield = Int(shield.prefix { $0 != "\n" }) ?? 0
        afterLife = AfterLife(loop: loop, places: plan.places)
        let relay = LoopRelay(self)
        // Refused only by an overfull loop; the pidfd tells as well.
        watcher = LifeWatcher(
            onRelease: { [unowned loop] token, probe in
                _ = loop.interrupt { if probe.isExiting { relay.target?.lifeLockSpoke(token, .dead) } }
            },
            report: { [unowned loop] token, finding in
                _ = loop.interrupt { relay.target?.lifeLockSpoke(token, finding) }
            })
    }

    deinit {
        watcher?.stop()
        for child in children.values { if let watch = child.watch { loop.unwatch(watch) } }
        for cleanup in cleanups.values {
            if let watch = cleanup.child.watch { loop.unwatch(watch) }
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
            onNote(.started(key.component, pid: child.pid))
        } catch {
            onEvent(.spawnFailed(key.component, key.instance, reason: error.text))
        }
    }

    private func start(
        _ key: ChildKey, _ model: ComponentModel, _ environment: [EnvironmentVariable]
    ) throws(SpawnRefusal) -> Child {
        if children[key] != nil { throw SpawnRefusal("\(key.component) instance \(key.instance) runs already") }
        let mark = UInt64.random(in: 1 ... .max)
        var options = try plan.options(
            key.component, model, command: model.command, arguments: model.arguments,
            extra: environment.map { "\($0.name)=\($0.value)" } + Self.extra(key, mark))
        // What protects this node's middleware when memory runs out is not the application's: that is started again.
        if oomShield < 0, !Self.isMiddleware(key.component) { options.outOfMemoryScore = 0 }
        let child = try launch(key, .component, mark, options)
        do throws(OSError) {
            child.watch = try loop.watch(child.pidfd.raw, .read, lane: .control) { [unowned self] _ in exited(key) }
        } catch {
            abandon(child)
            throw SpawnRefusal("\(error)")
        }
        keep(child)
        return child
    }

    private static func isMiddleware(_ component: SaName) -> Bool {
        var root = component
        while let parent = DN.parent(root) { root = parent }
        return MiddlewareModel.isMiddleware(DN.shortName(root))
    }

    /// By which a process and what it starts are recognised, and what tells them which life of the component it is.
    private static func extra(_ key: ChildKey, _ mark: UInt64) -> [String] {
        ["\(AfterLife.variable)=\(mark)", "SAF_INSTANCE=\(key.instance)"]
    }

    /// Starts a process with its outputs captured and its record in the table; nobody watches it yet.
    private func launch(
        _ key: ChildKey, _ kind: ChildRecord.Kind, _ mark: UInt64, _ plain: SpawnOptions
    ) throws(SpawnRefusal) -> Child {
        do throws(OSError) {
            let (output, childOutput) = try OutputPipe.make()
            let (error, childError) = try OutputPipe.make()
            var options = plain
            options.descriptors = [DescriptorMapping(childOutput.raw, as: 1), DescriptorMapping(childError.raw, as: 2)]
            var record = ChildRecord(
                component: key.component, instance: key.instance, nonce: mark, kind: kind, outputPipe: output.inode,
                errorPipe: error.inode, startedAt: MonotonicClock.wallNanoseconds())
            guard table.intend(record) else {
                throw .outOfSpace("more than \(ChildrenTable.slotsMax) processes on this node")
            }
            do throws(OSError) {
                let process = try Process.spawn(options)
                record.pid = process.pid
                record.startTime = Process.startTime(of: process.pid) ?? 0
                table.running(mark, pid: record.pid, startTime: record.startTime)
                return child(
                    key, record, SharedDescriptor(process.takePidfd()), ChildOutput(output: output, error: error))
            } catch {
                table.forget(mark)
                throw error
            }
        } catch {
            throw SpawnRefusal("\(error)")
        }
    }

    private func child(
        _ key: ChildKey, _ record: ChildRecord, _ pidfd: SharedDescriptor, _ output: ChildOutput
    ) -> Child {
        lastToken += 1
        return Child(key: key, record: record, token: lastToken, pidfd: pidfd, output: output)
    }

    private func keep(_ child: Child) {
        children[child.key] = child
        byToken[child.token] = child.key
        byPid[child.pid] = child.key
    }

    /// A process that cannot be watched must not run.
    private func abandon(_ child: Child) {
        killGroup(child)
        _ = Process.reap(child.pid)
        table.forget(child.record.nonce)
    }

    // MARK: Adopting

    /// What an earlier amfd left: what lives, and the processes that ended or whose clean-up did not.
    struct Adopted {
        var living: [LivingComponent] = []
        var ended: Set<ChildKey> = []
    }

    /// Takes over what an earlier amfd left alive; ends what it cannot name.
    func adopt() -> Adopted {
        var adopted = Adopted()
        var strays: Set<UInt64> = []
        for record in table.records {
            let key = ChildKey(component: record.component, instance: record.instance)
            if record.kind == .component, record.pid > 0, Process.isAlive(record.pid, startTime: record.startTime),
                children[key] == nil,
                let child = readopt(key, record)
            {
                adopted.living.append(
                    LivingComponent(
                        component: key.component, instance: key.instance, pid: record.pid, startedAt: record.startedAt))
                onOutput(child)
            } else {
                adopted.ended.insert(key)
                strays.insert(record.nonce)
                table.forget(record.nonce)
            }
        }
        if !strays.isEmpty { endStrays(strays) }
        // Once more for those that were just forking, and for the permits of whoever died while amfd was away.
        for mark in strays.sorted() { afterLife.clear(mark) }
        adopted.ended.subtract(children.keys)
        return adopted
    }

    private func readopt(_ key: ChildKey, _ record: ChildRecord) -> Child? {
        do throws(OSError) {
            let pidfd = SharedDescriptor(try Process.pidfdOpen(record.pid))
            guard Process.startTime(of: record.pid) == record.startTime else { return nil }
            let output = ChildOutput(
                output: OutputPipe.reopen(pid: record.pid, number: 1, inode: record.outputPipe),
                error: OutputPipe.reopen(pid: record.pid, number: 2, inode: record.errorPipe))
            let child = child(key, record, pidfd, output)
            child.watch = try loop.watch(pidfd.raw, .read, lane: .control) { [unowned self] _ in exited(key) }
            keep(child)
            return child
        } catch {
            onNote(.cannotAdopt(key.component, pid: record.pid, reason: "\(error)"))
            return nil
        }
    }

    /// Of a component that died while amfd was away, of one started in the instant amfd was killed, and of clean-ups,
    /// which the node engine asks for again: nothing of them may go on beside what comes now.
    private func endStrays(_ marks: Set<UInt64>) {
        for pid in AfterLife.end(marks) { onNote(.endedStray(pid: pid)) }
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
        afterLife.clear(child.record.nonce)
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
        let mark = UInt64.random(in: 1 ... .max)
        let options = try plan.options(
            key.component, model, command: model.cleanupCommand, arguments: model.cleanupArguments,
            extra: Self.extra(key, mark))
        let child = try launch(key, .cleanup, mark, options)
        let pid = child.pid
        do throws(OSError) {
            child.watch = try loop.watch(child.pidfd.raw, .read, lane: .control) { [unowned self] _ in
                cleanupEnded(pid)
            }
        } catch {
            abandon(child)
            throw SpawnRefusal("\(error)")
        }
        let cleanup = Cleanup(child: child)
        cleanups[pid] = cleanup
        cleanup.timer = loop.schedule(after: model.timeouts.cleanup) { [unowned self] in
            cleanups[pid]?.isLate = true
            _ = try? Process.killGroup(pid)  // gone in between is as good
        }
        onOutput(child)
    }

    private func cleanupEnded(_ pid: Int32) {
        guard let cleanup = cleanups.removeValue(forKey: pid) else { return }
        let child = cleanup.child
        killGroup(child)  // what it left running; usually nothing
        let status = Process.reap(pid) ?? .unknown
        if let watch = child.watch { loop.unwatch(watch) }
        if let timer = cleanup.timer { loop.cancel(timer) }
        table.forget(child.record.nonce)
        afterLife.clear(child.record.nonce)
        let succeeded = status == .exited(code: 0)
        let reason = cleanup.isLate ? "the clean-up command did not end in time" : "the clean-up command \(status)"
        onEvent(
            .cleanedUp(
                child.key.component, child.key.instance, succeeded: succeeded, reason: succeeded ? "" : reason))
        onOutputEnd(child)
    }

    /// At the very end of amfd: nothing may stay.
    func killEverything() {
        for child in all { killGroup(child) }
        for pid in cleanups.keys.sorted() { _ = try? Process.killGroup(pid) }  // gone in between is as good
    }

    /// When all of that is gone: what had left the groups.
    func finish() { afterLife.finish() }
}

/// Carries a reference that is used on the loop's thread only through others.
final class LoopRelay<Target: AnyObject>: @unchecked Sendable {
    private(set) weak var target: Target?
    init(_ target: Target) { self.target = target }
}
