import SAFTypes

/// Client → server, the first datagram.
///
/// versionMin u8 · versionMax u8 · 0 u16 · session 16 bytes · incarnation u64 of the server last spoken to, or 0
public struct Hello: Equatable, Sendable {
    /// That this build speaks; a client that knows some of them is served, older or newer.
    ///
    /// 2: a client may hand over a ``BulkMemory``.
    public static let versions: ClosedRange<UInt8> = 1...2

    public var versionMin: UInt8
    public var versionMax: UInt8
    public var session: SessionID
    public var knownIncarnation: UInt64

    public init(session: SessionID, knownIncarnation: UInt64) {
        versionMin = Self.versions.lowerBound
        versionMax = Self.versions.upperBound
        self.session = session
        self.knownIncarnation = knownIncarnation
    }
}

extension Hello: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(versionMin)
        writer.integer(versionMax)
        writer.integer(UInt16(0))
        writer.value(session)
        writer.integer(knownIncarnation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        versionMin = try reader.integer()
        versionMax = try reader.integer()
        guard try reader.integer(UInt16.self) == 0 else { throw .badValue("reserved bytes of a hello are not 0") }
        session = try reader.value()
        knownIncarnation = try reader.integer()
        guard versionMin <= versionMax else { throw .badValue("versions \(versionMin) to \(versionMax)") }
    }
}

/// Server → client: the connection stands. Descriptors: memory, server's bell, client's bell 1, client's bell 2.
///
/// version u8 · 0 u8 × 3 · layout 4 bytes · incarnation u64 · peer u64 · largest body u64
public struct Welcome: Equatable, Sendable {
    public static let descriptorCount = 4

    public var version: UInt8
    public var layout: RingLayout
    /// This life of the server; another one remembers no requests.
    public var incarnation: UInt64
    public var peer: UInt64
    public var bodyMax: UInt64
}

extension Welcome: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(version)
        writer.integer(UInt8(0))
        writer.integer(UInt16(0))
        writer.value(layout)
        writer.integer(incarnation)
        writer.integer(peer)
        writer.integer(bodyMax)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        version = try reader.integer()
        let reserved = (try reader.integer(UInt8.self), try reader.integer(UInt16.self))
        guard reserved == (0, 0) else { throw .badValue("reserved bytes of a welcome are not 0") }
        layout = try reader.value()
        incarnation = try reader.integer()
        peer = try reader.integer()
        bodyMax = try reader.integer()
        guard Hello.versions.contains(version) else { throw .badValue("version \(version) was not offered") }
        guard bodyMax <= 1 << 40 else { throw .badValue("largest body \(bodyMax)") }
    }
}

/// A set-up datagram: a frame with the body behind it.
enum HandshakeFrame {
    static let sizeMax = 4096

    static func bytes(_ kind: FrameKind, status: UInt32 = 0, descriptors: Int = 0, body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(reserving: FrameHeader.size + body.count)
        writer.value(
            FrameHeader(kind: kind, lane: .control, length: body.count, status: status, descriptors: descriptors))
        writer.raw(body)
        return writer.bytes
    }

    /// The header and the bytes of the body.
    static func decode(_ bytes: UnsafeRawBufferPointer) throws(DecodeError) -> (FrameHeader, UnsafeRawBufferPointer) {
        var reader = ByteReader(bytes)
        let header = try reader.value(FrameHeader.self)
        let body = try reader.view(Int(header.length))
        try reader.finish()
        return (header, body)
    }

    static func refusal(_ error: AisError, _ text: String) -> [UInt8] {
        bytes(.refused, status: error.rawValue, body: Array(text.utf8.prefix(sizeMax - FrameHeader.size)))
    }
}
