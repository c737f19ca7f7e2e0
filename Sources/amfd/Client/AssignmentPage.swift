import OSAL
public import SAFTypes
import Synchronization

/// Who is active for what, in a RAM file: written by amfd, read by the services that refuse what comes too late. Only
/// on several nodes. Survives amfd, not the machine.
///
/// What a process becomes active for stands here before the process hears of it. Layout, little-endian: magic u64 ·
/// serial u64 (odd while it is changed) · incarnation u64 · holders u32 · floors u32 · zeros to 64 · holders · floors.
/// A holder: start time u64 · pid i32 · used u32 · assignment u64 · epoch u64. A floor: epoch u64 · length u32 ·
/// 0 u32 · name, 256. Of both only so many have ever been used.
public final class AssignmentPage {
    static let magic: UInt64 = 0x3147_5341_4641_53  // "SAFASG1"
    static let headerSize = 64
    static let holderSize = 32
    static let floorSize = 16 + SaName.lengthMax
    public static let holdersMax = 8_192
    public static let floorsMax = 4_096
    static let floorsStart = headerSize + holdersMax * holderSize
    static let fileSize = floorsStart + floorsMax * floorSize
    /// How often a page that is being changed is looked at again.
    private static let attempts = 3

    private let file: SharedFile
    private let base: UnsafeMutableRawPointer

    public static func path(_ places: Places) -> String { places.shmDirectory + "/amfd/assignments" }

    /// Opens the page to write it, or makes an empty one in the place of none or of another version.
    public static func openOrMake(_ path: String) throws(OSError) -> AssignmentPage {
        if let page = open(path, writable: true) { return page }
        return AssignmentPage(
            try SharedFile.create(path, size: fileSize, mode: 0o600) { mapping in
                mapping.bytes.storeBytes(of: magic.littleEndian, as: UInt64.self)
            })
    }

    /// Nil when there is none that can be read.
    public static func open(_ path: String, writable: Bool = false) -> AssignmentPage? {
        guard let file = try? SharedFile.open(path, writable: writable), file.mapping.count == fileSize,
            UInt64(littleEndian: file.mapping.bytes.load(as: UInt64.self)) == magic
        else { return nil }
        return AssignmentPage(file)
    }

    private init(_ file: SharedFile) {
        self.file = file
        base = file.mapping.base
    }

    // MARK: Reading

    /// Another number: the page has changed.
    public var serial: UInt64 { serialWord.pointee.load(ordering: .acquiring).littleEndian }

    /// What it says, and the serial that this is of; nil while it is being changed.
    public func read() -> (table: AssignmentTable, serial: UInt64)? {
        for _ in 0..<Self.attempts {
            let before = serial
            guard before & 1 == 0 else { continue }
            let table = table()
            atomicMemoryFence(ordering: .acquiring)
            if let table, serial == before { return (table, before) }
        }
        return nil
    }

    /// Nil: not what anybody wrote.
    private func table() -> AssignmentTable? {
        var table = AssignmentTable(incarnation: incarnation)
        for index in 0..<min(count(24), Self.holdersMax) where load(holder(index) + 12, UInt32.self) != 0 {
            table.holders.append(self[index])
        }
        for index in 0..<min(count(28), Self.floorsMax) {
            let start = floor(index)
            let length = Int(load(start + 8, UInt32.self))
            guard length <= SaName.lengthMax,
                let name = SaName(Array(UnsafeRawBufferPointer(start: base + start + 16, count: length)))
            else { return nil }
            table.floors.append(.init(name, epoch: load(start, UInt64.self)))
        }
        return table
    }

    // MARK: Writing

    /// All changes within `body` are seen together.
    public func change(_ body: (AssignmentPage) -> Void) {
        // An amfd that died in the middle has left it odd.
        let odd = serial | 1
        serialWord.pointee.store(odd.littleEndian, ordering: .relaxed)
        atomicMemoryFence(ordering: .releasing)
        body(self)
        serialWord.pointee.store((odd &+ 1).littleEndian, ordering: .releasing)
    }

    public var incarnation: UInt64 {
        get { load(16, UInt64.self) }
        set { store(newValue, 16) }
    }

    /// Nobody is active, and nobody ever was.
    public func clear() {
        store(UInt32(0), 24)
        store(UInt32(0), 28)
    }

    /// One entry; a reader finds it if it is used.
    public subscript(index: Int) -> AssignmentTable.Holder {
        get {
            let start = holder(index)
            return AssignmentTable.Holder(
                pid: load(start + 8, Int32.self), startTime: load(start, UInt64.self),
                held: AssignmentEpoch(
                    assignment: load(start + 16, UInt64.self), epoch: load(start + 24, UInt64.self)))
        }
        set {
            let start = holder(index)
            store(newValue.startTime, start)
            store(newValue.pid, start + 8)
            store(newValue.held.assignment, start + 16)
            store(newValue.held.epoch, start + 24)
            setUsed(index, true)
        }
    }

    public func isUsed(_ index: Int) -> Bool { index < count(24) && load(holder(index) + 12, UInt32.self) != 0 }

    public func setUsed(_ index: Int, _ isUsed: Bool) {
        for unused in count(24)..<max(count(24), index) { store(UInt32(0), holder(unused) + 12) }
        store(UInt32(isUsed ? 1 : 0), holder(index) + 12)
        store(UInt32(max(count(24), index + 1)), 24)
    }

    /// The floor at a place; places are used from 0 on, without gap.
    public func set(_ new: AssignmentTable.Floor, at index: Int) {
        let start = floor(index)
        store(new.epoch, start)
        store(UInt32(new.instance.bytes.count), start + 8)
        new.instance.bytes.withUnsafeBytes { bytes in
            UnsafeMutableRawBufferPointer(start: base + start + 16, count: bytes.count).copyMemory(from: bytes)
        }
        store(UInt32(max(count(28), index + 1)), 28)
    }

    // MARK: Words

    private var serialWord: UnsafeMutablePointer<Atomic<UInt64>> { base.atomic(at: 8) }
    private func count(_ offset: Int) -> Int { Int(load(offset, UInt32.self)) }
    private func holder(_ index: Int) -> Int { Self.headerSize + index * Self.holderSize }
    private func floor(_ index: Int) -> Int { Self.floorsStart + index * Self.floorSize }

    private func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: Value.Type) -> Value {
        Value(littleEndian: base.load(fromByteOffset: offset, as: Value.self))
    }

    private func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ offset: Int) {
        base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
}
