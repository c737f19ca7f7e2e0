package import DBAL
package import OSAL
internal import SAFTypes

/// How a library checkpoint lies in its database.
///
/// 0: form · 1 · length of the name u8 · name: the data set's value · 2 · length u8 · name · key: an element. A value:
/// checksum u32 (CRC-32C of key, version and bytes) · version u32 · what the serializer wrote.
package enum LibraryRecord {
    /// Of a data set's name.
    package static let nameBytesMax = 255
    /// Of an element's key.
    package static let keyBytesMax = 2_048
    /// What a serializer may write.
    package static let contentBytesMax = DatabaseLimits.valueBytesMax - headBytes

    static let formKey: [UInt8] = [0]
    static let form = Array(("SwiftSAF library checkpoint 1" as SystemString).utf8)
    private static let headBytes = 8

    private static func named(_ kind: UInt8, _ name: SystemString) -> [UInt8] {
        let bytes = Array(name.utf8)
        return [kind, UInt8(truncatingIfNeeded: bytes.count)] + bytes  // not longer: see nameBytesMax
    }

    /// Of a data set's own value, or of one of its elements.
    package static func key(_ name: SystemString, element: [UInt8]? = nil) -> [UInt8] {
        guard let element else { return named(1, name) }
        return elements(name) + element
    }

    /// What the keys of all elements begin with.
    static func elements(_ name: SystemString) -> [UInt8] { named(2, name) }

    /// The change that writes the content.
    package static func put(_ key: [UInt8], version: UInt32, _ content: UnsafeRawBufferPointer) -> DatabaseChange {
        var writer = ByteWriter(reserving: headBytes + content.count)
        writer.integer(UInt32(0))
        writer.integer(version)
        writer.raw(content)
        writer.patch(checksum(key, writer.bytes), at: 0)
        return .put(key: key, value: writer.bytes)
    }

    private static func checksum(_ key: [UInt8], _ value: [UInt8]) -> UInt32 {
        let ofKey = key.withUnsafeBytes { crc32c($0) }
        return value.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[4...]), seed: ofKey) }
    }

    /// Nil when it is not what was written.
    static func content(_ record: DatabaseRecord) -> (version: UInt32, bytes: ArraySlice<UInt8>)? {
        guard record.value.count >= headBytes else { return nil }
        let (stored, version) = record.value.withUnsafeBytes { raw in
            (
                UInt32(littleEndian: raw.loadUnaligned(as: UInt32.self)),
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            )
        }
        guard stored == checksum(record.key, record.value) else { return nil }
        return (version, record.value[headBytes...])
    }
}
