import EOLoop
import EOReplicated
import EngineKit
import EventEngine
import EventProtocol
import IOCGroups
import OSAL
import SAFTypes

/// Runs this node's two engines, the replicated registry and the node's own, and keeps what their next life needs.
///
/// Everything goes through one queue, first in, first out, so neither engine is entered twice. A kept event is in the
/// journal before the engine sees it: what anybody was told has happened for the next life, too. Loop thread only.
final class EngineHost {
    typealias Registry = ReplicatedNode<ChannelRegistry, LoopbackGroup>

    /// Performs what is neither the registry's nor the timer's; the batch of one event, in order.
    var perform: ([NodeEngine.Effect]) -> Void = { _ in }
    var note: (_ isError: Bool, _ text: String) -> Void = { _, _ in }

    private let loop: Loop
    private let registryJournal: EventJournal
    private let nodeJournal: EventJournal
    private var registry: Registry
    private(set) var engine: NodeEngine
    private var queue: [NodeEngine.Event] = []
    private var isDraining = false
    private var timer: LoopTimer?
    private var pumpTimer: (at: Instant, timer: LoopTimer)?
    private var notKept: Instant?

    init(
        loop: Loop, places: Places, node: NodeID, note: @escaping (_ isError: Bool, _ text: String) -> Void
    ) throws(OSError) {
        self.loop = loop
        self.note = note
        let directory = places.shmDirectory + "/eventd"
        try File.makeDirectories(directory, mode: 0o700)
        registryJournal = try EventJournal(path: directory + "/registry")
        nodeJournal = try EventJournal(path: directory + "/node")
        for journal in [registryJournal, nodeJournal] where journal.wasTorn {
            note(false, "\(journal.path) holds what is no whole record; that is dropped, with all that follows it")
        }
        // Not the pid: a restored state remembers the proposals of earlier incarnations, and pids come again.
        let member = GroupMember(node: node, incarnation: UInt64(MonotonicClock.wallNanoseconds()))
        registry = Registry(
            Self.restoredRegistry(member, registryJournal, note), over: LoopbackGroup(member: member))
        engine = Self.restoredEngine(node, nodeJournal, note)
    }

    private static func restoredRegistry(
        _ member: GroupMember, _ journal: EventJournal, _ note: (Bool, String) -> Void
    ) -> Replicated<ChannelRegistry> {
        var configuration = ReplicatedConfiguration(member: member)
        configuration.isJournaling = true
        configuration.digestInterval = 0
        do throws(DecodeError) {
            return try Replicated(
                core: ChannelRegistry(), configuration: configuration, restoring: journal.takeRecords())
        } catch {
            journal.setAside()
            note(
                true, "\(journal.path) is damaged and was put aside; channels are made again by who uses them: \(error)"
            )
            return Replicated(core: ChannelRegistry(), configuration: configuration)
        }
    }

    private static func restoredEngine(
        _ node: NodeID, _ journal: EventJournal, _ note: (Bool, String) -> Void
    ) -> NodeEngine {
        // Where nothing is found, ids begin at random: no earlier life can be expected to have given the same.
        let fresh = NodeEngine(
            node: node, firstEvent: UInt64.random(in: 1 << 20..<1 << 40), lineage: UInt32.random(in: 1 ... .max))
        var engine = fresh
        do throws(DecodeError) {
            try engine.restore(journal.takeRecords())
            return engine
        } catch {
            journal.setAside()
            note(
                true,
                "\(journal.path) is damaged and was put aside; subscribers are told that events are lost: \(error)")
            return fresh
        }
    }

    /// Begins: what the registry has is told to the node's engine, and a snapshot of that is the beginning of this
    /// life's journal.
    func start() {
        do throws(GroupError) {
            perform(try registry.start("eventd", at: loop.now))
        } catch {
            invariant(false, "a group of one cannot be refused: \(error)")
        }
        replaceRegistry()
        drain()
    }

    func handle(_ event: NodeEngine.Event) {
        queue.append(event)
        drain()
    }

