/// Bytes that come in at the end and go out at the front, such as a stream being taken apart into frames.
///
/// A value with copy on write. Grows by doubling up to a limit and moves what is left to the front only when it needs
/// the room, so a byte is copied O(1) times on average; gives memory back after a burst.
public struct ElasticBuffer: Sendable {
    /// The most it may hold.
    public let limit: Int
    private var storage: [UInt8] = []
    private var start = 0

    /// - Parameter limit: bytes, at least 1; what would exceed it is refused.
    public init(limit: Int) {
        precondition(limit > 0, "ElasticBuffer: limit must be at least 1")
        self.limit = limit
    }

    public var count: Int { storage.count - start }
    public var isEmpty: Bool { count == 0 }
    /// Bytes that still fit.
    public var room: Int { limit - count }

    /// Adds bytes at the end; false (and nothing is done) when they do not fit.
    @discardableResult
    public mutating func append(_ bytes: some Collection<UInt8>) -> Bool {
        guard bytes.count <= room else { return false }
        compact(for: bytes.count)
        storage.append(contentsOf: bytes)
        return true
    }

    /// Offers up to `count` bytes of room at the end (less when the limit is near) to `body`, which fills it from the
    /// start and returns how many it wrote; that many are kept. Returns the same number.
    @discardableResult
    public mutating func append<Failure: Error>(
        upTo count: Int, _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
    ) throws(Failure) -> Int {
        let offered = Swift.min(Swift.max(count, 0), room)
        compact(for: offered)
        let end = storage.count
        storage.append(contentsOf: repeatElement(0, count: offered))
        var written = 0
        defer { storage.removeLast(offered - written) }
        written = try storage.withUnsafeMutableBufferPointer { (buffer) throws(Failure) -> Int in
            let free = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer[end...]))
            return Swift.min(Swift.max(try body(free), 0), offered)
        }
        return written
    }

    /// Removes up to `count` bytes from the front.
    public mutating func consume(_ count: Int) {
        start += Swift.min(Swift.max(count, 0), self.count)
        if start == storage.count {
            // A burst is over: keep a little, give the rest back.
            storage.removeAll(keepingCapacity: storage.capacity <= 64 * 1024)
            start = 0
        }
    }

    /// Takes exactly `count` bytes from the front; nil (and nothing is done) when there are fewer.
    public mutating func take(_ count: Int) -> [UInt8]? {
        guard count >= 0, count <= self.count else { return nil }
        let bytes = Array(storage[start..<start + count])
        consume(count)
        return bytes
    }

    /// Takes the bytes up to and without the first `delimiter`, which goes too; nil when it has not come yet.
    public mutating func take(until delimiter: UInt8) -> [UInt8]? {
        guard let end = storage[start...].firstIndex(of: delimiter) else { return nil }
        let bytes = Array(storage[start..<end])
        consume(end + 1 - start)
        return bytes
    }

    /// The byte at `index` from the front, 0 ..< count.
    public subscript(index: Int) -> UInt8 {
        precondition(index >= 0 && index < count, "ElasticBuffer: no byte at this index")
        return storage[start + index]
    }

    /// The bytes, for the time of `body`.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try storage.withUnsafeBufferPointer { (buffer) throws(Failure) -> Result in
            try body(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: buffer[start...])))
        }
    }

    /// All bytes, which stay.
    public var bytes: [UInt8] { Array(storage[start...]) }

    public mutating func removeAll() {
        storage = []
        start = 0
    }

    /// Moves the rest to the front when the array would have to grow and half of it is waste.
    private mutating func compact(for extra: Int) {
        guard start > 0, storage.count + extra > storage.capacity, start >= count else { return }
        storage.removeFirst(start)
        start = 0
    }
}

extension ElasticBuffer: Equatable {
    /// The same bytes.
    public static func == (left: ElasticBuffer, right: ElasticBuffer) -> Bool {
        left.storage[left.start...] == right.storage[right.start...]
    }
}
