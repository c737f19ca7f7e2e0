/// What has changed between two versions of a section's data, in as few and as short pieces as pays.
struct SectionDifference {
    /// Compared at a time.
    static let blockSize = 64
    /// A piece costs so much besides its bytes (a section operation and its id): nearer ones are sent as one.
    static let pieceCost = 64
    /// More pieces than that, and everything is sent.
    static let piecesMax = 4_096

    private(set) var pieces: [Range<Int>] = []
    private(set) var byteCount = 0

    /// Nil when it does not pay, or when the data has become shorter.
    init?(from old: UnsafeRawBufferPointer, to new: UnsafeRawBufferPointer) {
        guard old.count > 0, new.count >= old.count else { return nil }
        var start = 0
        while start < new.count {
            let end = min(start + Self.blockSize, new.count)
            if !Self.isEqual(old, new, start, end) { add(Self.trimmed(old, new, start, end)) }
            start = end
        }
        guard pieces.count <= Self.piecesMax, byteCount + pieces.count * Self.pieceCost < new.count else { return nil }
    }

    private mutating func add(_ piece: Range<Int>) {
        if let last = pieces.last, piece.lowerBound - last.upperBound < Self.pieceCost {
            byteCount += piece.upperBound - last.upperBound
            pieces[pieces.count - 1] = last.lowerBound..<piece.upperBound
        } else {
            byteCount += piece.count
            pieces.append(piece)
        }
    }

    private static func isEqual(
        _ old: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) -> Bool {
        guard end <= old.count else { return false }
        var offset = start
        while offset + 8 <= end {
            let left = old.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if left != new.loadUnaligned(fromByteOffset: offset, as: UInt64.self) { return false }
            offset += 8
        }
        while offset < end {
            if old[offset] != new[offset] { return false }
            offset += 1
        }
        return true
    }

    /// Without the equal bytes at both ends of a block that is not equal.
    private static func trimmed(
        _ old: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) -> Range<Int> {
        var (low, high) = (start, end)
        while low < high, low < old.count, old[low] == new[low] { low += 1 }
        while high > low, high <= old.count, old[high - 1] == new[high - 1] { high -= 1 }
        return low..<high
    }
}
