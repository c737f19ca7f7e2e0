/// The bytes of a log ring: a file `ring.PID.STARTTIME` under `$SAF_SHM_DIR/log`, one per writing process.
///
/// One page of header, then `capacity` bytes of records. Positions count bytes since the ring was made and never
/// wrap; a position modulo `capacity` is a place. Bytes between `consumed` and `reserved` belong to writers; all
/// others are zero. Everything a writer can write is hostile input to logd.
public enum RingLayout {
    public static let magic: UInt64 = 0x3152_474F_4C46_4153  // "SAFLOGR1" read as a little-endian word
    public static let headerBytes = 4096
    public static let capacityDefault = 1 << 20
    public static let capacityMin = 1 << 14
    public static let capacityMax = 1 << 26

    // Written once, before the file gets its name.
    public static let magicOffset = 0
    /// u32: bytes of records, a power of two.
    public static let capacityOffset = 8
    /// u32: bit 0: lines carry no time stamp (`CL_LOG_TIME_ENABLE=0` in the writer).
    public static let flagsOffset = 12
    /// u32, then at +8 u64: who writes.
    public static let processOffset = 16
    public static let startTimeOffset = 24
    /// length u8 · bytes: the program's name, then the node's.
    public static let programOffset = 64
    public static let nodeOffset = 320
    public static let nameBytesMax = 255

    // Words that change; each group has a cache line (or two) of its own.
    /// u64: where the next record will be reserved. Advanced by writers, compare and swap.
    public static let reservedOffset = 1024
    /// u32 beside it: the next record's number.
    public static let sequenceOffset = 1032
    /// u64: everything before it is in the log file (or skipped) and zeroed. Advanced by logd.
    public static let consumedOffset = 1152
    /// u32: records dropped since the last one that fitted.
    public static let lostOffset = 1280
    /// u64: records dropped in all.
    public static let lostTotalOffset = 1288

    public static let flagNoTime: UInt32 = 1

    /// The first position. Not zero, so that zeroed memory is never a valid stamp.
    public static func firstPosition(capacity: Int) -> UInt64 { UInt64(capacity) }

    /// `ring.PID.STARTTIME`
    public static func fileName(process: Int32, startTime: UInt64) -> String { "ring.\(process).\(startTime)" }

    /// Nil when `name` is no ring's.
    public static func parse(fileName name: String) -> (process: Int32, startTime: UInt64)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "ring", let process = Int32(parts[1]), process > 0,
            let startTime = UInt64(parts[2])
        else { return nil }
        return (process, startTime)
    }
}

/// The page `$SAF_SHM_DIR/log/doorbell`, with which a writer wakes a sleeping logd. All zero is a valid page.
public enum DoorbellLayout {
    public static let fileName = "doorbell"
    public static let bytes = 4096
    /// u32 futex: one of ``Bell``.
    public static let stateOffset = 0
    /// u32: counts the rings made, so that logd knows when to look at the directory.
    public static let ringsOffset = 64
}

/// What logd last said of itself in the doorbell page.
public enum Bell {
    /// Draining, or not there: nobody needs to be woken.
    public static let awake: UInt32 = 0
    /// Sleeps a few milliseconds and then looks by itself; woken only for a ring that is half full.
    public static let lingering: UInt32 = 1
    /// Sleeps until it is woken.
    public static let asleep: UInt32 = 2
}

/// The page `$SAF_SHM_DIR/log/filter`, which changes severities at run time. Written by logd, read-only to all others.
///
/// `word` u64 at 8 is all a writer loads per record: bits 0…7 the threshold of the system stream, bits 8…15 that of
/// the application stream (0: the writer's own `CL_LOG_SEVERITY`), bits 32…63 a generation. While it changes, rule
/// text and length (at 64, u32) may be torn: a reader checks the generation again after copying. At the end of the page
/// stands a u16 for each number of a stream: its ``SeveritySet``, of use for global streams; 0: everything passes.
public enum FilterLayout {
    public static let fileName = "filter"
    public static let bytes = 64 * 1024
    public static let magic: UInt64 = 0x3146_474F_4C46_4153  // "SAFLOGF1"
    public static let magicOffset = 0
    public static let wordOffset = 8
    public static let ruleLengthOffset = 64
    public static let ruleTextOffset = 128
    public static let severitiesOffset = bytes - 512
    public static let ruleBytesMax = severitiesOffset - ruleTextOffset
}

/// The one word of the filter page.
public struct FilterWord: Hashable, Sendable {
    public var raw: UInt64
    public init(raw: UInt64) { self.raw = raw }

    public init(system: LogSeverity?, application: LogSeverity?, generation: UInt32) {
        raw =
            UInt64(system?.rawValue ?? 0) | UInt64(application?.rawValue ?? 0) << 8 | UInt64(generation) << 32
    }

    public var generation: UInt32 { UInt32(truncatingIfNeeded: raw >> 32) }

    /// The threshold set for `stream`, nil when there is none (or it is nonsense).
    public func threshold(of stream: LogStream) -> LogSeverity? {
        LogSeverity(rawValue: UInt8(truncatingIfNeeded: stream == .system ? raw : raw >> 8))
    }
}