    var isJournalBroken: Bool { nodeJournal.isBroken || registryJournal.isBroken }
    var registryStatus: ReplicatedStatus { registry.status }

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        var head = 0
        while head < queue.count {
            let event = queue[head]
            head += 1
            step(event)
        }
        queue.removeAll(keepingCapacity: true)
        isDraining = false
        schedulePump()
    }

    private func step(_ event: NodeEngine.Event) {
        let now = loop.now
        if event.isKept { keep { () throws(OSError) in try nodeJournal.append(NodeEngine.record(of: event, at: now)) } }
        var effects: [NodeEngine.Effect] = []
        for effect in engine.handle(event, at: now) {
            switch effect {
            case .propose(let command, let ticket): perform(registry.propose(command, ticket: ticket, at: now))
            case .setTimer(let instant): setTimer(instant)
            case .reply, .deliver, .forward: effects.append(effect)
            }
        }
        if case .registryReplaced = event { takeSnapshot(at: now) } else { takeSnapshotIfDue(at: now) }
        perform(effects)
    }

    private func perform(_ outputs: [Registry.Output]) {
        for output in outputs {
            switch output {
            case .journal(.append(let record)): keep { () throws(OSError) in try registryJournal.append(record) }
            case .journal(.replace(let record)):
                keep { () throws(OSError) in try registryJournal.replace(with: record) }
            case .perform(.changed(let id, let channel), _): queue.append(.registered(id, channel))
            case .perform(.opened(let id), let ticket): queue.append(.answered(ticket: ticket ?? 0, .opened(id)))
            case .perform(.refused(let code, let text), let ticket):
                queue.append(.answered(ticket: ticket ?? 0, .refused(code, text)))
            case .answer(let ticket, .done): if ticket != 0 { queue.append(.answered(ticket: ticket, .done)) }
            case .answer(let ticket, .refused(let code)):
                queue.append(.answered(ticket: ticket, .refused(code, "the registry of channels is not available")))
            case .stateReplaced: replaceRegistry()
            case .performOnce(let id, _): perform(registry.effectDone(id, at: loop.now))
            case .view, .status, .sendSnapshot, .note: break  // of a group of one: fixed, and about nobody
            }
        }
    }

    private func replaceRegistry() {
        let entries = registry.core.channels.map { RegistryEntry(id: $0.key, channel: $0.value) }
        queue.append(.registryReplaced(entries, lineage: registry.core.lineage))
    }

    // MARK: Keeping

    private func keep(_ body: () throws(OSError) -> Void) {
        do throws(OSError) {
            try body()
        } catch {
            note(true, "what happens from now on will not survive a restart of eventd: \(error)")
        }
    }

    private func takeSnapshotIfDue(at now: Instant) {
        guard nodeJournal.isSnapshotDue else { return }
        if nodeJournal.isBroken, let notKept, now - notKept < .seconds(1) { return }
        takeSnapshot(at: now)
    }

    private func takeSnapshot(at now: Instant) {
        let wasBroken = nodeJournal.isBroken
        do throws(OSError) {
            try nodeJournal.replace(with: engine.snapshot)
            if wasBroken { note(false, "\(nodeJournal.path) is whole again") }
            notKept = nil
        } catch {
            if !wasBroken { note(true, "what happens from now on will not survive a restart of eventd: \(error)") }
            notKept = now
        }
    }

    // MARK: Time

    private func setTimer(_ instant: Instant?) {
        if let timer { loop.cancel(timer) }
        timer = instant.map { instant in
            loop.schedule(after: max(.milliseconds(1), instant - loop.now)) { [unowned self] in
                timer = nil
                handle(.timer)
            }
        }
    }

    private func schedulePump() {
        let next = registry.nextDeadline(after: loop.now)
        guard next != pumpTimer?.at else { return }
        if let old = pumpTimer { loop.cancel(old.timer) }
        pumpTimer = nil
        guard let next else { return }
        let timer = loop.schedule(after: max(.zero, next - loop.now)) { [unowned self] in
            pumpTimer = nil
            perform(registry.pump(at: loop.now))
            drain()
        }
        pumpTimer = (next, timer)
    }
}
