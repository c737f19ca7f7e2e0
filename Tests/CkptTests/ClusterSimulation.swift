import CkptEngine
import CkptProtocol
import Containers
import EOReplicated
import EngineKit
import IOCGroups
import OSAL
import SAFTypes
import Testing

/// A cluster of ckptd in one process: the real directory over a simulated group, the real replication over simulated
/// links, stores that are models. A seed drives it through faults; then everything is healed and must come to rest.
final class ClusterSimulation {
    let seed: UInt64
    var random: SeededRandom
    let network: SimulatedNetwork
    let nodes: [NodeID]
    let flags: CreationFlags
    var now = Instant(nanoseconds: 1_000_000_000)
    var processes: [NodeID: SimulatedProcess] = [:]
    /// RAM files: they outlive the process, not the machine.
    var stores: [NodeID: [CheckpointID: ModelStore]] = [:]
    /// Of the directory, beside the RAM files.
    var journals: [NodeID: [[UInt8]]] = [:]
    var clients: [NodeID: [Client]] = [:]
    var lineages: [NodeID: UInt64] = [:]
    var links: [NodeID: [NodeID: ModelLink]] = [:]
    var parts: [[NodeID]]
    var nextNumber: UInt64 = 1
    var isHealing = false

    // What the checkers know.
    var acknowledged: [UInt64: CheckpointID] = [:]
    var answered: Set<UInt64> = []
    /// Every machine that had them was lost.
    var excused: Set<UInt64> = []
    var actives: [CheckpointID: [UInt64: NodeID]] = [:]
    var failures: [String] = []
    var counts = (writes: 0, crashes: 0, reboots: 0, partitions: 0, copies: 0, elections: 0)

    init(seed: UInt64) {
        self.seed = seed
        random = SeededRandom(seed: seed)
        let count = [1, 2, 3, 3, 3, 4, 5].randomElement(using: &random) ?? 3
        network = SimulatedNetwork(nodes: count, seed: seed &+ 1)
        nodes = network.nodes
        parts = [nodes]
        let modes: [CreationFlags] = [
            .writeAllReplicas, .writeAllReplicas, [.writeAllReplicas, .collocated], .writeActiveReplica,
            [.writeActiveReplica, .collocated], .writeActiveReplicaWeak,
        ]
        flags = modes.randomElement(using: &random) ?? .writeAllReplicas
        for node in nodes {
            clients[node] = (0..<2).map { Client(name: $0) }
            for peer in nodes where peer != node { links[node, default: [:]][peer] = ModelLink() }
            start(node)
        }
    }

    var isSynchronous: Bool { flags.contains(.writeAllReplicas) }

    func number() -> UInt64 {
        defer { nextNumber += 1 }
        return nextNumber
    }

    let isTracing = Environment.get("SAF_SIM_TRACE") != nil
    func trace(_ text: @autoclosure () -> String) { if isTracing { print(now.nanoseconds / 1_000, text()) } }

    func fail(_ text: String) { if failures.count < 5 { failures.append("seed \(seed): \(text)") } }

    // MARK: Processes

    func start(_ node: NodeID) {
        let incarnation = number()
        let simulated = network.attach(node, incarnation: incarnation)
        var configuration = ReplicatedConfiguration(member: simulated.member)
        // Without a majority that remembers it would be guessing; after the faults all are there.
        configuration.formationGrace = nil
        configuration.proposalTimeout = .milliseconds(1_500)
        configuration.isJournaling = true
        var core = Replicated(core: Directory(), configuration: configuration)
        do throws(DecodeError) {
            core = try Replicated(
                core: Directory(), configuration: configuration, restoring: journals[node] ?? [])
        } catch {
            fail("the journal of \(node) cannot be read: \(error)")
        }
        processes[node] = SimulatedProcess(
            group: ReplicatedNode(core, over: FragmentingGroup(simulated)),
            replication: Replication(node: node, silenceMax: .milliseconds(400)), incarnation: incarnation)
        for id in (stores[node] ?? [:]).keys.sorted() {
            guard let store = stores[node]?[id] else { continue }
            feed(node, .held(id, store.data))
        }
        let outputs: [ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>.Output]? = {
            do throws(GroupError) { return try processes[node]?.group.start("ckpt", at: now) } catch { return nil }
        }()
        perform(node, outputs ?? [])
    }

