public import SAFTypes

/// How values are written and read in one version of their form.
///
/// Source: SAFplus clCkptLibraryCkptDataSetVersionCreate().
/// A version, once data was written in it, stays what it is; what changes gets a new one.
public struct Serializer<Value>: Sendable {
    public let version: UInt32
    let encode: @Sendable (Value) throws -> [UInt8]
    let decode: @Sendable ([UInt8]) throws -> Value

    /// - Parameters:
    ///   - encode: what it throws is the error of the write; nothing is written then.
    ///   - decode: must throw for bytes that it has not written; called with exactly what was written in this version.
    public init(
        version: UInt32, encode: @escaping @Sendable (Value) throws -> [UInt8],
        decode: @escaping @Sendable ([UInt8]) throws -> Value
    ) {
        self.version = version
        self.encode = encode
        self.decode = decode
    }
}

extension Serializer where Value == [UInt8] {
    /// The bytes as they are.
    public static func bytes(version: UInt32 = 1) -> Serializer {
        Serializer(version: version, encode: { $0 }, decode: { $0 })
    }
}

extension Serializer where Value: WireCodable & SendableMetatype {
    /// In the wire form of the type.
    public static func wire(version: UInt32) -> Serializer {
        Serializer(
            version: version,
            encode: { value in
                var writer = ByteWriter()
                writer.value(value)
                return writer.bytes
            },
            decode: { try Value(decoding: $0) })
    }
}

/// A named part of a library checkpoint: one value, and any number of *elements*, which are values under keys; all of
/// one type, in any of the versions that its serializers know.
///
/// The newest version is written, if not another is asked for; whatever version was written is read by its serializer.
public struct DataSet<Value>: Sendable {
    public static var nameBytesMax: Int { LibraryRecord.nameBytesMax }

    public let name: String
    /// Ascending by version, at least one.
    let serializers: [Serializer<Value>]

    /// - Throws: `.invalid` for an empty name or one of more than ``nameBytesMax`` bytes, or for two serializers of one
    ///   version.
    public init(
        _ name: String, _ first: Serializer<Value>, _ others: Serializer<Value>...
    ) throws(LibraryCheckpointError) {
        guard (1...Self.nameBytesMax).contains(name.utf8.count) else {
            throw LibraryCheckpointError(
                .invalid, "a data set's name of \(name.utf8.count) bytes; 1 to \(Self.nameBytesMax) expected")
        }
        let all = ([first] + others).sorted { $0.version < $1.version }
        for (left, right) in zip(all, all.dropFirst()) where left.version == right.version {
            throw LibraryCheckpointError(.invalid, "data set \(name) has two serializers of version \(left.version)")
        }
        self.name = name
        serializers = all
    }

    /// Ascending.
    public var versions: [UInt32] { serializers.map(\.version) }

    func serializer(_ version: UInt32?) throws(LibraryCheckpointError) -> Serializer<Value> {
        guard let found = serializers.last(where: { version == nil || $0.version == version }) else {
            throw unknown(version ?? 0, "has no serializer of version")
        }
        return found
    }

    func unknown(_ version: UInt32, _ what: String) -> LibraryCheckpointError {
        let known = versions.map { String($0) }.joined(separator: ", ")
        return LibraryCheckpointError(
            .unknownVersion, "data set \(name) \(what) \(version); this program knows \(known)")
    }
}
