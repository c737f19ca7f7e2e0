import CkptLayout

/// Which parts of a checkpoint's file are free. Not stored: after a restart it is what no table refers to.
///
/// Segregated fits: sizes are rounded to one of four steps per power of two, so at most a fifth of an extent is lost
/// to rounding, and both taking and giving back are O(1).
struct ExtentAllocator: Hashable {
    typealias Extent = CkptLayout.Extent

    static let sizeMin = Extent.sizeMin
    static let sizeMax = 1 << 44
    private static let classCount = classIndex(sizeMax) + 1

    /// Everything from here to the end of the file is free as well.
    private(set) var end: Int
    private var free: [[Int]]

    /// `used` in ascending order, without overlap (checked by the caller), all at or after `start`.
    init(start: Int, used: [Extent]) {
        free = Array(repeating: [], count: Self.classCount)
        end = start
        for extent in used {
            addGap(from: end, to: extent.offset)
            end = extent.end
        }
    }

    /// The class whose extents hold `size` bytes: 64, 80, 96, 112, 128, 160, …
    static func classIndex(_ size: Int) -> Int {
        guard size > sizeMin else { return 0 }
        let last = size - 1
        let exponent = Int.bitWidth - 1 - last.leadingZeroBitCount
        return (exponent - 6) * 4 + ((last >> (exponent - 2)) & 3) + 1
    }

    static func classSize(_ index: Int) -> Int { ((4 + index % 4) << (index / 4)) * 16 }

    /// What ``allocate(_:fileSize:)`` would really take for `size` bytes.
    static func rounded(_ size: Int) -> Int { classSize(classIndex(size)) }

    /// Nil when the file must grow first: to ``end`` + ``rounded(_:)``.
    mutating func allocate(_ size: Int, fileSize: Int) -> Extent? {
        let index = Self.classIndex(size)
        let rounded = Self.classSize(index)
        if let offset = free[index].popLast() { return Extent(offset: offset, size: rounded) }
        guard end + rounded <= fileSize else { return nil }
        defer { end += rounded }
        return Extent(offset: end, size: rounded)
    }

    /// A free extent larger than asked for: when the file cannot grow any more.
    mutating func allocateLarger(_ size: Int) -> Extent? {
        for index in (Self.classIndex(size) + 1)..<Self.classCount {
            if let offset = free[index].popLast() { return Extent(offset: offset, size: Self.classSize(index)) }
        }
        return nil
    }

    mutating func release(_ extent: Extent) {
        var index = Self.classIndex(extent.size)
        if Self.classSize(index) > extent.size { index -= 1 }
        if index >= 0 { free[index].append(extent.offset) }
    }

    private mutating func addGap(from start: Int, to limit: Int) {
        var offset = (start + 15) & ~15
        while limit - offset >= Self.sizeMin {
            var index = Self.classIndex(limit - offset)
            if Self.classSize(index) > limit - offset { index -= 1 }
            free[index].append(offset)
            offset += Self.classSize(index)
        }
    }
}
