import EOHost
import EOLoop
import EOReplicated
import EngineKit
import EventEngine
import EventProtocol
import IOCCluster
import OSAL
import SAFTypes

/// Runs this node's two engines, the replicated registry and the node's own, and keeps what their next life needs.
///
/// Everything goes through one queue, first in, first out, so neither engine is entered twice. A kept event is in the
/// journal before the engine sees it: what anybody was told has happened for the next life, too. Loop thread only.
final class EngineHost {
    /// What clients ask waits so long for the cluster's registry when eventd starts; then the node's own copy must do.
    static let readyAfter = Duration.seconds(3)

    /// Performs what is neither the registry's nor the timer's; the batch of one event, in order.
    var perform: ([NodeEngine.Effect]) -> Void = { _ in }

    /// The other nodes in the group, whenever that changes.
    var onOthers: ([NodeID]) -> Void = { _ in }
    /// Clients are served from now on.
    var onReady: () -> Void = {}

    private enum Step {
        case event(NodeEngine.Event)
        /// Of the registry, by its own ticket.
        case answered(UInt64, RegistryAnswer)
    }

    private let loop: Loop
    private let note: (_ isError: Bool, _ text: String) -> Void
    private let registryJournal: EventJournal
    private let nodeJournal: EventJournal
    private let registry: ReplicaHost<ChannelRegistry>
    /// Of this life of eventd.
    let incarnation: UInt64
    private(set) var engine: NodeEngine
    private var queue: [Step] = []
    private var isDraining = false
    /// What clients asked before the registry was there.
    private var held: [NodeEngine.Event]? = []
    private var readyTimer: LoopTimer?
    /// The engine's ticket of each proposal, by the registry's.
    private var tickets: [UInt64: UInt64] = [:]
    private var timer: LoopTimer?
    private var notKept: Instant?

    init(
        loop: Loop, places: Places, description: ClusterDescription,
        note: @escaping (_ isError: Bool, _ text: String) -> Void
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
        incarnation = UInt64(MonotonicClock.wallNanoseconds())
        registry = ReplicaHost(
            loop: loop, description: description, incarnation: incarnation, core: ChannelRegistry(),
            restoring: registryJournal.takeRecords()
        ) { configuration in
            configuration.isJournaling = true
            if description.groupEngine == .alone { configuration.digestInterval = 0 }
        }
        engine = Self.restoredEngine(description.localNode, nodeJournal, note)
        if let failure = registry.restoreFailure {
            registryJournal.setAside()
            note(
                true,
                "\(registryJournal.path) is damaged and was put aside; channels are made again by who uses them: "
                    + failure)
        }
        watchRegistry()
    }

    private static func restoredEngine(
        _ node: NodeID, _ journal: EventJournal, _ note: (Bool, String) -> Void
    ) -> NodeEngine {
        // Where nothing is found, ids begin with the time of day: no earlier life has given more than 2^17 in a second.
        let since2020 = MonotonicClock.wallNanoseconds() / 1_000_000_000 - 1_577_836_800
        let seconds = UInt64(clamping: since2020)
        let fresh = NodeEngine(
            node: node, firstEvent: max(1 << 20, seconds << 17), lineage: UInt32.random(in: 1 ... .max))
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

    // MARK: The registry

    private func watchRegistry() {
        registry.onJournal = { [unowned self] write in
            keep { () throws(OSError) in
                switch write {
                case .append(let record): try registryJournal.append(record)
                case .replace(let record): try registryJournal.replace(with: record)
                }
            }
        }
        registry.onEffect = { [unowned self] outcome, ticket in
            switch outcome {
            case .changed(let id, let channel): enqueue(.event(.registered(id, channel)))
            case .opened(let id): if let ticket { enqueue(.answered(ticket, .opened(id))) }
            case .refused(let code, let text): if let ticket { enqueue(.answered(ticket, .refused(code, text))) }
            }
        }
        registry.onAnswer = { [unowned self] ticket, outcome in
            switch outcome {
            case .done: enqueue(.answered(ticket, .done))
            case .refused(let code):
                enqueue(.answered(ticket, .refused(code, "the registry of channels is not available")))
            }
        }
        registry.onStateReplaced = { [unowned self] in
            enqueue(.event(.registryChanged(entries, lineage: registry.core.lineage)))
        }
        registry.onView = { [unowned self] view in
            tellMembers()
            onOthers(view.members.map(\.node).filter { $0 != registry.member.node })
        }
        registry.onStatus = { [unowned self] status in
            tellMembers()
            if status == .synchronised { becomeReady() }
        }
        registry.onNote = { [unowned self] event in
            note(event.isError, "the registry of channels: \(event)")
        }
    }

    private func tellMembers() {
        let members = (registry.view?.members ?? []).map(\.node)
        enqueue(.event(.members(members, isOldest: registry.replicated.isOldest)))
    }

    private var entries: [RegistryEntry] {
        registry.core.channels.map { RegistryEntry(id: $0.key, channel: $0.value) }
    }

    /// Begins: what the registry has is told to the node's engine, and a snapshot of that is the beginning of this
    /// life's journal.
    /// What a majority is counted of.
    func expect(nodes: Int) { registry.expect(nodes: nodes) }

    func start() {
        handle(.registryReplaced(entries, lineage: registry.core.lineage))
        readyTimer = loop.schedule(after: Self.readyAfter) { [unowned self] in
            readyTimer = nil
            note(false, "the registry of channels is not there yet (\(registry.status)); clients are served without")
            becomeReady()
        }
        registry.start("evt")
    }

    func stop() { registry.close() }

    /// A publisher that is served before the registry is there would not reach who subscribed meanwhile.
    private func becomeReady() {
        guard let events = held else { return }
        held = nil
        if let readyTimer { loop.cancel(readyTimer) }
        readyTimer = nil
        for event in events { enqueue(.event(event)) }
        onReady()
    }

    // MARK: Events

    func handle(_ event: NodeEngine.Event) {
        switch event {
        case .connected, .disconnected, .request:
            if held != nil {
                held?.append(event)
                return
            }
        default: break
        }
        enqueue(.event(event))
    }

    var isJournalBroken: Bool { nodeJournal.isBroken || registryJournal.isBroken }
    var registryStatus: ReplicatedStatus { registry.status }

    private func enqueue(_ step: Step) {
        queue.append(step)
        drain()
    }

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        var head = 0
        while head < queue.count {
            let step = queue[head]
            head += 1
            switch step {
            case .event(let event): handleNow(event)
            case .answered(let ticket, let answer):
                let isLast = if case .opened = answer { false } else { true }
                let known = isLast ? tickets.removeValue(forKey: ticket) : tickets[ticket]
                if let known { handleNow(.answered(ticket: known, answer)) }
            }
        }
        queue.removeAll(keepingCapacity: true)
        isDraining = false
    }

    private func handleNow(_ event: NodeEngine.Event) {
        let now = loop.now
        if event.isKept { keep { () throws(OSError) in try nodeJournal.append(NodeEngine.record(of: event, at: now)) } }
        var effects: [NodeEngine.Effect] = []
        for effect in engine.handle(event, at: now) {
            switch effect {
            // Its answer is queued, so the ticket is known by then.
            case .propose(let command, let ticket): tickets[registry.propose(command)] = ticket
            case .setTimer(let instant): setTimer(instant)
            case .reply, .deliver, .send, .hangUp: effects.append(effect)
            }
        }
        if case .registryReplaced = event { takeSnapshot(at: now) } else { takeSnapshotIfDue(at: now) }
        perform(effects)
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
}
