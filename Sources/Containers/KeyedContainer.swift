/// What every container by key does, whatever it is inside; iteration always has one order that does not depend on
/// chance.
///
/// - ``OrderedMap``: red-black tree, ascending keys, O(log n).
/// - ``HashTable``: open hashing, order of insertion, O(1) expected.
/// - ``LinkedMap``: doubly linked list, order of insertion or as placed, O(n) to find; for a handful of entries.
public protocol KeyedContainer<Key, Value>: Sequence where Element == (key: Key, value: Value) {
    associatedtype Key
    associatedtype Value

    init()
    var count: Int { get }
    /// Setting nil removes the entry.
    subscript(key: Key) -> Value? { get set }
    /// Returns the value the key had.
    @discardableResult mutating func updateValue(_ value: Value, forKey key: Key) -> Value?
    @discardableResult mutating func removeValue(forKey key: Key) -> Value?
    mutating func removeAll()
}

extension KeyedContainer {
    public var isEmpty: Bool { count == 0 }
    public func contains(_ key: Key) -> Bool { self[key] != nil }
}

extension OrderedMap: KeyedContainer {}
