import ClmProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes

extension ClusterClient {
    /// On every new connection, before anything else goes out: what clmd must know of us.
    func setUp(_ context: borrowing EstablishedContext) {
        let (bindings, subscriptions, flags) = state.withLock { state in
            (state.bindings.sorted(), state.subscriptions.renewAll(), state.trackFlags)
        }
        // What fails here fails because the connection is lost again; the next one starts over.
        for binding in bindings { _ = try? context.call(ClmRequestCode.bind.rawValue, binding.encoded) }
        for request in subscriptions { _ = try? context.call(ClmRequestCode.subscribe.rawValue, request.encoded) }
        guard let flags else { return }
        let asked = flags.union(.current)
        if let reply = try? context.call(ClmRequestCode.track.rawValue, asked.encoded),
            let view = try? ClusterView(decoding: reply.body)
        {
            tell(view)
        }
    }

    /// Has the pushes delivered, and the connection kept, from now on.
    func listen() throws(AisError) {
        let isFirst = state.withLock { state in
            defer { state.isListening = true }
            return !state.isListening
        }
        guard isFirst else { return }
        guard connection.onPush({ [weak self] push in self?.heard(push) }) else {
            state.withLock { $0.isListening = false }
            throw .noResources
        }
    }

    func ask(subscription number: UInt32) {
        let (former, request) = state.withLock { state in
            (state.subscriptions.wireNumber(number), state.subscriptions.renew(number))
        }
        guard let request else { return }
        if let former { forget(former) }
        connection.callAsync(
            ClmRequestCode.subscribe.rawValue, request.encoded, timeout: Self.defaultTimeout
        ) { [weak self] _ in
            // The set-up of a new connection may have asked anew meanwhile.
            guard let self, !state.withLock({ $0.subscriptions.isCurrent(request.subscription) }) else { return }
            forget(request.subscription)
        }
    }

    func forget(_ wireNumber: UInt32) {
        var writer = ByteWriter()
        writer.integer(wireNumber)
        connection.callAsync(ClmRequestCode.unsubscribe.rawValue, writer.bytes, timeout: Self.defaultTimeout) { _ in }
    }

    private func heard(_ push: Push) {
        for descriptor in push.descriptors { IO.close(descriptor) }
        switch ClmPushCode(rawValue: push.code) {
        case .topology:
            guard let notice = try? TopologyNotice(decoding: push.body) else { return }
            switch state.withLock({ $0.subscriptions.heard(notice) }) {
            case .events(let events, let handler): for event in events { handler(event) }
            case .lost(let number, _):
                ask(subscription: number)
            case .nothing: break
            }
        case .membership:
            guard let view = try? ClusterView(decoding: push.body) else { return }
            if view.step == .completed { tell(view) } else { tellStep(view) }
        case nil: break
        }
    }

    /// A step that does not concern the handler is answered for it: others wait.
    private func tellStep(_ view: ClusterView) {
        let (handler, isLocal, localNode) = state.withLock { ($0.stepHandler, $0.areStepsLocal, $0.localNode) }
        let concerns = !isLocal || localNode == nil || view.rootCause == localNode
        let answer: ChangeResponse.Answer? = if let handler, concerns { handler(view) } else { .ok }
        guard let answer, view.invocation != 0 else { return }
        let response = ChangeResponse(invocation: view.invocation, answer: answer)
        connection.callAsync(
            ClmRequestCode.respond.rawValue, response.encoded, timeout: Self.defaultTimeout
        ) { _ in }  // what fails is answered by the loss of the connection
    }

    /// Tells clmd what this process wants to hear of the membership now.
    func askToTrack() {
        let flags = state.withLock { $0.trackFlags }
        connection.callAsync(
            flags == nil ? ClmRequestCode.trackStop.rawValue : ClmRequestCode.track.rawValue, flags?.encoded ?? [],
            timeout: Self.defaultTimeout
        ) { _ in }
    }

    private func tell(_ view: ClusterView) {
        let (trackers, localNode) = state.withLock { state -> ([Tracker], NodeID?) in
            guard view.viewNumber > state.viewNumber || view.isLocalMember != state.isLocalMember else {
                return ([], nil)
            }
            state.viewNumber = max(view.viewNumber, state.viewNumber)
            state.isLocalMember = view.isLocalMember
            return (state.trackers.keys.sorted().compactMap { state.trackers[$0] }, state.localNode)
        }
        for tracker in trackers { Self.tell(view, to: tracker, localNode) }
    }

    /// clmd tells all nodes, for whoever wants most.
    private static func tell(_ view: ClusterView, to tracker: Tracker, _ localNode: NodeID?) {
        var view = view
        let hadChanges = view.notifications.contains { $0.change != .noChange }
        if tracker.flags.contains(.local) { view.notifications.removeAll { $0.node.nodeID != localNode } }
        let changes = view.notifications.filter { $0.change != .noChange }
        if tracker.flags.contains(.local), hadChanges, changes.isEmpty { return }
        if tracker.flags.contains(.changesOnly) { view.notifications = changes }
        tracker.handler(view)
    }

    // Calls.

    func localNode(until deadline: Instant) throws(AisError) -> NodeID {
        if let known = state.withLock({ $0.localNode }) { return known }
        let reply = try call(.nodeGet, ClmConstants.localNode.encoded, until: deadline)
        let node = try decode(ClusterNode.self, reply).nodeID
        state.withLock { $0.localNode = node }
        return node
    }

    /// Asks again while clmd says "try again", until the deadline.
    func call(_ code: ClmRequestCode, _ body: [UInt8], until deadline: Instant) throws(AisError) -> [UInt8] {
        while true {
            let remaining = max(deadline - MonotonicClock.now(), .milliseconds(1))
            do throws(CallError) {
                return try connection.call(code.rawValue, body, timeout: remaining).body
            } catch {
                let pause = Duration.milliseconds(20)
                guard error.code == .tryAgain, MonotonicClock.now() + pause < deadline else { throw error.code }
                let rest = Monitor<Void>(())
                let _: Void? = rest.wait(until: MonotonicClock.now() + pause) { _ in nil }
            }
        }
    }

    func decode<Value: WireCodable>(_ type: Value.Type, _ bytes: [UInt8]) throws(AisError) -> Value {
        do throws(DecodeError) {
            return try Value(decoding: bytes)
        } catch {
            throw .library  // clmd is of another version
        }
    }
}
