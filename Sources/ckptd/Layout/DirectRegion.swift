import OSAL
import SAFTypes
import Synchronization

/// One direct section in its memory: two buffers, of which one holds, and what the other lacks.
///
/// A write brings the other buffer up to date, changes it, and lets it hold by one store. So a writer that dies at any
/// instruction leaves the old or the new section, and what it has half written is known: the *dirty* blocks of the
/// buffer that does not hold. Each buffer's head: size u64 · last update i64 · change u64 · crc u64, also over the
/// version · dirty u64 · dirty of a write under way u64, as first block u32 · block behind the last u32.
struct DirectRegion<Memory: DirectMemory> {
    let memory: Memory
    let limit: Int
    let grant: UInt64

    /// Blocks from the first to behind the last; what a hostile writer left there means all.
    struct Blocks: Hashable {
        var start: Int
        var end: Int
        static var none: Blocks { Blocks(start: 0, end: 0) }
        var isEmpty: Bool { start >= end }
        var packed: UInt64 { UInt64(start) | UInt64(end) << 32 }

        init(start: Int, end: Int) { (self.start, self.end) = (start, end) }

        init(_ packed: UInt64, of count: Int) {
            (start, end) = (Int(packed & 0xFFFF_FFFF), Int(packed >> 32))
            if start > end || end > count { (start, end) = (0, count) }
        }

        func hull(_ other: Blocks) -> Blocks {
            if other.isEmpty { return self }
            if isEmpty { return other }
            return Blocks(start: min(start, other.start), end: max(end, other.end))
        }
    }

    struct Head: Hashable {
        var size: Int
        var lastUpdate: SaTime
        var change: UInt64
    }

    private var blockCount: Int { DirectLayout.blocks(limit) }
    private func headOffset(_ buffer: Int) -> Int {
        DirectLayout.buffersOffset + buffer * DirectLayout.bufferHeadBytes
    }
    private func tableOffset(_ buffer: Int) -> Int {
        DirectLayout.checksumsOffset + buffer * DirectLayout.tableBytes(blockCount)
    }
    private func dataOffset(_ buffer: Int) -> Int {
        DirectLayout.checksumsOffset + 2 * DirectLayout.tableBytes(blockCount)
            + buffer * blockCount * DirectLayout.blockBytes
    }
    private func dirtyOffset(_ buffer: Int) -> Int { headOffset(buffer) + 32 }

    var lock: DirectLock { DirectLock(word: memory.base + DirectLayout.lockOffset) }

    // MARK: Heads

    /// Nil: not what was published with this state.
    func head(_ state: UInt64) -> Head? {
        let offset = headOffset(Int(state & 1))
        let (size, time, change) = (memory.load(offset), memory.load(offset + 8), memory.load(offset + 16))
        guard size <= UInt64(limit),
            memory.load(offset + 24) == UInt64(DirectLayout.checksum(size, time, change, state >> 2))
        else { return nil }
        return Head(size: Int(size), lastUpdate: SaTime(bitPattern: time), change: change)
    }

    private func store(_ head: Head, buffer: Int, version: UInt64) {
        let offset = headOffset(buffer)
        let (size, time) = (UInt64(head.size), UInt64(bitPattern: head.lastUpdate))
        memory.store(size, at: offset)
        memory.store(time, at: offset + 8)
        memory.store(head.change, at: offset + 16)
        memory.store(UInt64(DirectLayout.checksum(size, time, head.change, version)), at: offset + 24)
    }

    private static func state(version: UInt64, buffer: Int) -> UInt64 { version << 2 | UInt64(buffer) }

    // MARK: ckptd's part

