import CkptProtocol

/// Which part of a section the database does not have yet.
struct DirtySection: Hashable, Sendable {
    /// More pieces than that are made fewer: to write a little too much is cheaper than to remember each.
    static let rangesMax = 16

    /// Everything, whatever the size.
    private(set) var isWhole = false
    /// Blocks, ascending and apart.
    private(set) var ranges: [Range<Int>] = []

    /// What an operation that was done does to it. Growth is not noted: it shows in the sizes.
    mutating func note(_ operation: SectionOperation) {
        switch operation.kind {
        case .write:
            guard operation.data.count > 0, let offset = Int(exactly: operation.offset) else { return }
            let last = offset + operation.data.count - 1
            insert(offset / PersistentLayout.blockBytes..<last / PersistentLayout.blockBytes + 1)
        case .setExpiration: return
        default: insertAll()
        }
    }

    mutating func insertAll() { (isWhole, ranges) = (true, []) }

    mutating func insert(_ new: Range<Int>) {
        guard !isWhole, !new.isEmpty else { return }
        var merged = new
        var kept: [Range<Int>] = []
        for range in ranges {
            if range.upperBound < merged.lowerBound || range.lowerBound > merged.upperBound {
                kept.append(range)
            } else {
                merged = min(range.lowerBound, merged.lowerBound)..<max(range.upperBound, merged.upperBound)
            }
        }
        kept.insert(merged, at: kept.firstIndex { $0.lowerBound > merged.lowerBound } ?? kept.endIndex)
        ranges = kept
        if ranges.count > Self.rangesMax { closeSmallestGap() }
    }

    mutating func insert(_ other: DirtySection) {
        if other.isWhole { insertAll() }
        for range in other.ranges { insert(range) }
    }

    private mutating func closeSmallestGap() {
        var (best, gap) = (0, Int.max)
        for index in 0..<ranges.count - 1 where ranges[index + 1].lowerBound - ranges[index].upperBound < gap {
            (best, gap) = (index, ranges[index + 1].lowerBound - ranges[index].upperBound)
        }
        ranges[best] = ranges[best].lowerBound..<ranges[best + 1].upperBound
        ranges.remove(at: best + 1)
    }

    /// What has to be written of a section of `size` bytes, when the database has `stored` bytes of it.
    func blocks(size: Int, stored: Int?) -> [Range<Int>] {
        let count = PersistentLayout.blocks(size)
        guard count > 0 else { return [] }
        guard !isWhole, let stored, PersistentLayout.blocks(stored) > 0 else { return [0..<count] }
        var all = self
        // The last block was shorter when it was written.
        if stored < size { all.insert(stored / PersistentLayout.blockBytes..<count) }
        return all.ranges.map { $0.clamped(to: 0..<count) }.filter { !$0.isEmpty }
    }
}
