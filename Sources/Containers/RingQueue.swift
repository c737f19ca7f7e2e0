/// A queue with a limit: O(1) at both ends, memory taken as it fills, never more than `capacity` elements.
///
/// A value with copy on write; iterates from the first to the last.
public struct RingQueue<Element> {
    /// How many elements it may hold.
    public let capacity: Int
    private var slots: ContiguousArray<Element?> = []  // a power of two of them, at most the next above `capacity`
    private var head = 0
    public private(set) var count = 0

    /// - Parameter capacity: at least 1.
    public init(capacity: Int) {
        precondition(capacity > 0, "RingQueue: capacity must be at least 1")
        self.capacity = capacity
    }

    public var isEmpty: Bool { count == 0 }
    public var isFull: Bool { count == capacity }

    /// Puts an element at the end; false (and nothing is done) when the queue is full.
    @discardableResult
    public mutating func append(_ element: Element) -> Bool {
        if isFull { return false }
        growIfNeeded()
        slots[place(count)] = element
        count += 1
        return true
    }

    /// Puts an element at the front; false (and nothing is done) when the queue is full.
    @discardableResult
    public mutating func prepend(_ element: Element) -> Bool {
        if isFull { return false }
        growIfNeeded()
        head = place(slots.count - 1)
        slots[head] = element
        count += 1
        return true
    }

    /// Puts an element at the end and drops the first when there is no room; returns what was dropped.
    @discardableResult
    public mutating func appendDroppingFirst(_ element: Element) -> Element? {
        let dropped = isFull ? popFirst() : nil
        append(element)
        return dropped
    }

    public mutating func popFirst() -> Element? {
        guard count > 0 else { return nil }
        let element = slots[head].take()
        head = place(1)
        count -= 1
        return element
    }

    public mutating func popLast() -> Element? {
        guard count > 0 else { return nil }
        count -= 1
        return slots[place(count)].take()
    }

    public var first: Element? { count == 0 ? nil : slots[head] }
    public var last: Element? { count == 0 ? nil : slots[place(count - 1)] }

    /// The element at `index` from the front, 0 ..< count.
    public subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < count, "RingQueue: no element at this index")
            return slots[place(index)]!  // inside the count every slot is filled
        }
        _modify {
            precondition(index >= 0 && index < count, "RingQueue: no element at this index")
            yield &slots[place(index)]!
        }
    }

    public mutating func removeAll() {
        slots = []
        (head, count) = (0, 0)
    }

    /// Removes what matches; the others keep their order. O(n).
    public mutating func removeAll(where matches: (Element) -> Bool) {
        let kept = filter { !matches($0) }
        if kept.count == count { return }
        removeAll()
        for element in kept { append(element) }
    }

    private func place(_ offset: Int) -> Int { (head + offset) & (slots.count - 1) }

    private mutating func growIfNeeded() {
        if count < slots.count { return }
        var grown = ContiguousArray<Element?>()
        let size = Swift.max(8, count * 2)
        grown.reserveCapacity(size)
        for index in 0..<count { grown.append(slots[place(index)].take()) }
        while grown.count < size { grown.append(nil) }
        (slots, head) = (grown, 0)
    }
}

extension RingQueue: Sequence {
    public struct Iterator: IteratorProtocol {
        let queue: RingQueue
        var index = 0

        public mutating func next() -> Element? {
            guard index < queue.count else { return nil }
            defer { index += 1 }
            return queue[index]
        }
    }

    public func makeIterator() -> Iterator { Iterator(queue: self) }
    public var underestimatedCount: Int { count }
}

extension RingQueue: Sendable where Element: Sendable {}
extension RingQueue.Iterator: Sendable where Element: Sendable {}

extension RingQueue: Equatable where Element: Equatable {
    /// The same elements in the same order; the capacities may differ.
    public static func == (left: RingQueue, right: RingQueue) -> Bool { left.elementsEqual(right) }
}

extension RingQueue: Hashable where Element: Hashable {
    public func hash(into hasher: inout Hasher) {
        hasher.combine(count)
        for element in self { hasher.combine(element) }
    }
}
