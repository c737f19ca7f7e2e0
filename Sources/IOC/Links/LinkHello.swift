import SAFTypes

/// Dialer → acceptor, the first frame's body.
///
/// versionMin u8 · versionMax u8 · messages min u8 · messages max u8 · service u32 · node u32 · meant u32 ·
/// incarnation u64 · cluster (u32 · UTF-8). Versions of the frames; of what the service says in them: 0 and 0 stand for
/// the first version, as the builds wrote that had no other.
public struct LinkHello: Equatable, Sendable {
    /// Longest cluster name, in bytes.
    public static let clusterBytesMax = 255
    /// Longest encoded hello; before it nobody is owed more memory.
    static let bytesMax = 28 + clusterBytesMax

    public var versionMin: UInt8
    public var versionMax: UInt8
    /// Of what the dialer's service says in the frames.
    public var messages: ClosedRange<UInt8>
    /// The service on both sides.
    public var service: UInt32
    /// Who dials.
    public var node: NodeID
    /// Whom the dialer means.
    public var meant: NodeID
    /// This life of the dialer's daemon.
    public var incarnation: UInt64
    public var cluster: String

    public init(
        versionMin: UInt8 = LinkHeader.versions.lowerBound, versionMax: UInt8 = LinkHeader.versions.upperBound,
        messages: ClosedRange<UInt8> = 1...1, service: UInt32, node: NodeID, meant: NodeID, incarnation: UInt64,
        cluster: String
    ) {
        self.versionMin = versionMin
        self.versionMax = versionMax
        self.messages = messages
        self.service = service
        self.node = node
        self.meant = meant
        self.incarnation = incarnation
        self.cluster = cluster
    }
}

extension LinkHello: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(versionMin)
        writer.integer(versionMax)
        writer.integer(messages == 1...1 ? 0 : messages.lowerBound)
        writer.integer(messages == 1...1 ? 0 : messages.upperBound)
        writer.integer(service)
        writer.value(node)
        writer.value(meant)
        writer.integer(incarnation)
        writer.string(cluster)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        versionMin = try reader.integer()
        versionMax = try reader.integer()
        let (low, high) = (try reader.integer(UInt8.self), try reader.integer(UInt8.self))
        guard low <= high, low > 0 || high == 0, (low, high) != (1, 1) else {
            throw .badValue("versions \(low) to \(high) of messages")
        }
        messages = high == 0 ? 1...1 : low...high
        service = try reader.integer()
        node = try reader.value()
        meant = try reader.value()
        incarnation = try reader.integer()
        cluster = try reader.string(max: Self.clusterBytesMax)
        guard versionMin <= versionMax else { throw .badValue("versions \(versionMin) to \(versionMax)") }
        guard node.rawValue != 0 else { throw .badValue("node 0; a node's number expected") }
    }
}

/// Acceptor → dialer: the link stands.
///
/// version u8 · of messages u8 (0: the first) · 0 u8 × 2 · node u32 · incarnation u64 · largest body u64
public struct LinkWelcome: Equatable, Sendable {
    public var version: UInt8
    /// In which both services speak on this link: the newest that both know.
    public var messages: UInt8
    public var node: NodeID
    /// This life of the acceptor's daemon; another one remembers no requests.
    public var incarnation: UInt64
    public var bodyMax: UInt64

    public init(
        version: UInt8 = LinkHeader.version, messages: UInt8 = 1, node: NodeID, incarnation: UInt64, bodyMax: UInt64
    ) {
        self.version = version
        self.messages = messages
        self.node = node
        self.incarnation = incarnation
        self.bodyMax = bodyMax
    }
}

extension LinkWelcome: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(version)
        writer.integer(messages == 1 ? 0 : messages)
        writer.integer(UInt16(0))
        writer.value(node)
        writer.integer(incarnation)
        writer.integer(bodyMax)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        version = try reader.integer()
        let messages = try reader.integer(UInt8.self)
        guard messages != 1 else { throw .badValue("version 1 of messages is written as 0") }
        self.messages = max(messages, 1)
        guard try reader.integer(UInt16.self) == 0 else { throw .badValue("reserved bytes of a welcome are not 0") }
        node = try reader.value()
        incarnation = try reader.integer()
        bodyMax = try reader.integer()
    }
}
