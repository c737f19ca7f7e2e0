import OSAL
import SAFTypes
import Synchronization

/// The table of living children in a RAM file: written before and after every spawn, read by the next amfd.
///
/// A kill between any two instructions leaves every slot free, intended or running, never half. Only amfd writes
/// (mode 0600, one amfd per run directory by its lock); the guard reads it to end what a hung amfd leaves behind.
public final class ChildrenTable {
    /// Processes one node can hold at a time; a slot is 320 octets.
    public static let slotsMax = 1_000
    static let magic: UInt64 = 0x3144_4C48_4346_4153  // "SAFCHLD1"
    static let headerSize = 64
    public static let fileSize = headerSize + slotsMax * ChildRecord.size

    private let memory: UnsafeMutableRawBufferPointer
    private let owner: AnyObject?
    private var slots: [UInt64: Int] = [:]  // nonce → slot; looked up by key only
    private var free: [Int] = []
    /// Slots that held something unreadable when the table was opened; they were cleared.
    public private(set) var damagedSlots = 0

    /// Takes over `memory` (of ``fileSize`` octets, kept alive by `owner`) with whatever an earlier life left in it.
    /// Memory of another version or of zeros becomes an empty table.
    public init(memory: UnsafeMutableRawBufferPointer, owner: AnyObject? = nil) {
        self.memory = memory
        self.owner = owner
        if memory.loadUnaligned(as: UInt64.self) != Self.magic {
            memory.initializeMemory(as: UInt8.self, repeating: 0)
            memory.storeBytes(of: Self.magic, as: UInt64.self)
        }
        for slot in (0..<Self.slotsMax).reversed() {
            switch Self.read(slot, in: UnsafeRawBufferPointer(memory)) {
            case .success(nil): free.append(slot)
            case .success(let record?): slots[record.nonce] = slot
            case .failure:
                damagedSlots += 1
                publish(.free, slot)
                free.append(slot)
            }
        }
    }

    /// What the table holds, by component name, then nonce.
    public var records: [ChildRecord] { Self.records(in: UnsafeRawBufferPointer(memory)) }

    /// What a table, possibly written by another process at this moment, holds. Unreadable slots are left out.
    public static func records(in memory: UnsafeRawBufferPointer) -> [ChildRecord] {
        guard memory.count >= fileSize, memory.loadUnaligned(as: UInt64.self) == magic else { return [] }
        var found: [ChildRecord] = []
        for slot in 0..<slotsMax {
            if case .success(let record?) = read(slot, in: memory) { found.append(record) }
        }
        return found.sorted { ($0.component, $0.nonce) < ($1.component, $1.nonce) }
    }

    /// Notes that `record` is about to be spawned. False when the table is full: then it must not be spawned.
    public func intend(_ record: ChildRecord) -> Bool {
        guard slots[record.nonce] == nil, let slot = free.popLast() else { return false }
        slots[record.nonce] = slot
        record.encodeFixed(into: bytes(slot), checksum: Self.checksum)
        publish(.intended, slot)
        return true
    }

    /// Notes the process that an intention became.
    public func running(_ nonce: UInt64, pid: Int32, startTime: UInt64) {
        guard let slot = slots[nonce] else { return }
        let target = bytes(slot)
        target.storeBytes(of: pid.littleEndian, toByteOffset: 4, as: Int32.self)
        target.storeBytes(of: startTime.littleEndian, toByteOffset: 8, as: UInt64.self)
        publish(.running, slot)
    }

    /// Forgets a child: it is dead and reaped, or was never started.
    public func forget(_ nonce: UInt64) {
        guard let slot = slots.removeValue(forKey: nonce) else { return }
        publish(.free, slot)
        free.append(slot)
    }

    private func bytes(_ slot: Int) -> UnsafeMutableRawBufferPointer {
        let start = Self.headerSize + slot * ChildRecord.size
        return UnsafeMutableRawBufferPointer(rebasing: memory[start..<(start + ChildRecord.size)])
    }

    private func publish(_ state: ChildRecord.SlotState, _ slot: Int) {
        let word = bytes(slot).baseAddress!.bindMemory(to: Atomic<UInt32>.self, capacity: 1)  // a slot is never empty
        word.pointee.store(state.rawValue.littleEndian, ordering: .releasing)
    }

    private static func read(_ slot: Int, in memory: UnsafeRawBufferPointer) -> Result<ChildRecord?, DecodeError> {
        let start = headerSize + slot * ChildRecord.size
        do throws(DecodeError) {
            return .success(
                try ChildRecord.decode(
                    UnsafeRawBufferPointer(rebasing: memory[start..<(start + ChildRecord.size)]), checksum: checksum))
        } catch {
            return .failure(error)
        }
    }

    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { crc32c(bytes) }
}
