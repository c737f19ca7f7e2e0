/// Bytes in, the same bytes out: a ring of memory that grows as it fills and is kept. Positions only grow.
struct ByteFifo: ~Copyable {
    private var memory: UnsafeMutableRawPointer?
    private var capacity = 0  // a power of two, or 0
    /// Bytes ever put in.
    private(set) var appended: UInt64 = 0
    /// Bytes ever taken out.
    private(set) var taken: UInt64 = 0

    init() {}

    deinit { memory?.deallocate() }

    var count: Int { Int(appended &- taken) }

    mutating func append(_ source: UnsafeRawBufferPointer) {
        guard let from = source.baseAddress, source.count > 0 else { return }
        if count + source.count > capacity { grow(to: count + source.count) }
        guard let memory else { return }
        let place = Int(appended) & (capacity - 1)
        let first = min(source.count, capacity - place)
        (memory + place).copyMemory(from: from, byteCount: first)
        if first < source.count { memory.copyMemory(from: from + first, byteCount: source.count - first) }
        appended &+= UInt64(source.count)
    }

    mutating func append(_ header: LinkHeader) {
        var words = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &words) { bytes in
            guard let base = bytes.baseAddress else { return }
            header.store(to: base)
            append(UnsafeRawBufferPointer(bytes))
        }
    }

    /// The u32 at `position`, which must lie inside.
    func word(at position: UInt64) -> UInt32 {
        guard let memory else { return 0 }
        var value: UInt32 = 0
        for index in 0..<4 {
            let byte = memory.load(fromByteOffset: (Int(position) + index) & (capacity - 1), as: UInt8.self)
            value |= UInt32(byte) << UInt32(8 * index)
        }
        return value
    }

    /// The contiguous stretch at `position`, at most `count` bytes: the rest, if any, follows at its end.
    func stretch(at position: UInt64, count: Int) -> UnsafeRawBufferPointer {
        guard let memory else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let place = Int(position) & (capacity - 1)
        return UnsafeRawBufferPointer(start: memory + place, count: min(count, capacity - place))
    }

    mutating func take(_ count: Int) {
        taken &+= UInt64(count)
        // Positions are the stream's, so an empty ring goes on where it is; a large one is given back.
        if self.count == 0, capacity > Self.keptMax {
            memory?.deallocate()
            memory = nil
            capacity = 0
        }
    }

    private static let keptMax = 256 << 10

    private mutating func grow(to need: Int) {
        var larger = max(4096, capacity)
        while larger < need { larger *= 2 }
        let fresh = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 64)
        var position = taken
        while position < appended {
            let part = stretch(at: position, count: Int(appended &- position))
            // A stretch of the old ring may wrap in the new one only where the old one wrapped, too.
            let place = Int(position) & (larger - 1)
            let count = min(part.count, larger - place)
            if let from = part.baseAddress { (fresh + place).copyMemory(from: from, byteCount: count) }
            position &+= UInt64(count)
        }
        memory?.deallocate()
        memory = fresh
        capacity = larger
    }
}