    func stop(_ node: NodeID, losesMemory: Bool) {
        trace("\(node) stops, loses memory: \(losesMemory)")
        guard processes.removeValue(forKey: node) != nil else { return }
        network.crash(node)
        breakLinks(of: node)
        if losesMemory {
            counts.reboots += 1
            stores[node] = [:]
            (lineages[node], journals[node]) = (nil, nil)
            clients[node] = (0..<2).map { Client(name: $0) }
            excuseWhatIsNowhere()
            forgetEpochsOfNobody()
        } else {
            counts.crashes += 1
            for index in 0..<2 {
                clients[node]?[index].sentAt = nil
                if case .opening = clients[node]?[index].stage { clients[node]?[index].stage = .idle }
            }
            for id in (stores[node] ?? [:]).keys where stores[node]?[id]?.data.isPartial == true {
                // What a copy has left is told to be partial; the handles in the file stay.
                stores[node]?[id]?.sections.removeAll()
            }
        }
    }

    private func excuseWhatIsNowhere() {
        for (request, id) in acknowledged where !excused.contains(request) {
            let isHeld = stores.values.contains { $0[id]?.position(of: request) != nil }
            if !isHeld { excused.insert(request) }
        }
    }

    /// An epoch that no memory is left of may be given again: no data of it can be taken for other data.
    private func forgetEpochsOfNobody() {
        for (id, epochs) in actives {
            let newest = stores.values.compactMap { $0[id]?.data.version.epoch }.max() ?? 0
            actives[id] = epochs.filter { $0.key <= newest }
        }
    }

    func propose(_ node: NodeID, _ event: DirectoryEvent, _ proposal: SimulatedProcess.Proposal) {
        let ticket = number()
        trace("\(node) proposes \(ticket) \(event)")
        processes[node]?.proposals[ticket] = proposal
        perform(node, processes[node]?.group.propose(event, ticket: ticket, at: now) ?? [])
    }

    func pump(_ node: NodeID) { perform(node, processes[node]?.group.pump(at: now) ?? []) }

    private func perform(
        _ node: NodeID, _ outputs: [ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>.Output]
    ) {
        for output in outputs {
            trace("\(node) \(Self.text(output))")
            switch output {
            case .perform(.changed(let entry), _): wait(node, .entry(entry.id, entry, nil))
            case .perform(.removed(let id, let why), _): wait(node, .entry(id, nil, why))
            case .perform(.unknown(let id, _), _): wait(node, .unknown(id))
            case .perform(.members(let lives), _):
                wait(node, .members(lives))
                checkMembers(node)
            case .perform(.opened(let id, _), let ticket): opened(node, ticket, id)
            case .journal(.append(let record)): journals[node, default: []].append(record)
            case .journal(.replace(let record)): journals[node] = [record]
            case .perform, .performOnce, .sendSnapshot, .note: break
            case .answer(let ticket, let outcome): answeredProposal(node, ticket, outcome)
            case .stateReplaced:
                processes[node]?.backlog.removeAll()
                wait(node, .members(processes[node]?.group.core.completeLives ?? []))
            case .status: checkMembers(node)
            case .view(let view):
                processes[node]?.view = view
                checkMembers(node)
            }
        }
        release(node)
    }

    private static func text(
        _ output: ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>.Output
    ) -> String { String("\(output)".prefix(300)) }

    private func wait(_ node: NodeID, _ step: DirectoryBacklog.Step) {
        guard let process = processes[node] else { return }
        processes[node]?.backlog.append(step, at: process.group.replicated.index)
    }

