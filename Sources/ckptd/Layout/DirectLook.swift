public import CkptProtocol
import OSAL
import Synchronization

/// ckptd's look at the *told* direct sections of a checkpoint: what was written since others were told, all of it as it
/// is at one moment, so that nobody is told of a write and not of an earlier one to another section.
///
/// Waits for nobody. What is written is seen by the state word of a section alone.
public struct DirectLook {
    /// One section.
    public struct Entry {
        let slot: Int
        /// Nil: where it should be there is nothing.
        let section: DirectSection?
        let told: UInt64?
        var isRecalled: Bool

        /// - Parameters:
        ///   - told: its ``DirectSection/published`` when others were told last; nil: not known.
        ///   - isRecalled: nobody can write it any more.
        public init(_ slot: Int, _ section: DirectSection?, told: UInt64?, isRecalled: Bool) {
            (self.slot, self.section, self.told, self.isRecalled) = (slot, section, told, isRecalled)
            if isRecalled { section?.close() }
        }

        var state: UInt64 { section?.published ?? 0 }
    }

    /// After so many looks that found no such moment the writers lose their sections.
    private static let attemptsMax = 8

    private var entries: [Entry]
    /// Where the data begins in the payload.
    private let start: Int
    private var seen: [UInt64]
    /// What others are to be told, and what is recalled.
    public private(set) var sights: [DirectSight] = []

    /// - Parameter start: bytes of the payload that are not of this look.
    public init(_ entries: [Entry], behind start: Int) {
        (self.entries, self.start) = (entries, start)
        seen = Array(repeating: 0, count: entries.count)
    }

    /// What was found of each section; what it is from now on, if others are told.
    public var states: [(slot: Int, state: UInt64)] { zip(entries, seen).map { ($0.slot, $1) } }

    /// Nothing was written since.
    public var isStill: Bool { entries.indices.allSatisfy { entries[$0].state == seen[$0] } }

    /// Looks. The gate may be closed afterwards: the caller says what ckptd does now, which opens it.
    ///
    /// - Parameters:
    ///   - old: what others have of a section; nil: nothing that can be compared with.
    ///   - payload: gets the data.
    public mutating func take(
        _ bell: DirectBell, from old: (Int) -> UnsafeRawBufferPointer?, into payload: inout [UInt8]
    ) {
        for attempt in 0..<Self.attemptsMax {
            // One look beside the writers, then they wait: what is under way ends, and nothing else begins.
            if attempt == 1 { bell.closeGate() }
            if takeOnce(from: old, into: &payload) { return }
        }
        for index in entries.indices {
            entries[index].isRecalled = true
            entries[index].section?.close()
        }
        _ = takeOnce(from: old, into: &payload)
    }

    /// False when it was not of one moment.
    private mutating func takeOnce(
        from old: (Int) -> UnsafeRawBufferPointer?, into payload: inout [UInt8]
    ) -> Bool {
        payload.removeLast(payload.count - start)
        sights.removeAll(keepingCapacity: true)
        for index in entries.indices { seen[index] = entries[index].state }
        for index in entries.indices {
            if let sight = sight(entries[index], seen[index], old, &payload) { sights.append(sight) }
        }
        atomicMemoryFence(ordering: .acquiring)
        return isStill
    }

    private func sight(
        _ entry: Entry, _ state: UInt64, _ old: (Int) -> UnsafeRawBufferPointer?, _ payload: inout [UInt8]
    ) -> DirectSight? {
        if state == entry.told { return entry.isRecalled ? DirectSight(slot: entry.slot, isRecalled: true) : nil }
        let first = payload.count
        guard let section = entry.section, let view = Self.copy(section, to: &payload) else {
            // Of one that is being written there is another look.
            if let section = entry.section, section.published == state { section.close() }
            return DirectSight(slot: entry.slot, isRecalled: true, isCorrupted: true)
        }
        var sight = DirectSight(
            slot: entry.slot, size: view.size, lastUpdate: view.lastUpdate, change: view.change,
            isRecalled: entry.isRecalled, data: PayloadSlice(offset: first, count: view.size))
        sight.isWritten = true
        sight.writes = entry.told.map { (state >> 2) &- ($0 >> 2) } ?? 1
        sight.isWhole = true
        guard let old = old(entry.slot), old.count <= view.size else { return sight }
        let difference = payload.withUnsafeBytes { bytes in
            Self.difference(UnsafeRawBufferPointer(rebasing: bytes[first...]), from: old)
        }
        // Nobody knows of it that it was written since.
        if difference.isEmpty, entry.told == nil { sight.isWritten = false }
        sight.isWhole = false
        sight.offset = difference.lowerBound
        sight.data = PayloadSlice(offset: first + difference.lowerBound, count: difference.count)
        return sight
    }

    private static func copy(_ section: DirectSection, to payload: inout [UInt8]) -> DirectView? {
        let start = payload.count
        guard let size = try? section.readFrozen(at: 0, into: .init(start: nil, count: 0)).size else { return nil }
        payload.append(contentsOf: repeatElement(0, count: size))
        let view = payload.withUnsafeMutableBytes { bytes in
            try? section.readFrozen(at: 0, into: UnsafeMutableRawBufferPointer(rebasing: bytes[start...]))
        }
        guard let view, view.copied == size, view.size == size else {
            payload.removeLast(size)
            return nil
        }
        return view
    }

    /// From the first to behind the last word of `new` that is another, or longer than `old`; empty: none.
    private static func difference(_ new: UnsafeRawBufferPointer, from old: UnsafeRawBufferPointer) -> Range<Int> {
        let words = old.count / 8 * 8
        func isEqual(_ offset: Int) -> Bool {
            new.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                == old.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
        var first = 0
        while first < words, isEqual(first) { first += 8 }
        if first == words { while first < old.count, new[first] == old[first] { first += 1 } }
        if first == new.count { return 0..<0 }
        var last = new.count
        guard new.count == old.count else { return first..<last }
        while last > first, last > words, new[last - 1] == old[last - 1] { last -= 1 }
        if last == words { while last - 8 > first, isEqual(last - 8) { last -= 8 } }
        return first..<last
    }
}
