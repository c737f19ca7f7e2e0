import EventProtocol
import IOC
import OSAL
import SAFTypes

/// This process's connection to eventd: what is open on it, what it has received, and how to go on when eventd was
/// restarted.
final class EventSession: Sendable {
    struct Subscription {
        var filters: [EventFilter]
        var mailbox: EventMailbox
        /// Its subscribe was not answered yet.
        var isPending = true
    }

    private struct Instance {
        var name: SaName
        var flags: ChannelOpenFlags
        /// The id its open was answered with; 0 until then.
        var channel: UInt64 = 0
        var received = ReceivedNumbers()
        /// Received since the last confirmation.
        var unconfirmed = 0
        var unconfirmedBytes = 0
        var isConfirming = false
        var owesConfirmation = false
        /// By id, ascending.
        var subscriptions: [(id: UInt32, value: Subscription)] = []

        func index(_ id: UInt32) -> Int? { subscriptions.firstIndex { $0.id == id } }

        /// Where a delivery goes: to its subscription, or when that has ended to another that matches.
        func mailboxes(for delivery: EventDelivery) -> [EventMailbox] {
            if delivery.event.isLost { return subscriptions.map(\.value.mailbox) }
            if let index = index(delivery.subscription) { return [subscriptions[index].value.mailbox] }
            let other = subscriptions.first { $0.value.filters.match(delivery.event.patterns) }
            return other.map { [$0.value.mailbox] } ?? []
        }
    }

    private struct State {
        var instances: [UInt32: Instance] = [:]
        var nextInstance: UInt32 = 1
        var nextSubscription: UInt32 = 1
        var connectionHandlers: [UInt32: @Sendable (Bool) -> Void] = [:]
    }

    private let state = Lock(State())
    private let connection: IOCConnection

    private static let sessions = Lock<[Places: EventSession]>([:])

    /// One connection per process and node, however many channels are open.
    static func shared(_ places: Places) -> EventSession {
        sessions.withLock { sessions in
            if let session = sessions[places] { return session }
            let session = EventSession(places: places)
            sessions[places] = session
            return session
        }
    }

    private init(places: Places) {
        connection = IOCConnection(to: .wellKnown(.eventd), places: places)
        connection.onEstablished { [unowned self] context in
            guard context.isReconnect else { return }
            resume(context)
            tellConnection(isUp: true)
        }
        connection.onPush { [unowned self] push in receive(push) }
        connection.onLost { [unowned self] in tellConnection(isUp: false) }
    }

    func onConnection(_ instance: UInt32, _ handler: @escaping @Sendable (Bool) -> Void) {
        state.withLock { $0.connectionHandlers[instance] = handler }
    }

    private func tellConnection(isUp: Bool) {
        let handlers = state.withLock { $0.connectionHandlers.sorted { $0.key < $1.key }.map(\.value) }
        for handler in handlers { handler(isUp) }
    }

    // MARK: Calls

    func call(_ request: EventRequest, timeout: Duration) async throws(AisError) -> [UInt8] {
        guard timeout > .zero else { throw .timeout }
        do throws(CallError) {
            return try await connection.call(request.code, request.body, timeout: timeout).body
        } catch {
            throw error.code
        }
    }

    func open(_ name: SaName, _ flags: ChannelOpenFlags, timeout: Duration) async throws(AisError) -> UInt32 {
        let instance = state.withLock { state in
            defer { state.nextInstance += 1 }
            state.instances[state.nextInstance] = Instance(name: name, flags: flags)
            return state.nextInstance
        }
        do throws(AisError) {
            let body = try await call(.open(instance: instance, flags: flags, name: name), timeout: timeout)
            guard let opened = try? OpenedChannel(decoding: body) else { throw .messageError }
            state.withLock { $0.instances[instance]?.channel = opened.channel }
        } catch {
            state.withLock { _ = $0.instances.removeValue(forKey: instance) }
            // It may be open there.
            if error == .timeout || error == .interrupt { tell(.close(instance: instance)) }
            throw error
        }
        return instance
    }

    func subscribe(
        _ instance: UInt32, _ filters: [EventFilter], timeout: Duration
    ) async throws(AisError) -> (id: UInt32, mailbox: EventMailbox) {
        let mailbox = EventMailbox()
        let id = state.withLock { state in
            defer { state.nextSubscription += 1 }
            let subscription = Subscription(filters: filters, mailbox: mailbox)
            state.instances[instance]?.subscriptions.append((state.nextSubscription, subscription))
            return state.nextSubscription
        }
        do throws(AisError) {
            _ = try await call(.subscribe(instance: instance, subscription: id, filters: filters), timeout: timeout)
        } catch {
            // Our number, so it is ours: opened anew after eventd had lost everything.
            if error != .exist {
                _ = remove(id, of: instance)
                if error == .timeout || error == .interrupt {
                    tell(.unsubscribe(instance: instance, subscription: id))
                }
                throw error
            }
        }
        state.withLock { state in
            guard let index = state.instances[instance]?.index(id) else { return }
            state.instances[instance]?.subscriptions[index].value.isPending = false
        }
        return (id, mailbox)
    }

    private func remove(_ id: UInt32, of instance: UInt32) -> Subscription? {
        state.withLock { state in
            guard let index = state.instances[instance]?.index(id) else { return nil }
            return state.instances[instance]?.subscriptions.remove(at: index).value
        }
    }

