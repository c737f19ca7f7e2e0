import OSAL
import SAFTypes

/// This node's life and the last view number it knows.
///
/// The run directory's copy tells a restart of clmd (the node never left) from a start of the node (it joins again, as
/// another life). The state directory's copy keeps view numbers growing over reboots.
struct MemberRecord: Hashable, WireCodable {
    private static let version: UInt16 = 2

    /// At least that of the last view this node was told of.
    var viewNumber: UInt64
    /// Of this life of the node: never the same again.
    var incarnation: UInt64
    var bootTimestamp: SaTime

    init(viewNumber: UInt64, incarnation: UInt64, bootTimestamp: SaTime) {
        self.viewNumber = viewNumber
        self.incarnation = incarnation
        self.bootTimestamp = bootTimestamp
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(Self.version)
        writer.integer(viewNumber)
        writer.integer(incarnation)
        writer.integer(bootTimestamp)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard version == Self.version else {
            throw .badValue("member record version \(version); \(Self.version) expected")
        }
        viewNumber = try reader.integer()
        incarnation = try reader.integer()
        bootTimestamp = try reader.integer()
        guard viewNumber < 1 << 62 else { throw .badValue("view \(viewNumber)") }
    }

    /// Reads what is kept, or begins a new life of the node and writes both copies.
    static func load(_ places: Places, note: (String) -> Void) throws(OSError) -> MemberRecord {
        let here = places.runDirectory + "/clmd.member"
        let last = read(kept(places), note)?.viewNumber ?? 0
        if var record = read(here, note) {
            record.viewNumber = max(record.viewNumber, last)
            return record
        }
        let wall = MonotonicClock.wallNanoseconds()
        let boot = wall - SaTime(clamping: MonotonicClock.bootTime().nanoseconds)
        let record = MemberRecord(viewNumber: last, incarnation: UInt64(wall), bootTimestamp: boot)
        // First the one that must never be behind: alone, the node is going to join in the next view.
        try File.makeDirectories(places.stateDirectory)
        var joined = record
        joined.viewNumber += 1
        try joined.keep(places)
        try File.writeAtomically(here, record.encoded, durable: false)
        return record
    }

    private static func kept(_ places: Places) -> String { places.stateDirectory + "/clmd.member" }

    /// Waits for the disk.
    func keep(_ places: Places) throws(OSError) {
        try File.writeAtomically(Self.kept(places), encoded, durable: true)
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
