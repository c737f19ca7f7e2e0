public import SAFTypes

/// What a machine needs to become one node of a cluster: `saf cluster invite` writes it, `saf cluster join` installs
/// it.
///
/// Holds keys: only root may read the file. It is for one node; another name is refused.
public struct ClusterBundle: Hashable, Sendable {
    public static let fileSuffix = ".safjoin"
    static let magic: UInt32 = 0x5346_4A4E
    static let version: UInt16 = 1
    /// Of the whole file.
    public static let bytesMax = 4 << 20

    public var node: String
    public var clusterFile: String
    public var corosyncKey: [UInt8]
    /// Empty with `linkSecurity: none`.
    public var authority: [UInt8]
    public var certificate: [UInt8]
    public var key: [UInt8]

    public init(
        node: String, clusterFile: String, corosyncKey: [UInt8], authority: [UInt8] = [], certificate: [UInt8] = [],
        key: [UInt8] = []
    ) {
        self.node = node
        self.clusterFile = clusterFile
        self.corosyncKey = corosyncKey
        self.authority = authority
        self.certificate = certificate
        self.key = key
    }
}

/// magic u32 · version u16 · node · cluster.yaml · corosync key · authority · certificate · key.
extension ClusterBundle: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.magic)
        writer.integer(Self.version)
        writer.string(node)
        writer.string(clusterFile)
        for bytes in [corosyncKey, authority, certificate, key] { writer.byteString(bytes) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        guard try reader.integer(UInt32.self) == Self.magic else { throw .badValue("no invitation to a cluster") }
        let version = try reader.integer(UInt16.self)
        guard version == Self.version else {
            throw .badValue("an invitation of version \(version); \(Self.version) expected")
        }
        node = try reader.string(max: SaName.lengthMax)
        clusterFile = try reader.string(max: 1 << 20)
        corosyncKey = try reader.byteString(max: 4_096)
        authority = try reader.byteString(max: 1 << 20)
        certificate = try reader.byteString(max: 1 << 20)
        key = try reader.byteString(max: 1 << 20)
    }
}
