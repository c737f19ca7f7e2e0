import SAFTypes

/// What waits for one receiver: by priority, in order of arrival within it, and bounded.
///
/// When it is full the least important of what waits and what comes is dropped, and one lost-event mark takes the
/// place of everything dropped until the receiver has taken it. Source: SAI-AIS-EVT-B.01.01 §3.1.5.
public struct DeliveryQueue: Sendable {
    private var lanes: [[EventDelivery]] = EventPriority.allCases.map { _ in [] }
    /// Index of the first that was not taken, per lane; the taken ones are removed now and then.
    private var heads = EventPriority.allCases.map { _ in 0 }
    private var lostMark: EventDelivery?
    public private(set) var count = 0
    public private(set) var bytes = 0
    /// Events dropped so far.
    public private(set) var dropped: UInt64 = 0
    private let countMax: Int
    private let bytesMax: Int

    public init(countMax: Int = EventLimits.queueMax, bytesMax: Int = EventLimits.queueBytesMax) {
        self.countMax = countMax
        self.bytesMax = bytesMax
    }

    public var isEmpty: Bool { count == 0 && lostMark == nil }

    public mutating func append(_ delivery: EventDelivery, at time: SaTime) {
        let priority = delivery.event.priority
        while count >= countMax || (count > 0 && bytes + Self.cost(delivery) > bytesMax) {
            guard let victim = leastImportant(), victim.rawValue > priority.rawValue else {
                drop(instance: delivery.instance, at: time)
                return
            }
            let lane = Int(victim.rawValue)
            let removed = lanes[lane].removeLast()
            trim(lane)
            count -= 1
            bytes -= Self.cost(removed)
            drop(instance: removed.instance, at: time)
        }
        lanes[Int(priority.rawValue)].append(delivery)
        count += 1
        bytes += Self.cost(delivery)
    }

    /// The lost-event mark first, then the most important event that waited longest.
    public mutating func popFirst() -> EventDelivery? {
        if let mark = lostMark {
            lostMark = nil
            return mark
        }
        for lane in lanes.indices where heads[lane] < lanes[lane].count {
            let delivery = lanes[lane][heads[lane]]
            heads[lane] += 1
            count -= 1
            bytes -= Self.cost(delivery)
            trim(lane)
            return delivery
        }
        return nil
    }

    /// Notes that something was, or may have been, dropped.
    public mutating func drop(instance: UInt32, at time: SaTime) {
        dropped += 1
        if lostMark == nil { lostMark = EventDelivery(instance: instance, subscription: 0, event: .lost(at: time)) }
    }

    /// Puts another delivery in the place of each, or none; the lost-event mark stays.
    public mutating func replaceAll(_ replacement: (EventDelivery) -> EventDelivery?) {
        for lane in lanes.indices {
            lanes[lane] = lanes[lane].dropFirst(heads[lane]).compactMap(replacement)
            heads[lane] = 0
        }
        count = lanes.reduce(0) { $0 + $1.count }
        bytes = lanes.reduce(0) { $0 + $1.reduce(0) { $0 + Self.cost($1) } }
    }

    /// Everything that waits, in the order in which it will be taken.
    public var waiting: [EventDelivery] {
        (lostMark.map { [$0] } ?? []) + lanes.indices.flatMap { lanes[$0].dropFirst(heads[$0]) }
    }

    /// A queue as it was: what waited, and how much had been dropped.
    public mutating func restore(_ waiting: [EventDelivery], dropped: UInt64) {
        for delivery in waiting {
            if delivery.event.isLost {
                lostMark = delivery
                continue
            }
            lanes[Int(delivery.event.priority.rawValue)].append(delivery)
            count += 1
            bytes += Self.cost(delivery)
        }
        self.dropped = dropped
    }

    private func leastImportant() -> EventPriority? {
        EventPriority.allCases.last { heads[Int($0.rawValue)] < lanes[Int($0.rawValue)].count }
    }

    private mutating func trim(_ lane: Int) {
        if heads[lane] == lanes[lane].count {
            lanes[lane].removeAll(keepingCapacity: true)
            heads[lane] = 0
        } else if heads[lane] >= 64 {
            lanes[lane].removeFirst(heads[lane])
            heads[lane] = 0
        }
    }

    /// Octets that a delivery counts for.
    public static func cost(_ delivery: EventDelivery) -> Int {
        delivery.event.patterns.reduce(delivery.event.data.count + 64) { $0 + $1.count }
    }
}
