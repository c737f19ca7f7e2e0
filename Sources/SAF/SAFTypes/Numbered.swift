/// Objects of a class by their numbers, in the order of these.
///
/// A sorted array: numbers are given in ascending order, nearly always, so a new one goes to the end. It is one for all
/// classes, and no dictionary: each kind of those is 3 KB of a C library, which needs none for anything else.
public struct Numbered<Object: AnyObject>: @unchecked Sendable {  // as long as its objects are
    private var entries = NumberedEntries()

    public init() {}

    public var count: Int { entries.count }

    public subscript(number: UInt64) -> Object? {
        get { entries.find(number).map { unsafeDowncast($0, to: Object.self) } }
        set { _ = entries.replace(number, newValue) }
    }

    public mutating func remove(_ number: UInt64) -> Object? {
        entries.replace(number, nil).map { unsafeDowncast($0, to: Object.self) }
    }

    public var inOrder: [Object] { entries.all.compactMap { $0.object.map { unsafeDowncast($0, to: Object.self) } } }

    public func forEach(_ body: (Object) -> Void) {
        for entry in entries.all {
            if let object = entry.object { body(unsafeDowncast(object, to: Object.self)) }
        }
    }
}

private struct NumberedEntries {
    /// Ascending. An entry without an object is one that was removed.
    var all: [(number: UInt64, object: AnyObject?)] = []
    var count = 0

    /// Where the number is, or would be.
    private func place(_ number: UInt64) -> Int {
        if let last = all.last, last.number < number { return all.count }
        var (low, high) = (0, all.count)
        while low < high {
            let middle = (low + high) / 2
            if all[middle].number < number { low = middle + 1 } else { high = middle }
        }
        return low
    }

    @inline(never)
    func find(_ number: UInt64) -> AnyObject? {
        let place = place(number)
        return place < all.count && all[place].number == number ? all[place].object : nil
    }

    @inline(never)
    mutating func replace(_ number: UInt64, _ object: AnyObject?) -> AnyObject? {
        let place = place(number)
        let isThere = place < all.count && all[place].number == number
        let old = isThere ? all[place].object : nil
        count += (object == nil ? 0 : 1) - (old == nil ? 0 : 1)
        if isThere {
            all[place].object = object
        } else if object != nil {
            all.append((number, object))
            for index in stride(from: all.count - 1, to: place, by: -1) { all.swapAt(index, index - 1) }
        }
        // Removed entries leave together, so that removing costs no moving of all that follow, each time.
        if all.count > 2 * count + 8 { all = all.filter { $0.object != nil } }
        return old
    }
}
