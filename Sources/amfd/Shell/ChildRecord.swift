import SAFTypes

/// What amfd must remember about one process it started, so that its next life can adopt it.
public struct ChildRecord: Hashable, Sendable {
    /// What the process is for the component.
    public enum Kind: UInt16, Sendable {
        case component = 0
        /// A clean-up command: not adopted, but ended and started again.
        case cleanup = 1
    }

    /// The component's DN.
    public var component: SaName
    /// Which of the component's process lives this is; see InstanceNumber.
    public var instance: UInt32
    /// Chosen afresh for every spawn and put into the child's environment (`SAF_INSTANTIATION`), so that a process
    /// whose pid was never written down (amfd killed between spawn and note) can still be found and ended.
    public var nonce: UInt64
    public var kind: Kind
    /// 0 while the process is only intended.
    public var pid: Int32
    /// Start time in clock ticks since boot; with the pid it names a process for good. Source: proc(5), stat field 22.
    public var startTime: UInt64
    /// Inode numbers of the output pipes, by which a restarted amfd recognises them behind /proc/PID/fd; 0 is none.
    public var outputPipe: UInt64
    public var errorPipe: UInt64
    /// Wall clock at the spawn, nanoseconds since 1970 UTC; for uptime in the status.
    public var startedAt: SaTime

    public init(
        component: SaName, instance: UInt32, nonce: UInt64, kind: Kind = .component, pid: Int32 = 0,
        startTime: UInt64 = 0, outputPipe: UInt64 = 0, errorPipe: UInt64 = 0, startedAt: SaTime = 0
    ) {
        self.component = component
        self.instance = instance
        self.nonce = nonce
        self.kind = kind
        self.pid = pid
        self.startTime = startTime
        self.outputPipe = outputPipe
        self.errorPipe = errorPipe
        self.startedAt = startedAt
    }
}

/// Layout, little-endian, `ChildRecord.size` octets a slot:
/// state u32 · pid i32 · startTime u64 · check u32 · nameLength u16 · kind u16 · instance u32 · nonce u64 ·
/// outputPipe u64 · errorPipe u64 · startedAt i64 · name[256] · zeros.
///
/// `check` is CRC-32C over everything after it. State, pid and start time stand outside: they change after the rest is
/// published. Stores of a killed process take effect in program order, so the state word, stored last, decides.
extension ChildRecord {
    public static let size = 320
    public enum SlotState: UInt32, Sendable {
        case free = 0
        /// The spawn was about to happen; whether it did is not known.
        case intended = 1
        case running = 2
    }

    static let checkOffset = 16
    static let fixedOffset = 20

    /// Everything but the state, pid and start time.
    func encodeFixed(into slot: UnsafeMutableRawBufferPointer, checksum: (UnsafeRawBufferPointer) -> UInt32) {
        var writer = ByteWriter(reserving: Self.size - Self.fixedOffset)
        writer.integer(UInt16(component.bytes.count))
        writer.integer(kind.rawValue)
        writer.integer(instance)
        writer.integer(nonce)
        writer.integer(outputPipe)
        writer.integer(errorPipe)
        writer.integer(startedAt)
        writer.raw(component.bytes)
        let target = UnsafeMutableRawBufferPointer(rebasing: slot[Self.fixedOffset..<Self.size])
        for index in 0..<target.count { target[index] = index < writer.count ? writer.bytes[index] : 0 }
        slot.storeBytes(
            of: checksum(UnsafeRawBufferPointer(target)).littleEndian, toByteOffset: Self.checkOffset, as: UInt32.self)
    }

    /// Nil for a free slot; throws when the slot holds what no amfd wrote.
    static func decode(
        _ slot: UnsafeRawBufferPointer, checksum: (UnsafeRawBufferPointer) -> UInt32
    ) throws(DecodeError) -> ChildRecord? {
        var reader = ByteReader(slot)
        let rawState = try reader.integer(UInt32.self)
        guard let state = SlotState(rawValue: rawState) else {
            throw .badValue("child state \(rawState); 0 to 2 expected")
        }
        guard state != .free else { return nil }
        let pid = try reader.integer(Int32.self)
        let startTime = try reader.integer(UInt64.self)
        let check = try reader.integer(UInt32.self)
        let body = UnsafeRawBufferPointer(rebasing: slot[fixedOffset..<min(size, slot.count)])
        guard checksum(body) == check else { throw .badValue("child record with a wrong checksum") }
        let nameLength = Int(try reader.integer(UInt16.self))
        let rawKind = try reader.integer(UInt16.self)
        guard let kind = Kind(rawValue: rawKind) else { throw .badValue("child kind \(rawKind); 0 or 1 expected") }
        let instance: UInt32 = try reader.integer()
        let nonce: UInt64 = try reader.integer()
        let outputPipe: UInt64 = try reader.integer()
        let errorPipe: UInt64 = try reader.integer()
        let startedAt: SaTime = try reader.integer()
        guard let name = SaName(try reader.raw(nameLength)) else {
            throw .badValue("child name of \(nameLength) octets")
        }
        var record = ChildRecord(
            component: name, instance: instance, nonce: nonce, kind: kind, outputPipe: outputPipe, errorPipe: errorPipe,
            startedAt: startedAt)
        if state == .running {
            guard pid > 0 else { throw .badValue("child pid \(pid)") }
            record.pid = pid
            record.startTime = startTime
        }
        return record
    }
}
