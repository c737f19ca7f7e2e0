/// A dictionary in the order of its keys: O(log n) to find, insert and remove, iteration always ascending.
///
/// A value with copy on write. Its order depends on the keys alone, so an engine may iterate it to decide. A red-black
/// tree in three arrays (links, keys, values); node 0 is the black leaf that all leaves are.
/// Source: Cormen, Leiserson, Rivest, Stein: Introduction to Algorithms, chapter 13.
public struct OrderedMap<Key: Comparable, Value> {
    public typealias Element = (key: Key, value: Value)

    struct Links {
        var parent: Int32 = 0
        var left: Int32 = 0
        var right: Int32 = 0
        var isRed = false
    }

    var links: ContiguousArray<Links> = [Links()]
    private var nodeKeys: ContiguousArray<Key?> = [nil]
    private var nodeValues: ContiguousArray<Value?> = [nil]
    var root: Int32 = 0
    private var firstFree: Int32 = 0
    public private(set) var count = 0

    public init() {}

    /// Of several entries with one key the last stays.
    public init(_ elements: some Sequence<(Key, Value)>) {
        for (key, value) in elements { updateValue(value, forKey: key) }
    }

    public var isEmpty: Bool { count == 0 }

    // MARK: Finding

    public subscript(key: Key) -> Value? {
        get { nodeValues[Int(find(key))] }
        _modify {
            let node = find(key)
            if node != 0 {
                defer { if nodeValues[Int(node)] == nil { remove(node) } }
                yield &nodeValues[Int(node)]
            } else {
                var value: Value?
                defer { if let value { updateValue(value, forKey: key) } }
                yield &value
            }
        }
    }

    /// The value of `key`; when it is changed in place and was not there, it starts as `fallback`.
    public subscript(key: Key, default fallback: @autoclosure () -> Value) -> Value {
        get { self[key] ?? fallback() }
        _modify {
            if find(key) == 0 { updateValue(fallback(), forKey: key) }
            yield &nodeValues[Int(find(key))]!  // just made sure that it is there
        }
    }

    public func contains(_ key: Key) -> Bool { find(key) != 0 }

    public var first: Element? { element(leftmost(root)) }
    public var last: Element? { element(rightmost(root)) }

    /// The first entry whose key is `key` or greater.
    public func first(atOrAfter key: Key) -> Element? { element(lowerBound(key)) }

    /// The first entry whose key is greater than `key`.
    public func first(after key: Key) -> Element? { element(upperBound(key)) }

    /// The last entry whose key is less than `key`.
    public func last(before key: Key) -> Element? {
        var (node, best) = (root, Int32(0))
        while node != 0 {
            if self.key(node) < key {
                (best, node) = (node, links[Int(node)].right)
            } else {
                node = links[Int(node)].left
            }
        }
        return element(best)
    }

    /// The last entry whose key is `key` or less.
    public func last(atOrBefore key: Key) -> Element? {
        var (node, best) = (root, Int32(0))
        while node != 0 {
            if self.key(node) <= key {
                (best, node) = (node, links[Int(node)].right)
            } else {
                node = links[Int(node)].left
            }
        }
        return element(best)
    }

    /// The entries from `key` (included) on, ascending.
    public func entries(from key: Key) -> Entries { Entries(map: self, node: lowerBound(key)) }

    /// The keys, ascending.
    public var keys: [Key] { map(\.key) }
    /// The values in the order of their keys.
    public var values: [Value] { map(\.value) }

    // MARK: Changing

    /// Sets the value of a key; returns the one it had.
    @discardableResult
    public mutating func updateValue(_ value: Value, forKey key: Key) -> Value? {
        var (node, parent, isLeft) = (root, Int32(0), false)
        while node != 0 {
            let here = self.key(node)
            if key < here {
                (parent, isLeft, node) = (node, true, links[Int(node)].left)
            } else if here < key {
                (parent, isLeft, node) = (node, false, links[Int(node)].right)
            } else {
                let old = nodeValues[Int(node)]
                nodeValues[Int(node)] = value
                return old
            }
        }
        let new = allocate(key, value)
        links[Int(new)] = Links(parent: parent, isRed: true)
        if parent == 0 {
            root = new
        } else if isLeft {
            links[Int(parent)].left = new
        } else {
            links[Int(parent)].right = new
        }
        balanceAfterInsertion(new)
        return nil
    }

