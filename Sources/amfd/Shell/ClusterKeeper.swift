import AmfClient
import AmfEngine
import AmfProtocol
import EOLoop
import EngineKit
import IOCCluster
import IOCGroups
import IOCLinks
import OSAL
import SAFTypes

/// What amfd does because there are other nodes: the lease, and giving up those that are gone. A node alone has none of
/// this. Loop thread only.
final class ClusterKeeper {
    var onNote: (ShellNote) -> Void = { _ in } {
        didSet {
            lease.onNote = onNote
            assignments.onNote = onNote
        }
    }

    let lease: LeaseKeeper
    private let loop: Loop
    private var description: ClusterDescription
    /// What a majority is counted of.
    private var nodeCount: Int
    private let host: EngineHost
    private let keeper: ProcessKeeper
    private let fencer: Fencer?
    private let assignments: AssignmentKeeper
    private var watch: NodeWatch
    private var timer: LoopTimer?
    /// The process that a component had when it was last active.
    private var marked: [SaName: ProcessIdentity] = [:]

    init(
        loop: Loop, description: ClusterDescription, host: EngineHost, keeper: ProcessKeeper, page: LeasePage,
        assignments: AssignmentPage
    ) throws(LinkError) {
        (self.loop, self.description, self.host, self.keeper) = (loop, description, host, keeper)
        nodeCount = description.nodes.count
        lease = try LeaseKeeper(loop: loop, description: description, incarnation: host.incarnation, page: page)
        self.assignments = AssignmentKeeper(
            assignments, incarnation: host.incarnation, isNew: host.model == nil)
        fencer = description.fencing.map { Fencer(loop: loop, settings: $0) }
        watch = NodeWatch(
            NodeWatchConfiguration(
                leaseSpan: LeaseKeeper.configuration(description).leaseAsGranted,
                fenced: description.fencing?.devices.map(\.node) ?? []))
        lease.onReleased = { [unowned self] in feed(.released($0)) }
        lease.onSeparated = { [unowned self] in self.host.joinAnew() }
        host.onEpochs = { [unowned self] in self.assignments.setFloors($0) }
    }

    func start() { lease.start() }

    /// The cluster has other nodes: `description` those with an address here, `count` how many there are.
    func update(_ description: ClusterDescription, nodes count: Int) {
        guard self.description != description || nodeCount != count else { return }
        (self.description, nodeCount) = (description, count)
        host.expect(nodes: count)
        lease.update(description, nodes: count)
        look()
    }

    /// The other nodes with their builds, in the order of their numbers; see ``LeaseKeeper/askVersions``.
    func askVersions(then: @escaping ([(name: String, build: BuildVersion?)]) -> Void) {
        let others = description.others
        lease.askVersions(of: others.map(\.id), timeout: .seconds(1)) { answers in
            then(others.map { ("\($0.name)", answers[$0.id] ?? nil) })
        }
    }

    func close() {
        lease.close()
        if let timer { loop.cancel(timer) }
    }

    // MARK: What is active here

    /// A component may have become active, or ceased to be.
    func activityChanged(_ component: SaName) {
        if let process = host.isActive(component), let identity = identity(component, process.instance) {
            mark(component, identity)
        } else if let old = marked.removeValue(forKey: component) {
            lease.set(old, isActive: false)
        }
        keepActivities(of: component)
    }

    /// What a component is active for stands in the page before it hears of it.
    ///
    /// - Parameter foretold: it will hear of this, which is not ordered yet.
    func keepActivities(of component: SaName, foretold: CSISetOrder? = nil) {
        guard let (instance, activities) = host.activities(of: component, foretold: foretold),
            let identity = identity(component, instance)
        else { return }
        assignments.set(component, identity, activities)
    }

    /// A component hears that it is active before its engine does. False: it must wait for the engine, which stops it
    /// first while the lease is over.
    func becomesActive(_ order: CSISetOrder) -> Bool {
        guard lease.isOpen, let identity = identity(order.component, order.instance) else { return false }
        mark(order.component, identity)
        keepActivities(of: order.component, foretold: order)
        return true
    }

    private func identity(_ component: SaName, _ instance: InstanceNumber) -> ProcessIdentity? {
        keeper.child(ChildKey(component: component, instance: instance)).map {
            ProcessIdentity(pid: $0.pid, startTime: $0.record.startTime)
        }
    }

    private func mark(_ component: SaName, _ identity: ProcessIdentity) {
        if let old = marked[component], old != identity { lease.set(old, isActive: false) }
        marked[component] = identity
        lease.set(identity, isActive: true)
    }

    /// Those of an earlier amfd are in the page already; what they hold they say when they register.
    func adopted(_ living: [LivingComponent]) {
        let active = lease.page.active
        for component in living {
            guard let process = active.first(where: { $0.pid == component.pid }) else { continue }
            marked[component.component] = process
        }
        assignments.adopted(
            living.compactMap { component in
                Process.startTime(of: component.pid).map {
                    (component.component, ProcessIdentity(pid: component.pid, startTime: $0))
                }
            })
    }

    // MARK: Who is there

    /// The view, the own status or the members have changed.
    func look() {
        let amfds = host.view?.members.map(\.node) ?? []
        feed(
            .seen(
                NodeWatch.Sight(
                    amfds: amfds, ring: host.view?.nodes ?? [], members: host.members,
                    isMajority: host.view?.isQuorate == true && amfds.count > nodeCount / 2,
                    isInCharge: host.isOldest)))
    }

    /// What of a status is not in the engine's state.
    func complete(_ report: inout StatusReport) {
        report.isQuorate = host.view?.isQuorate ?? false
        report.oldest = host.oldest ?? NodeID(0)
        let heard = host.view?.members.map(\.node) ?? []
        for index in report.nodes.indices {
            report.nodes[index].isHeard = heard.contains(report.nodes[index].id)
            if report.nodes[index].id == host.node { report.nodes[index].lease = lease.isHeld ? .held : .over }
        }
    }

    private func feed(_ event: NodeWatch.Event) {
        for effect in watch.handle(event, at: MonotonicClock.now()) {
            switch effect {
            case .giveUp(let node, let incarnation):
                let hasStopped = host.members.contains { $0.node == node && $0.hasStopped }
                onNote(hasStopped ? .left(name(node)) : .givenUp(name(node)))
                host.propose(.nodeLeft(node, incarnation: incarnation)) { _ in }  // asked again while it is a member
            case .fence(let node): fence(node)
            case .missed(let node, let isConnected): onNote(.missed(name(node), isConnected: isConnected))
            case .startTimer(let at):
                if let timer { loop.cancel(timer) }
                timer = loop.schedule(after: max(.zero, at - MonotonicClock.now())) { [unowned self] in
                    timer = nil
                    look()
                }
            }
        }
    }

    private func fence(_ node: NodeID) {
        onNote(.fencing(name(node)))
        fencer?.fence(node) { [unowned self] failure in
            onNote(failure.map { .notFenced(name(node), reason: $0) } ?? .fenced(name(node)))
            feed(.fenced(node, succeeded: failure == nil))
        }
    }

    private func name(_ node: NodeID) -> String { description.node(node).map { "\($0.name)" } ?? "\(node)" }
}
