public import ClmProtocol
import EngineKit
public import IOC
public import OSAL
public import SAFTypes
import Synchronization

/// The membership and the name table, for applications and tools. Any thread; blocking calls wait, the `async` ones
/// suspend. What was bound, subscribed and tracked is set up again by itself when clmd was restarted, unseen by others.
///
/// Source: SAI-AIS-CLM-B.01.01 (membership); TIPC (names and topology).
public final class ClusterClient: Sendable {
    /// Calls wait so long unless told otherwise.
    public static let defaultTimeout: Duration = .seconds(5)

    struct Tracker {
        var flags: TrackFlags
        var handler: @Sendable (ClusterView) -> Void
    }

    struct State {
        var bindings: Set<NameBinding> = []
        var subscriptions = TopologySubscriptions<@Sendable (TopologyEvent) -> Void>()
        var trackers: [UInt32: Tracker] = [:]
        var lastNumber: UInt32 = 0
        var isListening = false
        var localNode: NodeID?
        /// The last view told, so that nobody hears one twice.
        var viewNumber: UInt64 = 0
        var isLocalMember = true
        /// Asked before changes of the membership, and told how they ended.
        var stepHandler: (@Sendable (ClusterView) -> ChangeResponse.Answer?)?
        var areStepsLocal = false

        /// What clmd is to tell this process; nil: nothing.
        var trackFlags: TrackFlags? {
            guard stepHandler != nil else { return trackers.isEmpty ? nil : .changes }
            // Views of all nodes are wanted by others here, or only the steps of the own.
            return areStepsLocal && trackers.isEmpty
                ? [.changes, .startStep, .validateStep, .local] : [.changes, .startStep, .validateStep]
        }
    }

    let connection: IOCConnection
    let state = Mutex(State())

    /// The one of this process, at the places of its environment.
    public static let shared = ClusterClient(places: .fromEnvironment())

    /// Does not connect before it is used.
    public init(places: Places) {
        connection = IOCConnection(to: .wellKnown(.clmd), places: places)
        connection.onEstablished { [weak self] context in self?.setUp(context) }
    }

    public func close() { connection.close() }

    // MARK: Names

    /// Binds `range` of a service to a port of this process's node, until ``unbind(_:timeout:)`` or the process's end.
    ///
    /// - Parameters:
    ///   - port: where the provider receives.
    ///   - incarnation: tells the port from earlier ones of the same number; the start of the process will do.
    /// - Throws: `.invalidParam` the type is reserved (below 64); `.noResources` the table is full; `.tryAgain` clmd is
    ///   not there, or the cluster has no quorum: then it is bound as soon as that is over; `.timeout` likewise.
    public func bind(
        _ range: ServiceRange, to port: PortID, incarnation: UInt64, scope: BindingScope = .cluster,
        timeout: Duration = defaultTimeout
    ) throws(AisError) -> NameBinding {
        let deadline = MonotonicClock.now() + timeout
        let node = try localNode(until: deadline)
        let address = PortAddress(node: node, port: port.rawValue, incarnation: incarnation)
        let binding = NameBinding(range: range, address: address, scope: scope)
        state.withLock { _ = $0.bindings.insert(binding) }
        do throws(AisError) {
            try listen()
            _ = try call(.bind, binding.encoded, until: deadline)
        } catch {
            if error == .invalidParam || error == .noResources { state.withLock { _ = $0.bindings.remove(binding) } }
            throw error
        }
        return binding
    }

    /// Withdraws a binding; harmless when it is not bound.
    public func unbind(_ binding: NameBinding, timeout: Duration = defaultTimeout) throws(AisError) {
        state.withLock { _ = $0.bindings.remove(binding) }
        _ = try call(.withdraw, binding.encoded, until: MonotonicClock.now() + timeout)
    }

    /// Who provides `instance` of service `type`, the nearest first; never empty.
    ///
    /// - Throws: `.notExist` nobody does; `.tryAgain` clmd is not there, or providers may still be coming back after
    ///   its restart; `.timeout`.
    public func lookup(
        type: UInt32, instance: UInt32, timeout: Duration = defaultTimeout
    ) throws(AisError) -> [PortAddress] {
        let reply = try call(
            .lookup, LookupRequest(type: type, instance: instance).encoded, until: MonotonicClock.now() + timeout)
        return try decode(LookupReply.self, reply).addresses
    }

    /// Calls `handler`, on the library's thread and in order, for everything bound in `range` now and for every change.
    ///
    /// - Returns: what ``unsubscribe(_:)`` wants.
    /// - Throws: `.noResources` no thread for the handler. A clmd that is away is waited for in the background.
    public func subscribe(
        _ range: ServiceRange, _ handler: @escaping @Sendable (TopologyEvent) -> Void
    ) throws(AisError) -> UInt32 {
        let number = state.withLock { $0.subscriptions.add(range, handler) }
        try listen()
        ask(subscription: number)
        return number
    }

    public func unsubscribe(_ subscription: UInt32) {
        if let wireNumber = state.withLock({ $0.subscriptions.remove(subscription) }) { forget(wireNumber) }
    }

    /// Resolves functional addresses for ``IOC/IOCConnection``; blocks until the connection's deadline at most.
    public var resolver: AddressResolver {
        { [weak self] address, deadline in self?.endpoint(of: address, until: deadline) }
    }