    /// Removes an entry; returns its value, nil when there was none.
    @discardableResult
    public mutating func removeValue(forKey key: Key) -> Value? {
        let node = find(key)
        return node == 0 ? nil : remove(node)?.value
    }

    @discardableResult
    public mutating func popFirst() -> Element? {
        remove(leftmost(root))
    }

    @discardableResult
    public mutating func popLast() -> Element? {
        remove(rightmost(root))
    }

    /// Changes every value in place, in the order of the keys.
    public mutating func updateAll(_ body: (Key, inout Value) -> Void) {
        var node = leftmost(root)
        while node != 0 {
            body(key(node), &nodeValues[Int(node)]!)  // a node in the tree has a value
            node = successor(node)
        }
    }

    public mutating func removeAll(where matches: (Element) -> Bool) {
        for element in self where matches(element) { removeValue(forKey: element.key) }
    }

    public mutating func removeAll() { self = OrderedMap() }

    public func mapValues<Other>(_ transform: (Value) -> Other) -> OrderedMap<Key, Other> {
        OrderedMap<Key, Other>(map { ($0.key, transform($0.value)) })
    }

    public func filter(_ isIncluded: (Element) -> Bool) -> OrderedMap {
        var result = OrderedMap()
        for element in self where isIncluded(element) { result.updateValue(element.value, forKey: element.key) }
        return result
    }

    // MARK: Nodes

    func key(_ node: Int32) -> Key {
        guard let key = nodeKeys[Int(node)] else { preconditionFailure("OrderedMap: a link leads to no key") }
        return key
    }

    func element(_ node: Int32) -> Element? {
        guard let key = nodeKeys[Int(node)], let value = nodeValues[Int(node)] else { return nil }
        return (key, value)
    }

    private func find(_ key: Key) -> Int32 {
        var node = root
        while node != 0 {
            let here = self.key(node)
            if key < here {
                node = links[Int(node)].left
            } else if here < key {
                node = links[Int(node)].right
            } else {
                return node
            }
        }
        return 0
    }

    private func lowerBound(_ key: Key) -> Int32 {
        var (node, best) = (root, Int32(0))
        while node != 0 {
            if self.key(node) < key {
                node = links[Int(node)].right
            } else {
                (best, node) = (node, links[Int(node)].left)
            }
        }
        return best
    }

    private func upperBound(_ key: Key) -> Int32 {
        var (node, best) = (root, Int32(0))
        while node != 0 {
            if key < self.key(node) {
                (best, node) = (node, links[Int(node)].left)
            } else {
                node = links[Int(node)].right
            }
        }
        return best
    }

    func leftmost(_ start: Int32) -> Int32 {
        var node = start
        while links[Int(node)].left != 0 { node = links[Int(node)].left }
        return node
    }

    func rightmost(_ start: Int32) -> Int32 {
        var node = start
        while links[Int(node)].right != 0 { node = links[Int(node)].right }
        return node
    }

    func successor(_ start: Int32) -> Int32 {
        if links[Int(start)].right != 0 { return leftmost(links[Int(start)].right) }
        var (node, parent) = (start, links[Int(start)].parent)
        while parent != 0 && node == links[Int(parent)].right { (node, parent) = (parent, links[Int(parent)].parent) }
        return parent
    }

    private mutating func allocate(_ key: Key, _ value: Value) -> Int32 {
        count += 1
        if firstFree != 0 {
            let node = firstFree
            firstFree = links[Int(node)].left
            nodeKeys[Int(node)] = key
            nodeValues[Int(node)] = value
            return node
        }
        links.append(Links())
        nodeKeys.append(key)
        nodeValues.append(value)
        return Int32(nodeKeys.count - 1)
    }

    @discardableResult
    private mutating func remove(_ node: Int32) -> Element? {
        guard node != 0 else { return nil }
        unlink(node)
        let element = element(node)
        nodeKeys[Int(node)] = nil
        nodeValues[Int(node)] = nil
        links[Int(node)] = Links(left: firstFree)
        firstFree = node
        count -= 1
        return element
    }
}

extension OrderedMap: Sendable where Key: Sendable, Value: Sendable {}