    /// Makes this memory the section's; nobody else may write it. Readers and late writers see that it is.
    func prepare(_ data: UnsafeRawBufferPointer, _ head: Head) {
        let old = memory.setBits(DirectLayout.stateClosed, at: DirectLayout.stateOffset)
        memory.store(grant, at: DirectLayout.grantOffset)
        let whole = data.count / DirectLayout.blockBytes
        if whole > 0, let base = data.baseAddress { copyIn(base, blocks: 0..<whole, buffer: 0) }
        if whole * DirectLayout.blockBytes < data.count {
            let tail = UnsafeRawBufferPointer(rebasing: data[(whole * DirectLayout.blockBytes)...])
            withScratch { scratch in
                guard let base = scratch.baseAddress else { return }
                base.initializeMemory(as: UInt8.self, repeating: 0, count: scratch.count)
                scratch.copyMemory(from: tail)
                copyIn(UnsafeRawPointer(base), blocks: whole..<(whole + 1), buffer: 0)
            }
        }
        memory.store(Blocks(start: 0, end: blockCount).packed, at: dirtyOffset(1))
        memory.store(0, at: dirtyOffset(1) + 8)
        let version = ((old >> 2) &+ 1) & (UInt64.max >> 2)
        store(head, buffer: 0, version: version)
        memory.store(Self.state(version: version, buffer: 0), at: DirectLayout.stateOffset)
    }

    /// From now on nobody can publish here: what holds, holds for good. Waits for nobody.
    func close() { _ = memory.setBits(DirectLayout.stateClosed, at: DirectLayout.stateOffset) }

    /// The state, whether closed or not.
    var published: UInt64 { memory.load(DirectLayout.stateOffset) & ~DirectLayout.stateClosed }

    // MARK: Writing

    struct Change {
        /// Replaces everything, from offset 0.
        var replaces: Bool
        var offset: Int
        var data: UnsafeRawBufferPointer
        var time: SaTime
    }

    /// The lock is held.
    ///
    /// - Parameters:
    ///   - counter: where change numbers are counted.
    ///   - isTold: ckptd counts them, one for all that it finds at a time.
    /// - Returns: The change number.
    @inline(__always)
    func write(
        _ change: Change, counting counter: UnsafeMutableRawPointer, isTold: Bool = false
    ) throws(DirectRefusal) -> UInt64 {
        let state = memory.load(DirectLayout.stateOffset)
        guard state & DirectLayout.stateClosed == 0, memory.load(DirectLayout.grantOffset) == grant else {
            throw .closed
        }
        guard let old = head(state) else { throw .corrupted }
        let end = change.offset &+ change.data.count
        guard change.offset >= 0, end >= change.offset, end <= limit else { throw .tooLarge }
        let (published, spare) = (Int(state & 1), 1 - Int(state & 1))
        let touched: Blocks
        var size = old.size
        if change.replaces {
            (touched, size) = (Blocks(start: 0, end: DirectLayout.blocks(end)), end)
        } else if change.data.count == 0 {
            touched = .none
        } else {
            let first = min(change.offset, old.size) / DirectLayout.blockBytes
            (touched, size) = (Blocks(start: first, end: DirectLayout.blocks(end)), max(old.size, end))
        }
        catchUp(spare, from: published, size: old.size, except: touched)
        try apply(change, touched, to: spare, old: old, in: published)
        let version = ((state >> 2) &+ 1) & (UInt64.max >> 2)
        let number =
            isTold
            ? counter.atomic(UInt64.self).pointee.load(ordering: .relaxed) &+ 1
            : counter.atomic(UInt64.self).pointee.wrappingAdd(1, ordering: .relaxed).newValue
        store(Head(size: size, lastUpdate: change.time, change: number), buffer: spare, version: version)
        // What the buffer that holds until now will lack.
        memory.store(touched.packed, at: dirtyOffset(published))
        memory.store(0, at: dirtyOffset(published) + 8)
        let next = Self.state(version: version, buffer: spare)
        guard memory.exchange(state, for: next, at: DirectLayout.stateOffset) else { throw .closed }
        return number
    }

