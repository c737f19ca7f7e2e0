import OSAL
public import SAFTypes
import Synchronization

/// What a handle of a C library stands for.
open class HandleObject: @unchecked Sendable {
    /// Of its class, 1 to 15.
    public final let kind: UInt64
    /// Its number, set once when it enters the table.
    public final fileprivate(set) var handle: UInt64 = 0

    public init(kind: UInt64) { self.kind = kind }
}

/// All handles of one C library in the process. A handle is an index with a kind, a generation, so that a closed one is
/// never taken for one that came after it, and the number of forks that made this process, so that a child does not
/// take its parent's for its own.
///
///     0..19 index · 20..23 kind · 24..31 forks · 32..63 generation
public final class HandleTable: @unchecked Sendable {
    private struct Entry {
        var object: HandleObject?
        var generation: UInt64 = 0
    }

    private struct Entries {
        var all: [Entry] = []
        var free: [Int] = []
    }

    private static let indexBits: UInt64 = 20
    private let forks: UInt64
    private let guardian = ForkGuard()
    private let entries = Lock(Entries())

    private init(forks: UInt64) { self.forks = forks & 0xff }

    // MARK: The process's table

    /// The table's address; 0 before there is one. It is never given back.
    private static let current = Atomic<UInt>(0)

    public static var shared: HandleTable {
        let address = current.load(ordering: .acquiring)
        if let table = table(at: address), table.guardian.isParent { return table }
        return make(instead: address)
    }

    private static func table(at address: UInt) -> HandleTable? {
        UnsafeRawPointer(bitPattern: address).map { Unmanaged<HandleTable>.fromOpaque($0).takeUnretainedValue() }
    }

    /// The first one, or that of a forked child: the parent's is left as it is, for its locks may be held for ever, and
    /// its connections are shared with the parent.
    private static func make(instead old: UInt) -> HandleTable {
        let fresh = HandleTable(forks: table(at: old).map { $0.forks + 1 } ?? 0)
        let address = UInt(bitPattern: Unmanaged.passRetained(fresh).toOpaque())
        let outcome = current.compareExchange(expected: old, desired: address, ordering: .acquiringAndReleasing)
        if outcome.exchanged { return fresh }
        Unmanaged.passUnretained(fresh).release()
        return table(at: outcome.original) ?? fresh
    }

    // MARK: Entries

    /// Gives the object a handle. Throws `.noResources` when there are too many.
    public func add(_ object: HandleObject) throws(AisError) {
        let handle = entries.withLock { entries -> UInt64 in
            let index: Int
            if let free = entries.free.popLast() {
                index = free
            } else {
                guard entries.all.count < 1 << Int(Self.indexBits) else { return 0 }
                index = entries.all.count
                entries.all.append(Entry())
            }
            let generation = (entries.all[index].generation + 1) & 0xffff_ffff
            entries.all[index].generation = generation
            entries.all[index].object = object
            let handle = UInt64(index) | object.kind << Self.indexBits | forks << 24 | generation << 32
            object.handle = handle
            return handle
        }
        if handle == 0 { throw .noResources }
    }

    /// Takes the handle away; false when it was none any more: somebody else was faster.
    @discardableResult
    public func remove(_ object: HandleObject) -> Bool {
        let index = Int(object.handle & (1 << Self.indexBits - 1))
        let gone = entries.withLock { entries -> HandleObject? in
            guard index < entries.all.count, entries.all[index].object === object else { return nil }
            entries.all[index].object = nil
            entries.free.append(index)
            return object
        }
        return gone != nil
    }

    /// Throws `.badHandle` for what is none, or none of this kind, or another process's.
    @inline(__always)
    public static func find(_ handle: UInt64, kind: UInt64) throws(AisError) -> HandleObject {
        try shared.find(handle, kind)
    }

    @inline(__always)
    private func find(_ handle: UInt64, _ kind: UInt64) throws(AisError) -> HandleObject {
        let index = Int(handle & (1 << Self.indexBits - 1))
        guard handle >> Self.indexBits & 0xfff == kind | forks << 4 else { throw .badHandle }
        let object = entries.withLock { entries -> HandleObject? in
            guard index < entries.all.count, entries.all[index].generation == handle >> 32 else { return nil }
            return entries.all[index].object
        }
        guard let object else { throw .badHandle }
        return object
    }
}
