/// Entries by key in a doubly linked list: O(n) to find, the order of insertion; for a handful of entries, or keys that
/// can neither be hashed nor compared by size.
public struct LinkedMap<Key: Equatable, Value>: KeyedContainer {
    public typealias Element = (key: Key, value: Value)
    private var list = DoublyLinkedList<(key: Key, value: Value)>()

    public init() {}

    public var count: Int { list.count }
    public var first: Element? { list.first }

    public subscript(key: Key) -> Value? {
        get { handle(of: key).flatMap { list[$0]?.value } }
        set {
            if let newValue { updateValue(newValue, forKey: key) } else { removeValue(forKey: key) }
        }
    }

    /// A new key goes to the end; a known one keeps its place.
    @discardableResult
    public mutating func updateValue(_ value: Value, forKey key: Key) -> Value? {
        guard let handle = handle(of: key) else {
            list.append((key, value))
            return nil
        }
        let old = list[handle]?.value
        list[handle]?.value = value
        return old
    }

    @discardableResult
    public mutating func removeValue(forKey key: Key) -> Value? {
        handle(of: key).flatMap { list.remove($0)?.value }
    }

    public mutating func removeAll() { list.removeAll() }

    public func makeIterator() -> DoublyLinkedList<(key: Key, value: Value)>.Iterator { list.makeIterator() }

    private func handle(of key: Key) -> ListHandle? {
        var handle = list.firstHandle
        while let here = handle {
            if list[here]?.key == key { return here }
            handle = list.handle(after: here)
        }
        return nil
    }
}

extension LinkedMap: Sendable where Key: Sendable, Value: Sendable {}
