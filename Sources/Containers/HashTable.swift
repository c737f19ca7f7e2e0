/// A dictionary by open hashing (a chain per bucket) that iterates in the order of insertion: O(1) expected.
///
/// A value with copy on write. Its order does not depend on the hash, so an engine may iterate it to decide; where the
/// order of the keys is wanted, take ``OrderedMap``. A key that is set again keeps its place.
public struct HashTable<Key: Hashable, Value>: KeyedContainer {
    public typealias Element = (key: Key, value: Value)

    fileprivate struct Entry {
        let key: Key
        var value: Value
        let hash: Int
        /// The next entry of the same bucket.
        var link: ListHandle?
    }

    private var list = DoublyLinkedList<Entry>()
    /// A power of two of chains, at least as many as entries; none while the table is empty.
    private var buckets: ContiguousArray<ListHandle?> = []

    public init() {}

    /// Of several entries with one key the last value stays, at the place of the first.
    public init(_ elements: some Sequence<(Key, Value)>) {
        for (key, value) in elements { updateValue(value, forKey: key) }
    }

    public var count: Int { list.count }
    public var first: Element? { list.first.map { ($0.key, $0.value) } }
    public var last: Element? { list.last.map { ($0.key, $0.value) } }

    public subscript(key: Key) -> Value? {
        get { handle(of: key, hash: key.hashValue).flatMap { list[$0]?.value } }
        set {
            if let newValue { updateValue(newValue, forKey: key) } else { removeValue(forKey: key) }
        }
    }

    /// The value of `key`, changed in place; when it was not there, it starts as `fallback`.
    public subscript(key: Key, default fallback: @autoclosure () -> Value) -> Value {
        get { self[key] ?? fallback() }
        _modify {
            let hash = key.hashValue
            let handle = handle(of: key, hash: hash) ?? insert(key, fallback(), hash: hash)
            yield &list[handle]!.value  // found or just inserted
        }
    }

    @discardableResult
    public mutating func updateValue(_ value: Value, forKey key: Key) -> Value? {
        let hash = key.hashValue
        guard let handle = handle(of: key, hash: hash) else {
            _ = insert(key, value, hash: hash)
            return nil
        }
        let old = list[handle]?.value
        list[handle]?.value = value
        return old
    }

    @discardableResult
    public mutating func removeValue(forKey key: Key) -> Value? {
        let hash = key.hashValue
        guard let handle = handle(of: key, hash: hash) else { return nil }
        let bucket = hash & (buckets.count - 1)
        let link = list[handle]?.link
        if buckets[bucket] == handle {
            buckets[bucket] = link
        } else {
            var before = buckets[bucket]
            while let here = before, list[here]?.link != handle { before = list[here]?.link }
            if let before { list[before]?.link = link }
        }
        return list.remove(handle)?.value
    }

    /// Removes and returns the oldest entry.
    @discardableResult
    public mutating func popFirst() -> Element? {
        guard let key = list.first?.key, let value = removeValue(forKey: key) else { return nil }
        return (key, value)
    }

    public mutating func removeAll() { self = HashTable() }

    private func handle(of key: Key, hash: Int) -> ListHandle? {
        if buckets.isEmpty { return nil }
        var handle = buckets[hash & (buckets.count - 1)]
        while let here = handle, let entry = list[here] {
            if entry.hash == hash && entry.key == key { return here }
            handle = entry.link
        }
        return nil
    }

    private mutating func insert(_ key: Key, _ value: Value, hash: Int) -> ListHandle {
        if count >= buckets.count { rehash(Swift.max(8, buckets.count * 2)) }
        let bucket = hash & (buckets.count - 1)
        let handle = list.append(Entry(key: key, value: value, hash: hash, link: buckets[bucket]))
        buckets[bucket] = handle
        return handle
    }

    private mutating func rehash(_ size: Int) {
        buckets = ContiguousArray(repeating: nil, count: size)
        for handle in list.handles {
            guard let hash = list[handle]?.hash else { continue }
            list[handle]?.link = buckets[hash & (size - 1)]
            buckets[hash & (size - 1)] = handle
        }
    }
}

extension HashTable {
    public struct Iterator: IteratorProtocol {
        private var entries: DoublyLinkedList<Entry>.Iterator
        fileprivate init(_ entries: DoublyLinkedList<Entry>.Iterator) { self.entries = entries }
        public mutating func next() -> Element? { entries.next().map { ($0.key, $0.value) } }
    }

    /// Entries in the order of their insertion, of the table as it was when the iteration began.
    public func makeIterator() -> Iterator { Iterator(list.makeIterator()) }
    public var underestimatedCount: Int { count }
    public var keys: [Key] { map(\.key) }
    public var values: [Value] { map(\.value) }
}

extension HashTable: Sendable where Key: Sendable, Value: Sendable {}
extension HashTable.Entry: Sendable where Key: Sendable, Value: Sendable {}

extension HashTable: Equatable where Value: Equatable {
    /// The same entries in the same order.
    public static func == (left: HashTable, right: HashTable) -> Bool {
        left.count == right.count && left.elementsEqual(right) { $0.key == $1.key && $0.value == $1.value }
    }
}