    /// What its reader has not taken goes to other subscriptions of the channel that match.
    func unsubscribe(_ instance: UInt32, _ id: UInt32) {
        guard let removed = remove(id, of: instance) else { return }
        for delivery in removed.mailbox.close() where !delivery.event.isLost {
            let mailboxes = state.withLock { $0.instances[instance]?.mailboxes(for: delivery) ?? [] }
            for mailbox in mailboxes { mailbox.deliver(delivery) }
        }
        tell(.unsubscribe(instance: instance, subscription: id))
    }

    func close(_ instance: UInt32) {
        let removed = state.withLock { state in
            state.connectionHandlers[instance] = nil
            return state.instances.removeValue(forKey: instance)
        }
        guard let closed = removed else { return }
        for (_, subscription) in closed.subscriptions { _ = subscription.mailbox.close() }
        tell(.close(instance: instance))
    }

    /// For what must not be waited for: what is lost with a connection is made up for when the next one stands.
    private func tell(_ request: EventRequest) {
        connection.callAsync(request.code, request.body, timeout: .seconds(5)) { _ in }
    }

    // MARK: Receiving

    private func receive(_ push: Push) {
        for descriptor in push.descriptors { IO.close(descriptor) }
        guard push.code == EventDelivery.code, let delivery = try? EventDelivery(decoding: push.body) else { return }
        let number = delivery.instance
        let (mailboxes, confirmation) = state.withLock { state -> ([EventMailbox], EventRequest?) in
            guard var instance = state.instances.removeValue(forKey: number) else { return ([], nil) }
            defer { state.instances[number] = instance }
            let isNew = instance.received.insert(delivery.number)
            instance.unconfirmed += 1
            instance.unconfirmedBytes += push.body.count
            // A repeated delivery is a question: it is answered at once.
            let isDue =
                !isNew || instance.unconfirmed >= EventLimits.confirmEvery
                || instance.unconfirmedBytes >= EventLimits.confirmBytes
            let confirmation = isDue ? Self.confirmation(number, &instance) : nil
            return (isNew ? instance.mailboxes(for: delivery) : [], confirmation)
        }
        for mailbox in mailboxes { mailbox.deliver(delivery) }
        if let confirmation { confirm(number, confirmation) }
    }

    /// One at a time is on its way; what comes due meanwhile follows it.
    private static func confirmation(_ number: UInt32, _ instance: inout Instance) -> EventRequest? {
        guard !instance.isConfirming else {
            instance.owesConfirmation = true
            return nil
        }
        instance.isConfirming = true
        instance.owesConfirmation = false
        (instance.unconfirmed, instance.unconfirmedBytes) = (0, 0)
        return .confirm(instance: number, instance.received)
    }

    /// When it fails eventd asks again, by repeating a delivery.
    private func confirm(_ number: UInt32, _ request: EventRequest) {
        connection.callAsync(request.code, request.body, timeout: .seconds(5)) { [weak self] result in
            guard let self else { return }
            let next = state.withLock { state -> EventRequest? in
                guard var instance = state.instances.removeValue(forKey: number) else { return nil }
                defer { state.instances[number] = instance }
                instance.isConfirming = false
                guard instance.owesConfirmation, case .success = result else { return nil }
                return Self.confirmation(number, &instance)
            }
            if let next { confirm(number, next) }
        }
    }

    // MARK: Going on

    /// Says on a new connection what is open and what was received; eventd sends the rest.
    private func resume(_ context: borrowing EstablishedContext) {
        let instances = state.withLock { $0.instances.sorted { $0.key < $1.key } }
        for (number, instance) in instances where instance.channel != 0 {
            let request = Self.resumption(number, instance)
            do throws(CallError) {
                resumed(number, try context.call(request.code, request.body).body)
            } catch {
                failedToResume(number, error.code)
            }
        }
        let keep = EventRequest.keepOnly(instances.map(\.key))
        // Only tidying up: the next connection does it again.
        _ = try? context.call(keep.code, keep.body)
    }

    private static func resumption(_ number: UInt32, _ instance: Instance) -> EventRequest {
        .resume(
            ResumedInstance(
                instance: number, flags: instance.flags, name: instance.name, channel: instance.channel,
                received: instance.received,
                subscriptions: instance.subscriptions.map {
                    .init(id: $0.id, isPending: $0.value.isPending, filters: $0.value.filters)
                }))
    }

    private func resumed(_ number: UInt32, _ body: [UInt8]) {
        guard let opened = try? OpenedChannel(decoding: body) else { return }
        state.withLock { $0.instances[number]?.channel = opened.channel }
    }

    private func failedToResume(_ number: UInt32, _ error: AisError) {
        switch error {
        case .tryAgain, .timeout: resumeLater(number)
        default:
            // It has ended: its readers learn that they missed something, and that nothing more comes.
            guard let ended = state.withLock({ $0.instances.removeValue(forKey: number) }) else { return }
            let mark = EventDelivery(
                instance: number, subscription: 0, event: .lost(at: MonotonicClock.wallNanoseconds()))
            for (_, subscription) in ended.subscriptions {
                subscription.mailbox.deliver(mark)
                subscription.mailbox.end()
            }
        }
    }

    /// The connection stands, but eventd did not answer in time, or it broke again: then the next one resumes, too.
    private func resumeLater(_ number: UInt32) {
        guard let instance = state.withLock({ $0.instances[number] }) else { return }
        let request = Self.resumption(number, instance)
        connection.callAsync(request.code, request.body, timeout: .seconds(30)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let reply): resumed(number, reply.body)
            case .failure(let error): if error.code == .timeout { resumeLater(number) }
            }
        }
    }
}
