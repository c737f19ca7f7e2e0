/// What waits in ``PriorityLanes``.
public protocol Prioritised: Sendable {
    var priority: EventPriority { get }
    /// Octets that it counts for.
    var cost: Int { get }
}

/// Elements by priority, and in order of arrival within it.
public struct PriorityLanes<Element: Prioritised>: Sendable {
    private var lanes: [[Element]] = EventPriority.allCases.map { _ in [] }
    /// Index of the first that was not taken, per lane; the taken ones are removed now and then.
    private var heads = EventPriority.allCases.map { _ in 0 }
    public private(set) var count = 0
    public private(set) var bytes = 0

    public init() {}

    public mutating func append(_ element: Element) {
        lanes[Int(element.priority.rawValue)].append(element)
        count += 1
        bytes += element.cost
    }

    /// The most important that waited longest.
    public mutating func popFirst() -> Element? {
        for lane in lanes.indices where heads[lane] < lanes[lane].count {
            let element = lanes[lane][heads[lane]]
            heads[lane] += 1
            forget(element, lane)
            return element
        }
        return nil
    }

    /// The least important that came last, if it is less important than `priority`.
    public mutating func popLast(lessThan priority: EventPriority) -> Element? {
        let first = Int(priority.rawValue) + 1
        for lane in lanes.indices.dropFirst(first).reversed() where heads[lane] < lanes[lane].count {
            let element = lanes[lane].removeLast()
            forget(element, lane)
            return element
        }
        return nil
    }

    /// Puts another element of the same priority in the place of each, or none.
    public mutating func replaceAll(_ replacement: (Element) -> Element?) {
        for lane in lanes.indices {
            lanes[lane] = lanes[lane].dropFirst(heads[lane]).compactMap(replacement)
            heads[lane] = 0
        }
        count = lanes.reduce(0) { $0 + $1.count }
        bytes = lanes.reduce(0) { $0 + $1.reduce(0) { $0 + $1.cost } }
    }

    /// In the order in which they will be taken.
    public var waiting: [Element] { lanes.indices.flatMap { lanes[$0].dropFirst(heads[$0]) } }

    private mutating func forget(_ element: Element, _ lane: Int) {
        count -= 1
        bytes -= element.cost
        if heads[lane] == lanes[lane].count {
            lanes[lane].removeAll(keepingCapacity: true)
            heads[lane] = 0
        } else if heads[lane] >= 64 {
            lanes[lane].removeFirst(heads[lane])
            heads[lane] = 0
        }
    }
}