    private func endpoint(of address: Address, until deadline: Instant) -> Endpoint? {
        switch address {
        case .port(let node, let port): return (try? localNode(until: deadline)) == node ? .port(port) : nil
        case .service(let type, let instance):
            if let service = WellKnownService(rawValue: type) { return .wellKnown(service) }
            guard let node = try? localNode(until: deadline) else { return nil }
            let request = LookupRequest(type: type, instance: instance)
            guard let reply = try? call(.lookup, request.encoded, until: deadline),
                let found = try? decode(LookupReply.self, reply).addresses.first(where: { $0.node == node })
            else { return nil }
            return .port(PortID(found.port))
        case .group, .broadcast: return nil
        }
    }

    // MARK: Membership

    /// The present view of the cluster. Source: saClmClusterTrack(), SA_TRACK_CURRENT.
    public func currentView(timeout: Duration = defaultTimeout) throws(AisError) -> ClusterView {
        try decode(
            ClusterView.self, try call(.track, TrackFlags.current.encoded, until: MonotonicClock.now() + timeout))
    }

    /// A member by its number; nil for this node. Source: saClmClusterNodeGet().
    ///
    /// - Throws: `.notExist` no such member; `.tryAgain`, `.timeout`.
    public func node(_ id: NodeID? = nil, timeout: Duration = defaultTimeout) throws(AisError) -> ClusterNode {
        let asked = (id ?? ClmConstants.localNode).encoded
        return try decode(ClusterNode.self, try call(.nodeGet, asked, until: MonotonicClock.now() + timeout))
    }

    /// Calls `handler`, on the library's thread, for every new view, and when this node becomes a member or is none any
    /// more.
    ///
    /// - Parameter flags: `.changes`: all nodes, and those that just left; `.changesOnly`: what changed; with `.local`:
    ///   of this node only. (Steps before a change: ``trackSteps(_:local:)``. The present view:
    ///   ``currentView(timeout:)``.)
    /// - Returns: what ``stopTracking(_:)`` wants.
    /// - Throws: `.badFlags` none or both of `.changes` and `.changesOnly`, or others than these; `.noResources`;
    ///   with `.local` as ``node(_:timeout:)``.
    /// - Source: saClmClusterTrack(), SA_TRACK_CHANGES, SA_TRACK_CHANGES_ONLY, SA_TRACK_LOCAL.
    public func track(
        _ flags: TrackFlags = .changes, _ handler: @escaping @Sendable (ClusterView) -> Void
    ) throws(AisError) -> UInt32 {
        guard flags.isValid, flags.isSubset(of: [.changes, .changesOnly, .local]) else { throw .badFlags }
        if flags.contains(.local) { _ = try localNode(until: MonotonicClock.now() + Self.defaultTimeout) }
        let number = state.withLock { state in
            state.lastNumber += 1
            state.trackers[state.lastNumber] = Tracker(flags: flags, handler: handler)
            return state.lastNumber
        }
        try listen()
        askToTrack()
        return number
    }

    /// Lets this process have a say before a node is locked or shut down, until it calls it with nil. Replaces an
    /// earlier handler.
    ///
    /// The handler gets the steps VALIDATE (may it happen?), START (get ready) and ABORTED (it does not happen), on the
    /// library's thread; what it returns is the answer. When it returns nil for a view with an invocation, the answer
    /// comes later by ``respond(_:_:timeout:)``; until then the change waits, a lock only as long as
    /// ``ClusterView/timeSupervision``. COMPLETED is a view as every other: ``track(_:)``.
    ///
    /// - Parameter local: only changes of this node.
    /// - Source: saClmClusterTrack_4(), SA_TRACK_START_STEP, SA_TRACK_VALIDATE_STEP, SA_TRACK_LOCAL.
    public func trackSteps(
        _ handler: (@Sendable (ClusterView) -> ChangeResponse.Answer?)?, local: Bool = false
    ) throws(AisError) {
        state.withLock { state in
            state.stepHandler = handler
            state.areStepsLocal = local
        }
        try listen()
        askToTrack()
    }

    /// Answers a VALIDATE or START. Source: saClmResponse_4().
    ///
    /// - Throws: `.notExist` the change does not wait for it (any more); `.tryAgain`, `.timeout`.
    public func respond(
        _ invocation: UInt64, _ answer: ChangeResponse.Answer, timeout: Duration = defaultTimeout
    ) throws(AisError) {
        let response = ChangeResponse(invocation: invocation, answer: answer)
        _ = try call(.respond, response.encoded, until: MonotonicClock.now() + timeout)
    }

    /// Locks, unlocks or shuts down a node; returns when that is completed.
    ///
    /// - Throws: `.notExist` no such node; `.noOp` it is so already; `.failedOperation` a tracker rejected it;
    ///   `.tryAgain` no quorum, or another change is under way; `.timeout` it may be completed yet.
    /// - Source: SA_CLM_ADMIN_LOCK, SA_CLM_ADMIN_UNLOCK, SA_CLM_ADMIN_SHUTDOWN.
    public func administer(
        _ operation: NodeAdministration.Operation, _ node: NodeID, timeout: Duration = .seconds(30)
    ) throws(AisError) {
        let body = NodeAdministration(node: node, operation: operation).encoded
        _ = try call(.administer, body, until: MonotonicClock.now() + timeout)
    }

    public func stopTracking(_ number: UInt32) {
        let isLast = state.withLock { state in
            state.trackers.removeValue(forKey: number) != nil && state.trackFlags == nil
        }
        if isLast { askToTrack() }
    }
}
