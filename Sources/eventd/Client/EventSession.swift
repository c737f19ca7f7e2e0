import EventProtocol
import IOC
import OSAL
import SAFTypes

/// This process's connection to eventd: what is open on it, and how to open it again when eventd was restarted.
final class EventSession: Sendable {
    private struct Instance {
        var name: SaName
        var flags: ChannelOpenFlags
        var subscriptions: [UInt32: (filters: [EventFilter], mailbox: EventMailbox)] = [:]
    }

    private struct State {
        var instances: [UInt32: Instance] = [:]
        var nextInstance: UInt32 = 1
        var nextSubscription: UInt32 = 1
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
        connection.onEstablished { [unowned self] context in if context.isReconnect { reopen(context) } }
        connection.onPush { [unowned self] push in receive(push) }
    }

    // MARK: Calls

    func call(_ request: EventRequest, timeout: Duration) async throws(AisError) -> [UInt8] {
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
            _ = try await call(.open(instance: instance, flags: flags, name: name), timeout: timeout)
        } catch {
            if error == .exist { return instance }  // our number: a reconnect has opened it meanwhile
            state.withLock { _ = $0.instances.removeValue(forKey: instance) }
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
            state.instances[instance]?.subscriptions[state.nextSubscription] = (filters, mailbox)
            return state.nextSubscription
        }
        do throws(AisError) {
            _ = try await call(.subscribe(instance: instance, subscription: id, filters: filters), timeout: timeout)
        } catch {
            if error == .exist { return (id, mailbox) }
            state.withLock { _ = $0.instances[instance]?.subscriptions.removeValue(forKey: id) }
            throw error
        }
        return (id, mailbox)
    }

    func unsubscribe(_ instance: UInt32, _ id: UInt32) {
        let removed = state.withLock { $0.instances[instance]?.subscriptions.removeValue(forKey: id) }
        removed?.mailbox.close()
        tell(.unsubscribe(instance: instance, subscription: id))
    }

    func close(_ instance: UInt32) {
        guard let closed = state.withLock({ $0.instances.removeValue(forKey: instance) }) else { return }
        for (_, subscription) in closed.subscriptions { subscription.mailbox.close() }
        tell(.close(instance: instance))
    }

    /// For what must not be waited for: an eventd that is away forgets it by itself.
    private func tell(_ request: EventRequest) {
        connection.callAsync(request.code, request.body, timeout: .seconds(5)) { _ in }
    }

    // MARK: Receiving

    private func receive(_ push: Push) {
        for descriptor in push.descriptors { IO.close(descriptor) }
        guard push.code == EventDelivery.code, let delivery = try? EventDelivery(decoding: push.body) else { return }
        let mailboxes = state.withLock { state -> [EventMailbox] in
            guard let instance = state.instances[delivery.instance] else { return [] }
            if delivery.event.isLost { return instance.subscriptions.map(\.value.mailbox) }
            return instance.subscriptions[delivery.subscription].map { [$0.mailbox] } ?? []
        }
        for mailbox in mailboxes { mailbox.deliver(delivery) }
    }

    /// Opens everything anew on a new connection. What was published meanwhile may be missed: each reader is told.
    private func reopen(_ context: borrowing EstablishedContext) {
        let instances = state.withLock { $0.instances.sorted { $0.key < $1.key } }
        for (number, instance) in instances {
            let open = EventRequest.open(instance: number, flags: instance.flags, name: instance.name)
            _ = try? context.call(open.code, open.body, timeout: .seconds(2))
            for (id, subscription) in instance.subscriptions.sorted(by: { $0.key < $1.key }) {
                let lost = EventMessage.lost(at: MonotonicClock.wallNanoseconds())
                subscription.mailbox.deliver(EventDelivery(instance: number, subscription: 0, event: lost))
                let subscribe = EventRequest.subscribe(
                    instance: number, subscription: id, filters: subscription.filters)
                _ = try? context.call(subscribe.code, subscribe.body, timeout: .seconds(2))
            }
        }
    }
}
