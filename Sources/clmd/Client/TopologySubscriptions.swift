import ClmProtocol

/// The topology subscriptions of one client, over all its connections.
///
/// Every time clmd is asked, a subscription gets a new number on the wire: what still comes for an earlier one, perhaps
/// from an earlier life of clmd, is recognised and left out.
struct TopologySubscriptions<Handler> {
    struct Subscriber {
        var range: ServiceRange
        var handler: Handler
        var wireNumber: UInt32
        var follower = TopologyFollower()
    }

    private var subscribers: [UInt32: Subscriber] = [:]
    private var lastNumber: UInt32 = 0

    var isEmpty: Bool { subscribers.isEmpty }

    /// The number by which the caller knows it.
    mutating func add(_ range: ServiceRange, _ handler: Handler) -> UInt32 {
        lastNumber += 1
        subscribers[lastNumber] = Subscriber(range: range, handler: handler, wireNumber: 0)
        return lastNumber
    }

    /// The number on the wire that clmd is to forget.
    mutating func remove(_ number: UInt32) -> UInt32? { subscribers.removeValue(forKey: number)?.wireNumber }

    /// What to ask now; the previous number on the wire is no longer listened to.
    mutating func renew(_ number: UInt32) -> SubscribeRequest? {
        guard let range = subscribers[number]?.range else { return nil }
        lastNumber += 1
        subscribers[number]?.wireNumber = lastNumber
        subscribers[number]?.follower.restart()
        return SubscribeRequest(subscription: lastNumber, range: range)
    }

    /// The number on the wire, once one was asked for.
    func wireNumber(_ number: UInt32) -> UInt32? {
        subscribers[number].flatMap { $0.wireNumber == 0 ? nil : $0.wireNumber }
    }

    /// Whether notices of this number on the wire are listened to.
    func isCurrent(_ wireNumber: UInt32) -> Bool { subscribers.values.contains { $0.wireNumber == wireNumber } }

    /// What to ask on a new connection.
    mutating func renewAll() -> [SubscribeRequest] {
        var requests: [SubscribeRequest] = []
        for number in subscribers.keys.sorted() {
            if let request = renew(number) { requests.append(request) }
        }
        return requests
    }

    enum Heard {
        case events([TopologyEvent], Handler)
        /// Frames were lost: this subscription is to be renewed and the number on the wire forgotten.
        case lost(number: UInt32, wireNumber: UInt32)
        case nothing
    }

    mutating func heard(_ notice: TopologyNotice) -> Heard {
        guard let (number, subscriber) = subscribers.first(where: { $0.value.wireNumber == notice.subscription }) else {
            return .nothing
        }
        if notice.change == .lost { return .lost(number: number, wireNumber: notice.subscription) }
        let events = subscribers[number]?.follower.heard(notice.change) ?? []
        return .events(events, subscriber.handler)
    }
}
