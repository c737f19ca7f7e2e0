/// A ring with a hand: whose turn is it. O(1) to advance, to insert and to remove.
///
/// A value with copy on write. Iteration goes once around, beginning at the hand.
public struct CircularList<Element> {
    private var list = DoublyLinkedList<Element>()
    private var hand: ListHandle?

    public init() {}

    /// The hand stands at the first element.
    public init(_ elements: some Sequence<Element>) {
        list = DoublyLinkedList(elements)
        hand = list.firstHandle
    }

    public var count: Int { list.count }
    public var isEmpty: Bool { list.isEmpty }

    /// The element at the hand.
    public var current: Element? { hand.flatMap { list[$0] } }
    public var currentHandle: ListHandle? { hand }

    /// Inserts an element so that its turn comes last, just behind the hand.
    @discardableResult
    public mutating func insert(_ element: Element) -> ListHandle {
        guard let hand, let handle = list.insert(element, before: hand) else {
            let handle = list.append(element)
            self.hand = handle
            return handle
        }
        return handle
    }

    /// Moves the hand to the next element and returns it.
    @discardableResult
    public mutating func advance() -> Element? {
        hand = hand.flatMap { list.handle(after: $0) } ?? list.firstHandle
        return current
    }

    /// Moves the hand to an element; false when it is not in the ring.
    @discardableResult
    public mutating func turn(to handle: ListHandle) -> Bool {
        guard list.contains(handle) else { return false }
        hand = handle
        return true
    }

    /// Removes an element; from under the hand, the next one comes there. nil when it is not in the ring (any more).
    @discardableResult
    public mutating func remove(_ handle: ListHandle) -> Element? {
        if handle == hand { advance() }
        let element = list.remove(handle)
        if list.isEmpty { hand = nil }
        return element
    }

    @discardableResult
    public mutating func removeCurrent() -> Element? { hand.flatMap { remove($0) } }

    /// The element of a handle; nil when it was removed.
    public subscript(handle: ListHandle) -> Element? { list[handle] }
}

extension CircularList: Sequence {
    public func makeIterator() -> IndexingIterator<[Element]> {
        var around: [Element] = []
        around.reserveCapacity(count)
        var handle = hand
        while around.count < count, let here = handle, let element = list[here] {
            around.append(element)
            handle = list.handle(after: here) ?? list.firstHandle
        }
        return around.makeIterator()
    }
    public var underestimatedCount: Int { count }
}

extension CircularList: Sendable where Element: Sendable {}