    /// Notes that `touched` will be written, and gives the buffer what else it lacks.
    @inline(__always)
    private func catchUp(_ spare: Int, from published: Int, size: Int, except touched: Blocks) {
        let offset = dirtyOffset(spare)
        var lacking = Blocks(memory.load(offset), of: blockCount)
        let unfinished = Blocks(memory.load(offset + 8), of: blockCount)
        if !unfinished.isEmpty {
            // Somebody died while writing, or was refused. The hull is stored before the other is overwritten.
            lacking = lacking.hull(unfinished)
            memory.store(lacking.packed, at: offset)
        }
        memory.store(touched.packed, at: offset + 8)
        let end = min(lacking.end, DirectLayout.blocks(size))
        copyAcross(lacking.start, min(end, touched.start), from: published, to: spare)
        copyAcross(max(lacking.start, touched.end), end, from: published, to: spare)
    }

    /// Blocks with their checksums: damage stays visible.
    @inline(__always)
    private func copyAcross(_ start: Int, _ end: Int, from source: Int, to target: Int) {
        guard start < end else { return }
        let (from, to) = (start * DirectLayout.blockBytes, (end - start) * DirectLayout.blockBytes)
        memory.copy(from: memory.base + dataOffset(source) + from, to: dataOffset(target) + from, count: to)
        memory.copy(
            from: memory.base + tableOffset(source) + start * 4, to: tableOffset(target) + start * 4,
            count: (end - start) * 4)
    }

    @inline(__always)
    private func copyIn(_ source: UnsafeRawPointer, blocks: Range<Int>, buffer: Int) {
        memory.copyBlocks(
            from: source, to: dataOffset(buffer) + blocks.lowerBound * DirectLayout.blockBytes, count: blocks.count,
            first: blocks.lowerBound, checksums: tableOffset(buffer) + blocks.lowerBound * 4)
    }

    @inline(__always)
    private func apply(
        _ change: Change, _ touched: Blocks, to spare: Int, old: Head, in published: Int
    ) throws(DirectRefusal) {
        let end = change.offset + change.data.count
        var block = touched.start
        while block < touched.end {
            let start = block * DirectLayout.blockBytes
            if start >= change.offset, start + DirectLayout.blockBytes <= end, let base = change.data.baseAddress {
                let whole = (end - start) / DirectLayout.blockBytes
                copyIn(base + (start - change.offset), blocks: block..<(block + whole), buffer: spare)
                block += whole
            } else {
                try applyPart(change, block, to: spare, old: change.replaces ? 0 : old.size, in: published)
                block += 1
            }
        }
    }

    /// A block that keeps old bytes: they must be sound, or its new checksum would hide the damage. What lies behind
    /// the section's end is zero, so that a gap reads as zero.
    @inline(__always)
    private func applyPart(
        _ change: Change, _ block: Int, to spare: Int, old size: Int, in published: Int
    ) throws(DirectRefusal) {
        let start = block * DirectLayout.blockBytes
        let kept = max(0, min(size - start, DirectLayout.blockBytes))
        let from = max(start, change.offset)
        let to = min(start + DirectLayout.blockBytes, change.offset + change.data.count)
        let isSound = withScratch { scratch in
            guard let base = scratch.baseAddress else { return false }
            if kept > 0, !take(block, of: published, to: base) { return false }
            if kept < DirectLayout.blockBytes {
                (base + kept).initializeMemory(as: UInt8.self, repeating: 0, count: DirectLayout.blockBytes - kept)
            }
            if from < to, let data = change.data.baseAddress {
                (base + (from - start)).copyMemory(from: data + (from - change.offset), byteCount: to - from)
            }
            copyIn(UnsafeRawPointer(base), blocks: block..<(block + 1), buffer: spare)
            return true
        }
        if !isSound { throw .corrupted }
    }

