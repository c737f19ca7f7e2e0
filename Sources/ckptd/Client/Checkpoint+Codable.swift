public import CkptProtocol
import IOC
public import SAFTypes

// Values of Codable types as a section's data, in the form of ``BinaryValue``.
extension Checkpoint {
    /// The section's data as a value; what ``setValue(_:of:timeout:)`` has written.
    ///
    /// - Throws: as ``read(_:at:count:timeout:)``; `.library` when the data is not such a value:
    ///   ``CheckpointService/lastRefusal`` says where.
    public func value<Value: Decodable>(
        of section: SectionID = .defaultSection, as type: Value.Type = Value.self, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> Value {
        try decode(try await read(section, timeout: timeout), section, type)
    }

    /// Makes a value the section's data; creates the section when there is none. Returns the change number.
    ///
    /// - Throws: as ``put(_:_:expires:timeout:)``; `.invalidParam` also when the value cannot be encoded.
    @discardableResult
    public func setValue<Value: Encodable>(
        _ value: Value, of section: SectionID = .defaultSection, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> UInt64 {
        try await put(section, try encode(value, section), timeout: timeout)
    }

    /// As ``value(of:as:timeout:)``.
    public func valueBlocking<Value: Decodable>(
        of section: SectionID = .defaultSection, as type: Value.Type = Value.self, timeout: Duration = .seconds(5)
    ) throws(AisError) -> Value {
        try decode(try readBlocking(section, timeout: timeout), section, type)
    }

    /// As ``setValue(_:of:timeout:)``.
    @discardableResult
    public func setValueBlocking<Value: Encodable>(
        _ value: Value, of section: SectionID = .defaultSection, timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        try putBlocking(section, try encode(value, section), timeout: timeout)
    }

    private func decode<Value: Decodable>(
        _ data: [UInt8], _ section: SectionID, _ type: Value.Type
    ) throws(AisError) -> Value {
        do {
            return try CheckpointCoding.value(data, as: type)
        } catch {
            throw service.failure(
                CallError(.library, "section \(section) is no \(type): \(CheckpointCoding.text(error))"))
        }
    }

    private func encode<Value: Encodable>(_ value: Value, _ section: SectionID) throws(AisError) -> [UInt8] {
        do {
            return try CheckpointCoding.bytes(value)
        } catch {
            throw service.failure(CallError(.invalidParam, "section \(section): \(CheckpointCoding.text(error))"))
        }
    }
}

/// Codable values as the bytes that sections have of them, for data that comes another way: in a snapshot, an update,
/// a batch.
public enum CheckpointCoding {
    /// - Throws: EncodingError.
    public static func bytes<Value: Encodable>(_ value: Value) throws -> [UInt8] {
        BinaryValueWriter.bytes(try BinaryEncoder.encode(value))
    }

    /// - Throws: DecodeError when the bytes are none of this form; DecodingError when they are another type's.
    public static func value<Value: Decodable>(_ bytes: [UInt8], as type: Value.Type = Value.self) throws -> Value {
        try BinaryDecoder.decode(type, from: try BinaryValueReader.value(bytes))
    }

    /// Where it went wrong: `lines.3.text: text expected, an integer found`.
    static func text(_ error: any Error) -> String {
        func words(_ path: [any CodingKey], _ text: String) -> String {
            path.isEmpty ? text : "\(path.map { $0.stringValue }.joined(separator: ".")): \(text)"
        }
        switch error {
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.keyNotFound(_, let context), DecodingError.dataCorrupted(let context):
            return words(context.codingPath, context.debugDescription)
        case EncodingError.invalidValue(_, let context): return words(context.codingPath, context.debugDescription)
        default: return "\(error)"
        }
    }
}
