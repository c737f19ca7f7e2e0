extension OrderedMap: Sequence {
    /// Entries in ascending order, of the map as it was when the iteration began.
    public struct Entries: Sequence, IteratorProtocol {
        let map: OrderedMap
        var node: Int32

        public mutating func next() -> OrderedMap.Element? {
            guard node != 0 else { return nil }
            defer { node = map.successor(node) }
            return map.element(node)
        }
    }

    public func makeIterator() -> Entries { Entries(map: self, node: leftmost(root)) }
    public var underestimatedCount: Int { count }
}

extension OrderedMap: ExpressibleByDictionaryLiteral {
    public init(dictionaryLiteral elements: (Key, Value)...) { self.init(elements) }
}

extension OrderedMap.Entries: Sendable where Key: Sendable, Value: Sendable {}

extension OrderedMap: Equatable where Value: Equatable {
    /// The same keys with the same values, however they came there.
    public static func == (left: OrderedMap, right: OrderedMap) -> Bool {
        left.count == right.count && left.elementsEqual(right) { $0.key == $1.key && $0.value == $1.value }
    }
}

extension OrderedMap: Hashable where Key: Hashable, Value: Hashable {
    public func hash(into hasher: inout Hasher) {
        hasher.combine(count)
        for (key, value) in self {
            hasher.combine(key)
            hasher.combine(value)
        }
    }
}

extension OrderedMap: CustomStringConvertible {
    public var description: String {
        isEmpty ? "[:]" : "[" + map { "\($0.key): \($0.value)" }.joined(separator: ", ") + "]"
    }
}