    /// One block, if it is what was written.
    @inline(__always)
    private func take(_ block: Int, of buffer: Int, to target: UnsafeMutableRawPointer) -> Bool {
        var checksum: UInt32 = 0
        OSAL.copyBlocks(
            to: target, from: memory.base + dataOffset(buffer) + block * DirectLayout.blockBytes, count: 1,
            first: UInt32(block), checksums: &checksum)
        return checksum == storedChecksum(block, of: buffer)
    }

    @inline(__always)
    private func storedChecksum(_ block: Int, of buffer: Int) -> UInt32 {
        (memory.base + tableOffset(buffer)).load(fromByteOffset: block * 4, as: UInt32.self)
    }

    @inline(__always)
    private func withScratch<Value>(_ body: (UnsafeMutableRawBufferPointer) -> Value) -> Value {
        withUnsafeTemporaryAllocation(byteCount: DirectLayout.blockBytes, alignment: 16) { body($0) }
    }

    // MARK: Reading

    private static var attempts: Int { 16 }

    /// Copies what holds into `target`, as much as there is from `offset` on and as fits. Waits for nobody.
    ///
    /// - Parameter frozen: also what is closed.
    @inline(__always)
    func read(
        at offset: Int, into target: UnsafeMutableRawBufferPointer, frozen: Bool = false
    ) throws(DirectRefusal) -> DirectView {
        for _ in 0..<Self.attempts {
            let state = memory.load(DirectLayout.stateOffset)
            guard frozen || state & DirectLayout.stateClosed == 0, memory.load(DirectLayout.grantOffset) == grant else {
                throw .closed
            }
            var view: DirectView?
            var isBeyond = false
            if let head = head(state) {
                isBeyond = offset < 0 || offset > head.size
                let count = isBeyond ? 0 : min(target.count, head.size - offset)
                if copyOut(offset, UnsafeMutableRawBufferPointer(rebasing: target[..<count]), Int(state & 1)) {
                    view = DirectView(
                        size: head.size, lastUpdate: head.lastUpdate, change: head.change, copied: count)
                }
            }
            atomicMemoryFence(ordering: .acquiring)
            guard memory.load(DirectLayout.stateOffset) == state else { continue }
            guard let view else { throw .corrupted }
            if isBeyond { throw .beyondEnd }
            return view
        }
        throw .busy
    }

    /// False when a block is not what was written, or is being written.
    @inline(__always)
    private func copyOut(_ offset: Int, _ target: UnsafeMutableRawBufferPointer, _ buffer: Int) -> Bool {
        guard target.count > 0, let base = target.baseAddress else { return true }
        var done = 0
        while done < target.count {
            let position = offset + done
            let block = position / DirectLayout.blockBytes
            let inner = position % DirectLayout.blockBytes
            if inner == 0, target.count - done >= DirectLayout.blockBytes {
                let whole = min((target.count - done) / DirectLayout.blockBytes, Self.chunk)
                if !copyWhole(block, whole, buffer, to: base + done) { return false }
                done += whole * DirectLayout.blockBytes
            } else {
                let part = min(target.count - done, DirectLayout.blockBytes - inner)
                let isSound = withScratch { scratch in
                    guard let from = scratch.baseAddress, take(block, of: buffer, to: from) else { return false }
                    (base + done).copyMemory(from: from + inner, byteCount: part)
                    return true
                }
                if !isSound { return false }
                done += part
            }
        }
        return true
    }

    private static var chunk: Int { 64 }

    @inline(__always)
    private func copyWhole(_ block: Int, _ count: Int, _ buffer: Int, to target: UnsafeMutableRawPointer) -> Bool {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: Self.chunk) { checksums in
            guard let found = checksums.baseAddress else { return false }
            OSAL.copyBlocks(
                to: target, from: memory.base + dataOffset(buffer) + block * DirectLayout.blockBytes, count: count,
                first: UInt32(block), checksums: found)
            for index in 0..<count where found[index] != storedChecksum(block + index, of: buffer) { return false }
            return true
        }
    }
}
