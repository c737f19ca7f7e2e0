import CkptEngine
import CkptProtocol
import Containers
import EOReplicated
import EngineKit
import IOCGroups
import OSAL
import SAFTypes
import Testing

@testable import CkptStore

/// A cluster of ckptd in one process: the real directory over a simulated group, the real replication over simulated
/// links, the real engine and store of each node in memory. A seed drives it through faults; then everything is healed
/// and must come to rest.
final class ClusterSimulation {
    let seed: UInt64
    var random: SeededRandom
    let network: SimulatedNetwork
    let nodes: [NodeID]
    let flags: CreationFlags
    var now = Instant(nanoseconds: 1_000_000_000)
    var processes: [NodeID: SimulatedProcess] = [:]
    /// RAM files: they outlive the process, not the machine.
    var memories: [NodeID: [CheckpointID: [UInt8]]] = [:]
    /// Of the directory, beside the RAM files.
    var journals: [NodeID: [[UInt8]]] = [:]
    /// They outlive the machine.
    var disks: [NodeID: ModelDisk] = [:]
    /// Of the directory, on each node.
    var databases: [NodeID: ModelDatabase] = [:]
    var clients: [NodeID: [Client]] = [:]
    var lineages: [NodeID: UInt64] = [:]
    var links: [NodeID: [NodeID: ModelLink]] = [:]
    var parts: [[NodeID]]
    var nextNumber: UInt64 = 1
    var isHealing = false

    // What the checkers know.
    var requests: [UInt64: Request] = [:]
    var acknowledged: [UInt64: CheckpointID] = [:]
    var answered: Set<UInt64> = []
    /// Every machine that had them was lost.
    var excused: Set<UInt64> = []
    var actives: [CheckpointID: [UInt64: NodeID]] = [:]
    /// By whom: unlinked perhaps, and so nothing of them is promised any more; and known to be.
    var unlinking: [RequestIdentity: CheckpointID] = [:]
    var unlinked: Set<CheckpointID> = []
    var failures: [String] = []
    var counts = Counts()

    struct Counts {
        var (writes, repeats, crashes, reboots, partitions, copies, elections) = (0, 0, 0, 0, 0, 0, 0)
        // Of disks.
        var (batches, refusals, blackouts, unlinks) = (0, 0, 0, 0)
        var reads = 0
        // Of sections that their writers write themselves, and updates that told of them.
        var (directWrites, told) = (0, 0)
    }

    /// What is left out, to see that it is missed.
    enum Sabotage: CaseIterable {
        case reads, promises, index
    }
    let sabotage: Sabotage?

    init(seed: UInt64, sabotage: Sabotage? = nil) {
        self.seed = seed
        self.sabotage = sabotage
        random = SeededRandom(seed: seed)
        let count = [1, 2, 3, 3, 3, 4, 5].randomElement(using: &random) ?? 3
        network = SimulatedNetwork(nodes: count, seed: seed &+ 1)
        nodes = network.nodes
        parts = [nodes]
        let modes: [CreationFlags] = [
            .writeAllReplicas, .writeAllReplicas, [.writeAllReplicas, .collocated], .writeActiveReplica,
            [.writeActiveReplica, .collocated], .writeActiveReplicaWeak,
        ]
        let mode = modes.randomElement(using: &random) ?? .writeAllReplicas
        flags = random.chance(percent: 40) ? mode.union(.persistent) : mode
        for node in nodes {
            clients[node] = newClients(node)
            for peer in nodes where peer != node { links[node, default: [:]][peer] = ModelLink() }
            start(node)
        }
    }

    func newClients(_ node: NodeID) -> [Client] { (0..<2).map { newClient(node, $0) } }

