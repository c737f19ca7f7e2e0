public import SAFTypes

/// What `saf config compile` writes and amfd reads: the cluster, and the model of the applications.
///
/// The model is bytes here: its room is amfd's Protocol. Absent when only the model is wrong; the node then still knows
/// whom it belongs to.
public struct CompiledConfiguration: Hashable, Sendable {
    static let magic: UInt32 = 0x5346_4343
    public static let version: UInt16 = 1

    public var cluster: ClusterDescription
    public var model: [UInt8]?

    public init(cluster: ClusterDescription, model: [UInt8]?) {
        self.cluster = cluster
        self.model = model
    }
}

/// magic u32 · version u16 · cluster · model present u8 · model.
extension CompiledConfiguration: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.magic)
        writer.integer(Self.version)
        writer.value(cluster)
        writer.bool(model != nil)
        writer.byteString(model ?? [])
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        guard try reader.integer(UInt32.self) == Self.magic else { throw .badValue("no compiled configuration") }
        let version = try reader.integer(UInt16.self)
        guard version == Self.version else {
            throw .badValue("a compiled configuration of version \(version); \(Self.version) expected")
        }
        cluster = try reader.value()
        let hasModel = try reader.bool()
        let bytes = try reader.byteString()
        if !hasModel, !bytes.isEmpty { throw .badValue("a model that is marked as absent") }
        model = hasModel ? bytes : nil
    }
}