    /// What a majority has is acted on, by nodes that have told what they have.
    private func release(_ node: NodeID) {
        while let process = processes[node],
            let step = processes[node]?.backlog.next(through: process.group.replicated.committedIndex)
        {
            switch step {
            case .members(let lives):
                let isMember = lives.contains(NodeLife(node: node, incarnation: process.incarnation))
                guard isMember != process.isMember || isMember else { continue }
                processes[node]?.isMember = isMember
                feed(node, .mayAct(isMember && process.group.status == .synchronised))
                if isMember, !process.isMember { lookAtAll(node) }
                if isMember { lineages[node] = process.group.core.lineage }
            case .entry(let id, let entry, _):
                guard process.isMember else { continue }
                trace("\(node) sees \(id): \(String(describing: entry))")
                if entry?.isElecting == true { counts.elections += 1 }
                feed(node, .entry(id, entry))
            case .unknown(let id): if process.isMember { stores[node]?[id] = nil }
            }
        }
    }

    private func lookAtAll(_ node: NodeID) {
        let known = Set(stores[node]?.keys.map { $0 } ?? [])
        let told = Set(processes[node]?.group.core.entries.keys ?? [])
        for id in known.union(told).sorted() { wait(node, .entry(id, processes[node]?.group.core.entry(id), nil)) }
    }

    private func checkMembers(_ node: NodeID) {
        guard let process = processes[node] else { return }
        let core = process.group.core
        feed(node, .mayAct(process.isMember && process.group.status == .synchronised))
        let isMember = core.isMember(node, incarnation: process.incarnation)
        guard process.group.status == .synchronised, let view = process.view else { return }
        if !isMember, process.joinDue == nil { processes[node]?.joinDue = now }
        guard process.group.replicated.isOldest else { return }
        let gone = core.lives.filter { life in
            !view.members.contains(GroupMember(node: life.node, incarnation: life.incarnation))
        }
        if !gone.isEmpty { propose(node, .left(gone), .other) }
    }

    func join(_ node: NodeID) {
        guard let process = processes[node], process.group.status == .synchronised,
            !process.group.core.isMember(node, incarnation: process.incarnation)
        else { return }
        var held: [HeldReplica] = []
        for id in (stores[node] ?? [:]).keys.sorted() {
            guard let store = stores[node]?[id], let name = names[id] else { continue }
            let version = store.data.isPartial ? ReplicaVersion.empty : store.data.version
            held.append(
                HeldReplica(
                    id: id, name: name, attributes: attributes, version: version,
                    retention: attributes.retentionDuration,
                    isActive: store.isActive, openers: store.handles.sorted()))
        }
        propose(
            node,
            .joined(
                NodeJoin(
                    node: node, incarnation: process.incarnation, nodesExpected: UInt32(nodes.count),
                    time: 1_700_000_000 + number(), lineage: lineages[node] ?? 0, newLineage: number(), held: held,
                    isLast: true)), .other)
    }

    var names: [CheckpointID: SaName] = [:]
    var attributes: CreationAttributes {
        CreationAttributes(
            flags: flags, checkpointSize: 1_000, retentionDuration: 60_000_000_000, sectionsMax: 10, sectionSizeMax: 100
        )
    }

    private func answeredProposal(_ node: NodeID, _ ticket: UInt64, _ outcome: ProposalOutcome) {
        guard let proposal = processes[node]?.proposals.removeValue(forKey: ticket) else { return }
        switch proposal {
        case .about(let id):
            let isAwaited = processes[node]?.refused.contains { $0.id == id } ?? true
            if outcome != .done, !isAwaited { processes[node]?.refused.append((now + .milliseconds(50), id)) }
        case .open(let client):
            if clients[node]?[client].stage == .opening(ticket: ticket) { clients[node]?[client].stage = .idle }
        case .other: break
        }
    }

    private func opened(_ node: NodeID, _ ticket: UInt64?, _ id: CheckpointID) {
        guard let ticket, case .open(let index) = processes[node]?.proposals[ticket],
            let handle = clients[node]?[index].handle
        else { return }
        clients[node]?[index].stage = .open
        clients[node]?[index].checkpoint = id
        names[id] = names[id] ?? SaName("safCkpt=\(clients[node]?[index].name ?? 0)")
        stores[node]?[id]?.handles.insert(handle)
    }
}
