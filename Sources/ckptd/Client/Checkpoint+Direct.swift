import CkptLayout
import SAFTypes
import Synchronization

/// Whether an open checkpoint's sections may be written without ckptd, one day.
struct DirectHope: ~Copyable {
    /// So many writes through ckptd come first: who writes once does not map anything.
    private static let patience = 2
    private static let hopeless = Int.max / 2
    private let writes = Atomic(0)

    /// It is worth trying.
    var isAlive: Bool {
        let writes = writes.load(ordering: .relaxed)
        return writes >= Self.patience && writes < Self.hopeless
    }

    func wrote() { writes.wrappingAdd(1, ordering: .relaxed) }
    /// The checkpoint is not of that kind, or was not opened for it.
    func end() { writes.store(Self.hopeless, ordering: .relaxed) }
    func begin() { writes.store(0, ordering: .relaxed) }
}

// Writes that make no system call: of a section that ckptd has left to its writers. See the README beside Layout.
extension Checkpoint {
    /// The change number, or nil when ckptd must be asked.
    @inline(__always)
    func writeDirect(
        _ id: UnsafeRawBufferPointer, at offset: Int, _ data: UnsafeRawBufferPointer, replaces: Bool
    ) -> UInt64? {
        guard directHope.isAlive else {
            directHope.wrote()
            return nil
        }
        return withMapped { replica in
            if replica.owner == 0 { directHope.end() }
            return replica.write(id, at: offset, data, replaces: replaces)
        }
    }
}
