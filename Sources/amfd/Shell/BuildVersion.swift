import AmfEngine
import EOLoop
import SAFTypes

/// What an amfd tells the others of its build. version text · oldest u16 · newest u16, of the cluster's commands.
struct BuildVersion: Hashable, WireCodable {
    var version: String
    /// Two builds work in one cluster when they have a version of commands in common.
    var spoken: ClosedRange<UInt16>

    static let own = BuildVersion(version: DaemonProgram.version, spoken: ClusterEngine.versions)

    init(version: String, spoken: ClosedRange<UInt16>) { (self.version, self.spoken) = (version, spoken) }

    func encode(to writer: inout ByteWriter) {
        writer.string(version)
        writer.integer(spoken.lowerBound)
        writer.integer(spoken.upperBound)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        version = try reader.string(max: 64)
        let (oldest, newest) = (try reader.integer(UInt16.self), try reader.integer(UInt16.self))
        guard oldest <= newest else { throw .badValue("versions \(oldest) to \(newest)") }
        spoken = oldest...newest
    }
}
