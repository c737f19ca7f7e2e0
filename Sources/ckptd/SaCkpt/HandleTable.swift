import OSAL
import SAFTypes
import Synchronization

enum HandleKind: UInt64 {
    case client = 1
    case checkpoint
    case iteration
}

/// What a handle stands for.
class HandleObject: @unchecked Sendable {
    final let kind: HandleKind
    /// Its number, set once when it enters the table.
    final fileprivate(set) var handle: UInt64 = 0

    init(_ kind: HandleKind) { self.kind = kind }
}

/// All handles of the process. A handle is an index with a kind, a generation, so that a closed one is never taken for
/// one that came after it, and the number of forks that made this process, so that a child does not take its parent's
/// for its own.
///
///     0..19 index · 20..23 kind · 24..31 forks · 32..63 generation
final class HandleTable: @unchecked Sendable {
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

    static var shared: HandleTable {
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
    func add(_ object: HandleObject) throws(AisError) {
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
            let handle = UInt64(index) | object.kind.rawValue << Self.indexBits | forks << 24 | generation << 32
            object.handle = handle
            return handle
        }
        if handle == 0 { throw .noResources }
    }

    /// Takes the handle away; false when it was none any more: somebody else was faster.
    @discardableResult
    func remove(_ object: HandleObject) -> Bool {
        let index = Int(object.handle & (1 << Self.indexBits - 1))
        let gone = entries.withLock { entries -> HandleObject? in
            guard index < entries.all.count, entries.all[index].object === object else { return nil }
            entries.all[index].object = nil
            entries.free.append(index)
            return object
        }
        return gone != nil
    }

    @inline(__always)
    private func find(_ handle: UInt64, _ kind: HandleKind) throws(AisError) -> HandleObject {
        let index = Int(handle & (1 << Self.indexBits - 1))
        guard handle >> Self.indexBits & 0xfff == kind.rawValue | forks << 4 else { throw .badHandle }
        let object = entries.withLock { entries -> HandleObject? in
            guard index < entries.all.count, entries.all[index].generation == handle >> 32 else { return nil }
            return entries.all[index].object
        }
        guard let object else { throw .badHandle }
        return object
    }

    // The kind was compared, so each cast is to what the object is.
    static func client(_ handle: UInt64) throws(AisError) -> Client {
        unsafeDowncast(try shared.find(handle, .client), to: Client.self)
    }

    static func checkpoint(_ handle: UInt64) throws(AisError) -> OpenCheckpoint {
        unsafeDowncast(try shared.find(handle, .checkpoint), to: OpenCheckpoint.self)
    }

    static func iteration(_ handle: UInt64) throws(AisError) -> Iteration {
        unsafeDowncast(try shared.find(handle, .iteration), to: Iteration.self)
    }
}
