import SAFTypes

/// What waits for one receiver: by priority, in order of arrival within it, and bounded.
///
/// When it is full the least important of what waits and what comes is dropped, and one lost-event mark takes the
/// place of everything dropped until the receiver has taken it. Source: SAI-AIS-EVT-B.01.01 §3.1.5.
public struct DeliveryQueue: Sendable {
    private var lanes = PriorityLanes<EventDelivery>()
    private var lostMark: EventDelivery?
    /// Events dropped so far.
    public private(set) var dropped: UInt64 = 0
    private let countMax: Int
    private let bytesMax: Int

    public init(countMax: Int = EventLimits.queueMax, bytesMax: Int = EventLimits.queueBytesMax) {
        self.countMax = countMax
        self.bytesMax = bytesMax
    }

    public var count: Int { lanes.count }
    public var bytes: Int { lanes.bytes }
    public var isEmpty: Bool { count == 0 && lostMark == nil }

    public mutating func append(_ delivery: EventDelivery, at time: SaTime) {
        while count >= countMax || (count > 0 && bytes + delivery.cost > bytesMax) {
            guard let removed = lanes.popLast(lessThan: delivery.priority) else {
                drop(instance: delivery.instance, at: time)
                return
            }
            drop(instance: removed.instance, at: time)
        }
        lanes.append(delivery)
    }

    /// The lost-event mark first, then the most important event that waited longest.
    public mutating func popFirst() -> EventDelivery? {
        if let mark = lostMark {
            lostMark = nil
            return mark
        }
        return lanes.popFirst()
    }

    /// Notes that something was, or may have been, dropped.
    public mutating func drop(instance: UInt32, at time: SaTime) {
        dropped += 1
        if lostMark == nil { lostMark = EventDelivery(instance: instance, subscription: 0, event: .lost(at: time)) }
    }

    /// Puts another delivery in the place of each, or none; the lost-event mark stays.
    public mutating func replaceAll(_ replacement: (EventDelivery) -> EventDelivery?) { lanes.replaceAll(replacement) }

    /// Everything that waits, in the order in which it will be taken.
    public var waiting: [EventDelivery] { (lostMark.map { [$0] } ?? []) + lanes.waiting }

    /// A queue as it was: what waited, and how much had been dropped.
    public mutating func restore(_ waiting: [EventDelivery], dropped: UInt64) {
        for delivery in waiting {
            if delivery.event.isLost { lostMark = delivery } else { lanes.append(delivery) }
        }
        self.dropped = dropped
    }
}

extension EventDelivery: Prioritised {
    public var priority: EventPriority { event.priority }
    public var cost: Int { event.cost }
}

extension EventMessage {
    /// Octets that it counts for in a queue.
    public var cost: Int { patterns.reduce(data.count + 64) { $0 + $1.count } }
}
