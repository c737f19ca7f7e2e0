import OSAL
import Synchronization

/// Words in memory that another process writes meanwhile: each is loaded once, whole, and in the order asked.
public struct SharedWords {
    public let base: UnsafeMutableRawPointer

    @inline(__always)
    public init(_ base: UnsafeRawPointer) { self.base = UnsafeMutableRawPointer(mutating: base) }

    /// What was written before it is seen after it.
    @inline(__always)
    public func word(at offset: Int) -> UInt64 {
        UInt64(littleEndian: base.atomic(UInt64.self, at: offset).pointee.load(ordering: .acquiring))
    }

    @inline(__always)
    public func relaxed(at offset: Int) -> UInt64 {
        UInt64(littleEndian: base.atomic(UInt64.self, at: offset).pointee.load(ordering: .relaxed))
    }

    @inline(__always)
    public func relaxedHalf(at offset: Int) -> UInt32 {
        UInt32(littleEndian: base.atomic(UInt32.self, at: offset).pointee.load(ordering: .relaxed))
    }
}
