/// Names an element of one list; stale once the element is removed, and then never names another one.
public struct ListHandle: Hashable, Sendable {
    let index: Int32
    let generation: UInt32
}

/// A list in which an element, once in, is found by its handle: O(1) to insert anywhere, to remove and to move.
///
/// A value with copy on write; a handle is good in every copy of the list that has the element. Elements lie in one
/// array and their places are used again, so a warm list allocates nothing.
public struct DoublyLinkedList<Element> {
    fileprivate struct Node {
        var previous: Int32
        var next: Int32
        var generation: UInt32
        var element: Element?
    }

    /// Node 0 is the ring's head: its next is the first element, its previous the last.
    private var nodes: ContiguousArray<Node> = [Node(previous: 0, next: 0, generation: 0, element: nil)]
    private var firstFree: Int32 = 0
    public private(set) var count = 0

    public init() {}

    public init(_ elements: some Sequence<Element>) {
        for element in elements { append(element) }
    }

    public var isEmpty: Bool { count == 0 }

    @discardableResult
    public mutating func append(_ element: Element) -> ListHandle { insert(element, before: 0) }

    @discardableResult
    public mutating func prepend(_ element: Element) -> ListHandle { insert(element, before: nodes[0].next) }

    /// Inserts before the element of `handle`; nil when that is not in the list.
    @discardableResult
    public mutating func insert(_ element: Element, before handle: ListHandle) -> ListHandle? {
        contains(handle) ? insert(element, before: handle.index) : nil
    }

    /// Inserts after the element of `handle`; nil when that is not in the list.
    @discardableResult
    public mutating func insert(_ element: Element, after handle: ListHandle) -> ListHandle? {
        contains(handle) ? insert(element, before: nodes[Int(handle.index)].next) : nil
    }

    /// Removes an element; nil when it is not in the list (any more).
    @discardableResult
    public mutating func remove(_ handle: ListHandle) -> Element? {
        guard contains(handle) else { return nil }
        unlink(handle.index)
        return free(handle.index)
    }

    @discardableResult
    public mutating func popFirst() -> Element? { first.flatMap { _ in remove(handle(nodes[0].next)) } }

    @discardableResult
    public mutating func popLast() -> Element? { last.flatMap { _ in remove(handle(nodes[0].previous)) } }

    /// Moves an element to the end, as a least-recently-used list wants; false when it is not in the list.
    @discardableResult
    public mutating func moveToEnd(_ handle: ListHandle) -> Bool {
        guard contains(handle) else { return false }
        unlink(handle.index)
        link(handle.index, before: 0)
        return true
    }

    public mutating func removeAll() { self = DoublyLinkedList() }

    /// The element of a handle; nil when it was removed. Changes it in place; setting nil removes it.
    public subscript(handle: ListHandle) -> Element? {
        get { contains(handle) ? nodes[Int(handle.index)].element : nil }
        _modify {
            if contains(handle) {
                let index = Int(handle.index)
                defer {
                    if nodes[index].element == nil {
                        unlink(handle.index)
                        _ = free(handle.index)
                    }
                }
                yield &nodes[index].element
            } else {
                var nothing: Element?
                yield &nothing
            }
        }
    }

    public func contains(_ handle: ListHandle) -> Bool {
        let index = Int(handle.index)
        return index > 0 && index < nodes.count && nodes[index].generation == handle.generation
            && nodes[index].element != nil
    }

    public var first: Element? { nodes[Int(nodes[0].next)].element }
    public var last: Element? { nodes[Int(nodes[0].previous)].element }
    public var firstHandle: ListHandle? { count == 0 ? nil : handle(nodes[0].next) }
    public var lastHandle: ListHandle? { count == 0 ? nil : handle(nodes[0].previous) }

    /// The neighbour towards the end; nil at the end, or when the handle is stale.
    public func handle(after handle: ListHandle) -> ListHandle? {
        guard contains(handle), nodes[Int(handle.index)].next != 0 else { return nil }
        return self.handle(nodes[Int(handle.index)].next)
    }

    /// The neighbour towards the front; nil at the front, or when the handle is stale.
    public func handle(before handle: ListHandle) -> ListHandle? {
        guard contains(handle), nodes[Int(handle.index)].previous != 0 else { return nil }
        return self.handle(nodes[Int(handle.index)].previous)
    }

    // MARK: Nodes

    private func handle(_ index: Int32) -> ListHandle {
        ListHandle(index: index, generation: nodes[Int(index)].generation)
    }

    private mutating func insert(_ element: Element, before next: Int32) -> ListHandle {
        let index: Int32
        if firstFree != 0 {
            index = firstFree
            firstFree = nodes[Int(index)].next
            nodes[Int(index)].element = element
        } else {
            index = Int32(nodes.count)
            nodes.append(Node(previous: 0, next: 0, generation: 0, element: element))
        }
        link(index, before: next)
        count += 1
        return handle(index)
    }

    private mutating func link(_ index: Int32, before next: Int32) {
        let previous = nodes[Int(next)].previous
        nodes[Int(index)].previous = previous
        nodes[Int(index)].next = next
        nodes[Int(previous)].next = index
        nodes[Int(next)].previous = index
    }

    private mutating func unlink(_ index: Int32) {
        let (previous, next) = (nodes[Int(index)].previous, nodes[Int(index)].next)
        nodes[Int(previous)].next = next
        nodes[Int(next)].previous = previous
    }

    private mutating func free(_ index: Int32) -> Element? {
        let element = nodes[Int(index)].element.take()
        nodes[Int(index)].generation &+= 1
        nodes[Int(index)].next = firstFree
        firstFree = index
        count -= 1
        return element
    }
}

extension DoublyLinkedList: Sequence {
    public struct Iterator: IteratorProtocol {
        private let list: DoublyLinkedList
        private var handle: ListHandle?

        init(_ list: DoublyLinkedList) {
            self.list = list
            handle = list.firstHandle
        }

        public mutating func next() -> Element? {
            guard let here = handle else { return nil }
            handle = list.handle(after: here)
            return list[here]
        }
    }

    public func makeIterator() -> Iterator { Iterator(self) }
    public var underestimatedCount: Int { count }

    /// The handles from the first to the last.
    public var handles: [ListHandle] {
        Array(
            sequence(state: firstHandle) { here in
                defer { here = here.flatMap { self.handle(after: $0) } }
                return here
            })
    }
}

extension DoublyLinkedList: Sendable where Element: Sendable {}
extension DoublyLinkedList.Node: Sendable where Element: Sendable {}
extension DoublyLinkedList.Iterator: Sendable where Element: Sendable {}

extension DoublyLinkedList: Equatable where Element: Equatable {
    /// The same elements in the same order.
    public static func == (left: DoublyLinkedList, right: DoublyLinkedList) -> Bool {
        left.count == right.count && left.elementsEqual(right)
    }
}
