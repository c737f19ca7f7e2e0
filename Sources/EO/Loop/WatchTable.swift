import OSAL
import SAFTypes

/// The descriptors of a loop. A slot's generation makes events of an earlier tenant harmless.
struct WatchTable {
    private struct Entry {
        var generation: UInt32 = 0
        var fd: Int32 = -1
        var lane = Lane.normal
        var handler: ((PollEvent) -> Void)?
    }

    private var entries: [Entry] = []
    private var free: [Int] = []

    static func token(_ id: WatchID) -> UInt64 { UInt64(id.generation) << 32 | UInt64(id.index) }

    mutating func insert(fd: Int32, lane: Lane, _ handler: @escaping (PollEvent) -> Void) -> WatchID {
        let index: Int
        if let reused = free.popLast() {
            index = reused
        } else {
            index = entries.count
            entries.append(Entry())
        }
        entries[index].fd = fd
        entries[index].lane = lane
        entries[index].handler = handler
        return WatchID(index: index, generation: entries[index].generation)
    }

    /// The descriptor that was watched, or nil when the watch is gone.
    @discardableResult
    mutating func remove(_ id: WatchID) -> Int32? {
        guard let fd = descriptor(id) else { return nil }
        entries[id.index].handler = nil
        entries[id.index].generation &+= 1
        free.append(id.index)
        return fd
    }

    func descriptor(_ id: WatchID) -> Int32? {
        guard id.index < entries.count, entries[id.index].generation == id.generation, entries[id.index].handler != nil
        else { return nil }
        return entries[id.index].fd
    }

    func handler(_ token: UInt64) -> ((PollEvent) -> Void)? {
        let index = Int(token & 0xffff_ffff)
        guard index < entries.count, entries[index].generation == UInt32(token >> 32) else { return nil }
        return entries[index].handler
    }

    func lane(_ token: UInt64) -> Lane? {
        let index = Int(token & 0xffff_ffff)
        guard index < entries.count, entries[index].generation == UInt32(token >> 32) else { return nil }
        return entries[index].lane
    }
}