    func newClient(_ node: NodeID, _ name: Int) -> Client {
        Client(name: name, session: ClientSession(high: UInt64(node.rawValue), low: number()))
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
            replication: Replication(node: node, silenceMax: .milliseconds(400)), member: newMember(node, incarnation),
            incarnation: incarnation)
        memories[node] = [:]
        databases[node]?.begin()
        for id in (processes[node]?.member.images ?? [:]).keys.sorted() {
            guard let data = processes[node]?.member.engine.replica(id) else { continue }
            feed(node, .held(id, data))
        }
        tellStored(node)
        for client in clients[node] ?? [] {
            tell(node, .connected(client.session, ProcessIdentity(id: 1, start: client.session.low)))
        }
        let outputs: [ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>.Output]? = {
            do throws(GroupError) { return try processes[node]?.group.start("ckpt", at: now) } catch { return nil }
        }()
        perform(node, outputs ?? [])
    }

    /// A life of ckptd with the RAM files of the last one.
    private func newMember(_ node: NodeID, _ incarnation: UInt64) -> MemberNode {
        do {
            return try MemberNode(
                node.rawValue, recovering: try contents(node), limits: Self.storeLimits, incarnation: incarnation)
        } catch {
            fail("the RAM files of \(node) cannot be read: \(error)")
            return MemberNode(node.rawValue, limits: Self.storeLimits, incarnation: incarnation)
        }
    }

    /// So little that a follower soon lacks what the log has no more.
    static let storeLimits = StoreLimits(logBytesMin: 3 << 10)

    func stop(_ node: NodeID, losesMemory: Bool) {
        trace("\(node) stops, loses memory: \(losesMemory)")
        if losesMemory { losePower(node) }
        processes[node]?.member.recoverDirect()
        guard let process = processes.removeValue(forKey: node) else { return }
        memories[node] = losesMemory ? [:] : process.member.images.mapValues(\.memory.content)
        network.crash(node)
        breakLinks(of: node)
        if losesMemory {
            counts.reboots += 1
            (lineages[node], journals[node]) = (disks[node]?.lineage, nil)
            clients[node] = newClients(node)
            excuseWhatIsNowhere()
            forgetEpochsOfNobody()
        } else {
            counts.crashes += 1
            for index in 0..<2 {
                clients[node]?[index].sentAt = nil
                if case .opening = clients[node]?[index].stage { clients[node]?[index].stage = .idle }
            }
        }
    }

    // MARK: What there is

    /// Of a living ckptd, or left by a dead one; nil: none, or a copy that is not whole.
    func view(_ node: NodeID, _ id: CheckpointID) -> ReplicaView? {
        do {
            let image: MemberNode.Image
            if let process = processes[node] {
                guard let live = process.member.images[id] else { return nil }
                image = live
            } else {
                guard let content = memories[node]?[id] else { return diskView(node, id) }
                image = try MemberNode.Image(recovering: TestMemory(content), limits: Self.storeLimits)
            }
            if image.state.isPartial { return nil }
            return try ReplicaView(image)
        } catch {
            fail("the replica of \(id) on \(node) cannot be read: \(error)")
            return nil
        }
    }

    /// Requests that are nowhere any more.
    func lost(_ requests: [UInt64: CheckpointID]) -> [UInt64] {
        var held: [CheckpointID: Set<UInt64>] = [:]
        for id in Set(requests.values) {
            for node in nodes { held[id, default: []].formUnion(view(node, id)?.requests ?? []) }
        }
        return requests.filter { held[$0.value]?.contains($0.key) != true }.keys.sorted()
    }

    private func excuseWhatIsNowhere() {
        excused.formUnion(lost(acknowledged.filter { !excused.contains($0.key) }))
    }

    /// An epoch that no memory is left of may be given again: no data of it can be taken for other data.
    private func forgetEpochsOfNobody() {
        for (id, epochs) in actives {
            let newest = nodes.compactMap { view($0, id)?.data.version.epoch }.max() ?? 0
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
            case .perform(.changed(let entry), _):
                noteUnlink(of: entry.id, by: entry.unlinker)
                wait(node, .entry(entry.id, entry, nil))
            case .perform(.removed(let id, let why), _):
                if case .unlinked(let identity) = why { noteUnlink(of: id, by: identity) }
                wait(node, .entry(id, nil, why))
            case .perform(.unknown(let id, _), _): wait(node, .unknown(id))
            case .perform(.members(let lives), _):
                wait(node, .members(lives))
                checkMembers(node)
            case .perform(.opened(let id, _), let ticket): opened(node, ticket, id)
            case .journal(.append(let record)): journals[node, default: []].append(record)
            case .journal(.replace(let record)): journals[node] = [record]
            case .willApply, .didApply, .perform, .performOnce, .sendSnapshot, .note: break
            case .answer(let ticket, let outcome): answeredProposal(node, ticket, outcome)
            case .stateReplaced:
                processes[node]?.backlog.removeAll()
                processes[node]?.mustLookAtAll = true
                processes[node]?.hasLooked = false
                databases[node]?.mustReplace = true
                wait(node, .members(processes[node]?.group.core.completeLives ?? []))
            case .status: checkMembers(node)
            case .view(let view):
                processes[node]?.view = view
                review(node)
                let members = view.members.map(\.node)
                for peer in view.nodes where !members.contains(peer) { feed(node, .ended(peer)) }
                checkMembers(node)
            }
        }
        release(node)
    }

    private static func text(
        _ output: ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>.Output
    ) -> String { String("\(output)".prefix(2_000)) }

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
                let isNew = isMember && (!process.isMember || process.mustLookAtAll)
                processes[node]?.isMember = isMember
                if isNew || !isMember { processes[node]?.hasLooked = false }
                tellMayAct(node)
                if isNew { lookAtAll(node) }
                if isMember {
                    lineages[node] = process.group.core.lineage
                    tell(node, .lineage(process.group.core.lineage))
                }
            case .entry(let id, let entry, _):
                keep(node, id, entry)
                guard process.isMember else { continue }
                trace("\(node) sees \(id): \(String(describing: entry))")
                if entry?.isElecting == true { counts.elections += 1 }
                see(node, id, entry)
            case .looked:
                processes[node]?.hasLooked = process.isMember
                tellMayAct(node)
            case .unknown(let id): if process.isMember { see(node, id, nil) }
            }
        }
        keepAll(node)
        review(node)
    }

    private func tellMayAct(_ node: NodeID) {
        guard let process = processes[node] else { return }
        feed(node, .mayAct(process.mayAct))
    }

    private func lookAtAll(_ node: NodeID) {
        processes[node]?.mustLookAtAll = false
        let known = Set(processes[node]?.member.images.keys.map { $0 } ?? [])
        let told = Set(processes[node]?.group.core.entries.keys ?? [])
        for id in known.union(told).sorted() { wait(node, .entry(id, processes[node]?.group.core.entry(id), nil)) }
        wait(node, .looked)
    }

    private func checkMembers(_ node: NodeID) {
        guard let process = processes[node] else { return }
        let core = process.group.core
        tellMayAct(node)
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
        if process.group.core.isRecovering, let known = databases[node]?.known {
            for part in DirectoryMemory.parts(
                of: node, known.stamp, known.checkpoints.values, buried: known.buried.ids)
            {
                propose(node, .remembered(part), .other)
            }
        }
        let held = process.member.engine.held(at: now)
        propose(
            node,
            .joined(
                NodeJoin(
                    node: node, incarnation: process.incarnation, nodesExpected: UInt32(nodes.count),
                    time: 1_700_000_000 + number(), lineage: lineages[node] ?? 0, newLineage: number(), held: held,
                    isLast: true)), .other)
    }

    var attributes: CreationAttributes {
        CreationAttributes(
            flags: flags, checkpointSize: 100_000, retentionDuration: 60_000_000_000, sectionsMax: 10,
            sectionSizeMax: 50_000
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
        case .unlink(let identity):
            if outcome == .done, let id = unlinking[identity] {
                counts.unlinks += 1
                unlinked.insert(id)
            }
        case .other: break
        }
    }

    private func opened(_ node: NodeID, _ ticket: UInt64?, _ id: CheckpointID) {
        guard let ticket, case .open(let index) = processes[node]?.proposals[ticket],
            let client = clients[node]?[index], let handle = client.handle
        else { return }
        clients[node]?[index].stage = .open
        clients[node]?[index].checkpoint = id
        let origin = RequestOrigin(
            identity: RequestIdentity(session: client.session, number: 0),
            process: ProcessIdentity(id: 1, start: client.session.low))
        guard let record = processes[node]?.member.engine.opener(handle, [.read, .write], origin) else { return }
        tell(node, .opened(id, record))
    }
}
