import OSAL
import SAFTypes

/// This node's place in the membership, kept over restarts of clmd.
///
/// The run directory's copy tells a restart of clmd (the node never left: same view) from a start of the node (it left
/// and joins again: the next view). The state directory's copy keeps view numbers growing over reboots.
struct MemberRecord: Hashable, WireCodable {
    private static let version: UInt16 = 1

    var viewNumber: UInt64
    var initialViewNumber: UInt64
    var bootTimestamp: SaTime

    init(viewNumber: UInt64, initialViewNumber: UInt64, bootTimestamp: SaTime) {
        self.viewNumber = viewNumber
        self.initialViewNumber = initialViewNumber
        self.bootTimestamp = bootTimestamp
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(Self.version)
        writer.integer(viewNumber)
        writer.integer(initialViewNumber)
        writer.integer(bootTimestamp)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard version == Self.version else {
            throw .badValue("member record version \(version); \(Self.version) expected")
        }
        viewNumber = try reader.integer()
        initialViewNumber = try reader.integer()
        bootTimestamp = try reader.integer()
    }

    /// Reads what is kept, or joins anew; writes both copies when anything is new.
    static func load(_ places: Places, note: (String) -> Void) throws(OSError) -> MemberRecord {
        let here = places.runDirectory + "/clmd.member"
        let kept = places.stateDirectory + "/clmd.member"
        if let record = read(here, note) { return record }
        let last = read(kept, note)?.viewNumber ?? 0
        let boot = MonotonicClock.wallNanoseconds() - SaTime(clamping: MonotonicClock.bootTime().nanoseconds)
        let record = MemberRecord(viewNumber: last + 1, initialViewNumber: last + 1, bootTimestamp: boot)
        // First the one that must never be behind.
        try File.makeDirectories(places.stateDirectory)
        try File.writeAtomically(kept, record.encoded, durable: true)
        try File.writeAtomically(here, record.encoded, durable: false)
        return record
    }

    private static func read(_ path: String, _ note: (String) -> Void) -> MemberRecord? {
        do {
            return try MemberRecord(decoding: try File.readAll(path, limit: 4_096))
        } catch let error as OSError {
            if !error.isNotFound { note("\(path) cannot be read: \(error)") }
        } catch {
            note("\(path) is damaged and is made anew: \(error)")
        }
        return nil
    }
}
