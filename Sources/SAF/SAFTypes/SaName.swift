/// A SAF name: 1 to 256 octets, compared byte by byte. Names are bytes, not text: any octet is legal.
///
/// Source: SAI-Overview-B.02.01 §3.3.9; SaNameT in saAis.h.
public struct SaName: Hashable, Sendable {
    public static let lengthMax = 256

    public let bytes: [UInt8]

    /// Nil when `bytes` is empty or longer than ``lengthMax``.
    public init?(_ bytes: [UInt8]) {
        guard !bytes.isEmpty, bytes.count <= Self.lengthMax else { return nil }
        self.bytes = bytes
    }

    /// Nil when `text` is empty or its UTF-8 form is longer than ``lengthMax`` octets.
    public init?(_ text: String) { self.init(Array(text.utf8)) }
}

extension SaName: Comparable {
    public static func < (left: SaName, right: SaName) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }
}

extension SaName: CustomStringConvertible {
    /// The name for people; octets that are not UTF-8 are repaired, so this is not for comparing.
    public var description: String { String(decoding: bytes, as: UTF8.self) }
}

extension SaName: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.byteString(bytes) }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let bytes = try reader.byteString(max: Self.lengthMax)
        guard let name = SaName(bytes) else {
            throw .badValue("name of length 0; 1 to \(Self.lengthMax) octets expected")
        }
        self = name
    }
}
