import SAFTypes

/// A part of a message body, so that data is carried from the frame to the store without a copy in between.
public struct PayloadSlice: Hashable, Sendable {
    public var offset: Int
    public var count: Int
    public init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
    }
    public static let empty = PayloadSlice(offset: 0, count: 0)
}

/// One step of an update; the same form serves requests and the updates told to subscribers.
///
/// kind u8 · id (u16 length · bytes) · offset u64 · expiration i64 · data (u32 length · bytes). Fields that a kind does
/// not use are 0 and refused otherwise.
public struct SectionOperation: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// New section with data and expiration time.
        case create = 1
        /// Data at an offset; the section grows as needed, a gap reads as zero.
        case write
        /// Data replaces the section's, size included.
        case overwrite
        case delete
        case setExpiration
        /// The section's time was over; only in updates.
        case expire
        /// Only in requests: nothing of the update is done (BAD_OPERATION), unless the section's data still carries the
        /// tag (in `offset`) that this opener gave it. So a difference is never applied to data that it was not made
        /// for.
        case require
        /// Only in requests: the section's data, as this update leaves it, carries this tag (in `offset`, not 0) of
        /// this opener, until anything else changes it. It comes after what changes the data.
        case tag
        /// Only in requests: overwrites the section, or creates it when there is none.
        case put

        /// Whether it is a step of an update, as kept and told to others.
        public var isStep: Bool {
            switch self {
            case .create, .write, .overwrite, .delete, .setExpiration, .expire: true
            case .require, .tag, .put: false
            }
        }
    }

    public var kind: Kind
    public var id: SectionID
    public var offset: UInt64
    public var expiration: SaTime
    /// Within the body the operation was decoded from.
    public var data: PayloadSlice

    public init(kind: Kind, id: SectionID, offset: UInt64 = 0, expiration: SaTime = 0, data: PayloadSlice = .empty) {
        self.kind = kind
        self.id = id
        self.offset = offset
        self.expiration = expiration
        self.data = data
    }

    /// Bytes of an operation before its id and data.
    public static let fixedSize = 1 + 2 + 8 + 8 + 4

    // Out of line: many places make operations.
    @inline(never)
    public static func encode(
        _ kind: Kind, id: UnsafeRawBufferPointer, offset: UInt64, expiration: SaTime, data: UnsafeRawBufferPointer,
        to writer: inout ByteWriter
    ) {
        writer.integer(kind.rawValue)
        writer.integer(UInt16(truncatingIfNeeded: id.count))
        writer.raw(id)
        writer.integer(offset)
        writer.integer(expiration)
        writer.byteString(data)
    }

    public static func encode(
        _ kind: Kind, id: SectionID, offset: UInt64 = 0, expiration: SaTime = 0, data: [UInt8] = [],
        to writer: inout ByteWriter
    ) {
        id.bytes.withUnsafeBytes { idBytes in
            data.withUnsafeBytes {
                encode(kind, id: idBytes, offset: offset, expiration: expiration, data: $0, to: &writer)
            }
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        kind = try Kind.decode(from: &reader)
        id = try reader.value()
        offset = try reader.integer()
        expiration = try reader.integer()
        let count = Int(try reader.integer(UInt32.self))
        data = PayloadSlice(offset: reader.offset, count: count)
        _ = try reader.view(count)
        let usesExpiration = kind == .create || kind == .setExpiration || kind == .put
        let usesData = kind == .create || kind == .write || kind == .overwrite || kind == .put
        let usesOffset = kind == .write || kind == .require || kind == .tag
        guard usesOffset || offset == 0, usesExpiration || expiration == 0, usesData || count == 0 else {
            throw .badValue("operation \(kind) with a field it does not use; 0 expected")
        }
    }

    /// - Parameter stepsOnly: it is an update that was done; what only requests have is refused.
    public static func decodeList(
        _ reader: inout ByteReader, max: Int, stepsOnly: Bool = false
    ) throws(DecodeError) -> [SectionOperation] {
        let count = Int(try reader.integer(UInt32.self))
        guard count <= max else { throw .badValue("\(count) operations; at most \(max) expected") }
        var operations: [SectionOperation] = []
        operations.reserveCapacity(Swift.min(count, reader.remaining / fixedSize + 1))
        for _ in 0..<count {
            let operation = try SectionOperation(decoding: &reader)
            if stepsOnly, !operation.kind.isStep { throw .badValue("operation \(operation.kind.rawValue) is no step") }
            operations.append(operation)
        }
        return operations
    }
}
