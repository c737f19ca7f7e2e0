import OSAL
import Synchronization

/// The memory of a region: every store into it goes through these primitives, so that a test can stop the world after
/// any one of them. What is read is input: others may write it at any time.
protocol DirectMemory {
    /// For reading.
    var base: UnsafeMutableRawPointer { get }
    /// Visible before every later store, after every earlier one.
    func store(_ value: UInt64, at offset: Int)
    /// False when it was something else.
    func exchange(_ expected: UInt64, for desired: UInt64, at offset: Int) -> Bool
    func setBits(_ bits: UInt64, at offset: Int) -> UInt64
    func copy(from source: UnsafeRawPointer, to offset: Int, count: Int)
    /// Blocks with their checksums, which are of the copy.
    func copyBlocks(from source: UnsafeRawPointer, to offset: Int, count: Int, first: Int, checksums: Int)
}

extension DirectMemory {
    @inline(__always)
    func load(_ offset: Int) -> UInt64 { base.atomic(UInt64.self, at: offset).pointee.load(ordering: .acquiring) }
}

/// Shared memory as it is.
struct MappedRegion: DirectMemory {
    let base: UnsafeMutableRawPointer

    @inline(__always)
    func store(_ value: UInt64, at offset: Int) {
        base.atomic(UInt64.self, at: offset).pointee.store(value, ordering: .releasing)
        atomicMemoryFence(ordering: .acquiringAndReleasing)
    }

    @inline(__always)
    func exchange(_ expected: UInt64, for desired: UInt64, at offset: Int) -> Bool {
        base.atomic(UInt64.self, at: offset).pointee.compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }

    @inline(__always)
    func setBits(_ bits: UInt64, at offset: Int) -> UInt64 {
        base.atomic(UInt64.self, at: offset).pointee.bitwiseOr(bits, ordering: .sequentiallyConsistent).newValue
    }

    @inline(__always)
    func copy(from source: UnsafeRawPointer, to offset: Int, count: Int) {
        (base + offset).copyMemory(from: source, byteCount: count)
    }

    @inline(__always)
    func copyBlocks(from source: UnsafeRawPointer, to offset: Int, count: Int, first: Int, checksums: Int) {
        OSAL.copyBlocks(
            to: base + offset, from: source, count: count, first: UInt32(truncatingIfNeeded: first),
            checksums: (base + checksums).assumingMemoryBound(to: UInt32.self))
    }
}
