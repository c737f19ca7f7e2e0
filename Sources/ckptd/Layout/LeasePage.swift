import EngineKit
import OSAL
import Synchronization

/// The page that says until when the replicas of this node may be read without asking. Written by ckptd only.
///
/// magic u64 · version u32 · 0 u32; at 64: readable until u64, this node's monotonic clock in nanoseconds: 0 not at
/// all, all ones for ever (a node alone: who reads need not ask whether ckptd lives); at 128: the life lock of ckptd;
/// at 192: membership u64, another number for another membership of this node in the cluster, 0 while it is none.
public enum LeasePage {
    public static let name = "service"
    public static let bytes = 4096
    static let magic: UInt64 = 0x3145_5341_454C_4B43  // "CKLEASE1"
    static let version: UInt32 = 1
    static let untilOffset = 64
    /// Where the robust lock is that ckptd holds while it lives, on several nodes: the others learn of its death before
    /// the lease is over.
    public static let lifeOffset = 128
    static let membershipOffset = 192
    public static let forEver = UInt64.max

    /// Not readable.
    public static func format(_ page: UnsafeMutableRawPointer) {
        setUntil(0, page)
        setMembership(1, page)
        page.storeBytes(of: magic.littleEndian, as: UInt64.self)
        page.storeBytes(of: version.littleEndian, toByteOffset: 8, as: UInt32.self)
        page.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
    }

    public static func isSound(_ page: UnsafeRawBufferPointer) -> Bool {
        guard page.count >= bytes, let base = page.baseAddress else { return false }
        return UInt64(littleEndian: base.load(as: UInt64.self)) == magic
            && UInt32(littleEndian: base.load(fromByteOffset: 8, as: UInt32.self)) == version
    }

    public static func setUntil(_ nanoseconds: UInt64, _ page: UnsafeMutableRawPointer) {
        page.atomic(UInt64.self, at: untilOffset).pointee.store(nanoseconds.littleEndian, ordering: .releasing)
    }

    public static func setMembership(_ word: UInt64, _ page: UnsafeMutableRawPointer) {
        page.atomic(UInt64.self, at: membershipOffset).pointee.store(word.littleEndian, ordering: .releasing)
    }

    @inline(__always)
    public static func membership(_ page: UnsafeRawPointer) -> UInt64 {
        SharedWords(page).relaxed(at: membershipOffset)
    }

    /// Whether replicas may be read now; reads the clock only if it matters.
    @inline(__always)
    public static func isReadable(_ page: UnsafeRawPointer) -> Bool {
        let until = SharedWords(page).word(at: untilOffset)
        if until == forEver { return true }
        // Linux: the number of the thread that holds it, and a bit when that has died.
        let life = SharedWords(page).relaxedHalf(at: lifeOffset)
        guard until != 0, life & 0x3FFF_FFFF != 0, life & 0x4000_0000 == 0 else { return false }
        return UInt64(MonotonicClock.now().nanoseconds) < until
    }
}
