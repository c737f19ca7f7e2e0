import EngineKit
public import EventProtocol
public import OSAL
public import SAFTypes

/// A channel over which any process publishes events to any number of others.
///
/// Publishers and subscribers do not know each other. Delivery is best effort and at most once: events of one publisher
/// and one priority come in order, more important ones overtake. What a slow reader cannot take is dropped, the least
/// important first, and the reader finds one event with ``EventMessage/isLost`` in its place. A restart of eventd
/// loses nothing and repeats nothing: the channel goes on by itself.
///
/// May be used from any thread and task.
/// - Source: SAI-AIS-EVT-B.01.01.
public final class EventChannel: Sendable {
    public let name: SaName
    private let session: EventSession
    private let instance: UInt32
    private let isClosed = Lock(false)

    /// Opens a channel; with ``ChannelOpenFlags/create`` it is made if it does not exist.
    ///
    /// - Parameters:
    ///   - flags: `.publisher`, `.subscriber` or both, and `.create`.
    ///   - timeout: bound on the whole call; a restart of eventd is waited for.
    /// - Throws: `.invalidParam` the name is empty or longer than 256 octets; `.badFlags`; `.notExist` without
    ///   `.create`;
    ///   `.noResources` too many channels; `.tryAgain` eventd is not there; `.timeout` outcome unknown, or
    ///   `timeout` is not positive.
    public static func open(
        _ name: String, _ flags: ChannelOpenFlags, places: Places = .fromEnvironment(), timeout: Duration = .seconds(5)
    ) async throws(AisError) -> EventChannel {
        guard let name = SaName(name) else { throw .invalidParam }
        guard flags.isValid else { throw .badFlags }
        let session = EventSession.shared(places)
        return EventChannel(name, session, try await session.open(name, flags, timeout: timeout))
    }

    /// Takes the name away at once; who has the channel open goes on using it, and it ends with the last of them.
    ///
    /// - Throws: `.invalidParam`, `.notExist`, `.tryAgain`, `.timeout`.
    public static func unlink(
        _ name: String, places: Places = .fromEnvironment(), timeout: Duration = .seconds(5)
    ) async throws(AisError) {
        guard let name = SaName(name) else { throw .invalidParam }
        _ = try await EventSession.shared(places).call(.unlink(name), timeout: timeout)
    }

    /// The channels of this node, for tools.
    public static func list(
        places: Places = .fromEnvironment(), timeout: Duration = .seconds(5)
    ) async throws(AisError) -> [ChannelStatus] {
        let body = try await EventSession.shared(places).call(.listChannels, timeout: timeout)
        guard let list = try? ChannelList(decoding: body) else { throw .messageError }
        return list.channels
    }

    private init(_ name: SaName, _ session: EventSession, _ instance: UInt32) {
        self.name = name
        self.session = session
        self.instance = instance
    }

    deinit { close() }

    /// Publishes an event and returns its id, unique in the cluster.
    ///
    /// - Parameters:
    ///   - patterns: what filters look at; at most 10 of at most 255 octets.
    ///   - data: at most 64 KiB.
    ///   - retention: how long it waits for later subscribers; zero: not at all; at most about 27 hours.
    /// - Throws: `.access` not opened as publisher; `.tooBig`; `.invalidParam` retention out of range; `.noResources`
    ///   too many retained events; `.badHandle` closed; `.tryAgain` nothing was published; `.timeout` unknown.
    @discardableResult
    public func publish(
        patterns: [[UInt8]] = [], data: [UInt8] = [], priority: EventPriority = .lowest, retention: Duration = .zero,
        publisher: String = "", timeout: Duration = .seconds(5)
    ) async throws(AisError) -> EventID {
        var event = EventMessage(
            patterns: patterns, data: data, priority: priority, retention: retention.nanoseconds)
        event.publisherName = Array(publisher.utf8)
        return try await publish(event, timeout: timeout)
    }

    /// Publishes an event as it is, also one that was received; its id and time of publication are given anew.
    ///
    /// - Throws: as ``publish(patterns:data:priority:retention:publisher:timeout:)``.
    @discardableResult
    public func publish(_ event: EventMessage, timeout: Duration = .seconds(5)) async throws(AisError) -> EventID {
        if let defect = event.defect { throw defect.error }
        guard !isClosed.withLock({ $0 }) else { throw .badHandle }
        let body = try await session.call(.publish(instance: instance, event), timeout: timeout)
        guard let answer = try? PublishedEvent(decoding: body) else { throw .messageError }
        return answer.id
    }

    /// Events that match every filter, from now on; retained ones first. No filters match everything.
    ///
    /// - Throws: `.access` not opened as subscriber; `.tooBig` a filter is longer than 255 octets; `.badHandle`;
    ///   `.noResources`; `.tryAgain`; `.timeout`.
    public func subscribe(
        _ filters: [EventFilter] = [], timeout: Duration = .seconds(5)
    ) async throws(AisError) -> EventSubscription {
        guard filters.count <= EventLimits.filtersMax,
            filters.allSatisfy({ $0.bytes.count <= EventLimits.patternSizeMax })
        else { throw .tooBig }
        guard !isClosed.withLock({ $0 }) else { throw .badHandle }
        let (id, mailbox) = try await session.subscribe(instance, filters, timeout: timeout)
        return EventSubscription(channel: self, session: session, instance: instance, id: id, mailbox: mailbox)
    }

    /// Calls `handler` with false whenever eventd is lost, and with true when it is back and knows this channel again;
    /// replaces an earlier one. Any thread.
    public func onConnection(_ handler: @escaping @Sendable (_ isUp: Bool) -> Void) {
        session.onConnection(instance, handler)
    }

    /// Lets a retained event wait no longer.
    ///
    /// - Throws: `.notExist` unknown or expired; `.invalidParam` a reserved id; `.badHandle`; `.tryAgain`; `.timeout`.
    public func clearRetention(of event: EventID, timeout: Duration = .seconds(5)) async throws(AisError) {
        guard !isClosed.withLock({ $0 }) else { throw .badHandle }
        guard event > EventIDs.reservedMax else { throw .invalidParam }
        _ = try await session.call(.clearRetention(instance: instance, event: event), timeout: timeout)
    }

    /// Ends this opening and its subscriptions. A second call does nothing.
    public func close() {
        let wasClosed = isClosed.withLock { closed in
            defer { closed = true }
            return closed
        }
        if !wasClosed { session.close(instance) }
    }
}

/// The events of one subscription; ends when the subscription or the channel is closed. One reader at a time.
public final class EventSubscription: AsyncSequence, Sendable {
    public typealias Element = EventMessage

    private let channel: EventChannel
    private let session: EventSession
    private let instance: UInt32
    private let id: UInt32
    private let mailbox: EventMailbox

    init(channel: EventChannel, session: EventSession, instance: UInt32, id: UInt32, mailbox: EventMailbox) {
        self.channel = channel
        self.session = session
        self.instance = instance
        self.id = id
        self.mailbox = mailbox
    }

    deinit { session.unsubscribe(instance, id) }

    /// Events that wait for it go to other subscriptions of the channel that match, or nowhere.
    public func unsubscribe() { session.unsubscribe(instance, id) }

    public func makeAsyncIterator() -> Iterator { Iterator(subscription: self) }

    public struct Iterator: AsyncIteratorProtocol {
        let subscription: EventSubscription
        public mutating func next() async -> EventMessage? { await subscription.mailbox.next() }
        public mutating func next(isolation actor: isolated (any Actor)?) async -> EventMessage? {
            await subscription.mailbox.next()
        }
    }
}
