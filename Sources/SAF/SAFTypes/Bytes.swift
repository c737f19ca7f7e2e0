#if SAF_LIBRARY
    /// Something is wrong with bytes that came from outside. What it is a C library tells nobody.
    public struct DecodeError: Error, Hashable, Sendable {
        @inline(__always)
        public static func truncated(needed _: Int, remaining _: Int) -> DecodeError { DecodeError() }
        @inline(__always)
        public static func trailing(_: Int) -> DecodeError { DecodeError() }
        @inline(__always)
        public static func badValue(_: Words) -> DecodeError { DecodeError() }
    }
#else
    /// What is wrong with bytes that came from outside.
    public enum DecodeError: Error, Hashable, Sendable {
        /// The bytes end before the value does.
        case truncated(needed: Int, remaining: Int)
        /// Bytes are left over after the value.
        case trailing(Int)
        /// A field has a value that is not allowed; the text names the field and what was expected.
        case badValue(Words)
    }
#endif

/// A value with one byte form: little-endian, explicit sizes, no padding. Decoding is total: it throws or returns a
/// valid value, never traps, and never allocates by an unchecked length.
public protocol WireCodable {
    func encode(to writer: inout ByteWriter)
    init(decoding reader: inout ByteReader) throws(DecodeError)
}

extension WireCodable {
    public var encoded: [UInt8] {
        var writer = ByteWriter()
        encode(to: &writer)
        return writer.bytes
    }

    /// Decodes a value that must fill `bytes` exactly.
    public init(decoding bytes: [UInt8]) throws(DecodeError) {
        var outcome: Result<Self, DecodeError>?
        bytes.withUnsafeBytes { raw in outcome = Self.decode(raw) }
        self = try outcome!.get()  // withUnsafeBytes always runs its closure
    }

    /// Decodes a value that must fill `bytes` exactly.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodeError) { self = try Self.decode(bytes).get() }

    private static func decode(_ raw: UnsafeRawBufferPointer) -> Result<Self, DecodeError> {
        var reader = ByteReader(raw)
        do throws(DecodeError) {
            let value = try Self(decoding: &reader)
            try reader.finish()
            return .success(value)
        } catch {
            return .failure(error)
        }
    }
}

/// Appends little-endian values to a growing buffer. Keep one and `removeAll()` it to allocate nothing.
public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    public var count: Int { bytes.count }

    public mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    #if SAF_LIBRARY
        public mutating func integer<Value: FixedWidthInteger>(_ value: Value) {
            append(UInt64(truncatingIfNeeded: value), MemoryLayout<Value>.size)
        }

        /// Out of line, for all widths: a call is a third of what it would be in each place.
        @inline(never)
        private mutating func append(_ value: UInt64, _ width: Int) {
            withUnsafeBytes(of: value.littleEndian) { raw(UnsafeRawBufferPointer(rebasing: $0.prefix(width))) }
        }
    #else
        @inlinable
        public mutating func integer<Value: FixedWidthInteger>(_ value: Value) {
            withUnsafeBytes(of: value.littleEndian) { raw($0) }
        }
    #endif

    public mutating func bool(_ value: Bool) { integer(UInt8(value ? 1 : 0)) }

    /// Bytes without a length: the reader must know it.
    public mutating func raw(_ source: UnsafeRawBufferPointer) { bytes.append(contentsOf: source) }
    public mutating func raw(_ source: [UInt8]) { bytes.append(contentsOf: source) }

    /// length u32 · bytes.
    public mutating func byteString(_ value: [UInt8]) {
        integer(UInt32(value.count))
        bytes.append(contentsOf: value)
    }
    public mutating func byteString(_ value: UnsafeRawBufferPointer) {
        integer(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    /// length u32 · UTF-8.
    public mutating func string(_ value: String) { byteString(Array(value.utf8)) }

    public mutating func value<Value: WireCodable>(_ value: Value) { value.encode(to: &self) }

    /// count u32 · elements.
    public mutating func list<Element: WireCodable>(_ elements: [Element]) {
        integer(UInt32(elements.count))
        for element in elements { element.encode(to: &self) }
    }

    /// present u8 · value.
    public mutating func optional<Value: WireCodable>(_ value: Value?) {
        bool(value != nil)
        if let value { value.encode(to: &self) }
    }

    /// Overwrites a value written before, for a length that is known only at the end.
    public mutating func patch<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        let width = MemoryLayout<Value>.size
        precondition(offset >= 0 && offset + width <= bytes.count)
        withUnsafeBytes(of: value.littleEndian) { source in
            for index in 0..<width { bytes[offset + index] = source[index] }
        }
    }
}

/// Reads little-endian values from bytes it does not own; valid only while those bytes are.
public struct ByteReader {
    private let source: UnsafeRawBufferPointer
    public private(set) var offset = 0

    public init(_ source: UnsafeRawBufferPointer) { self.source = source }

    public var remaining: Int { source.count - offset }

    #if SAF_LIBRARY
        public mutating func integer<Value: FixedWidthInteger>(
            _ type: Value.Type = Value.self
        ) throws(DecodeError) -> Value { Value(truncatingIfNeeded: try word(MemoryLayout<Value>.size)) }

        /// Out of line, for all widths.
        @inline(never)
        private mutating func word(_ width: Int) throws(DecodeError) -> UInt64 {
            guard remaining >= width else { throw .truncated(needed: width, remaining: remaining) }
            var value: UInt64 = 0
            for index in 0..<width { value |= UInt64(source[offset &+ index]) &<< UInt64(8 &* index) }
            offset += width
            return value
        }
    #else
        public mutating func integer<Value: FixedWidthInteger>(
            _ type: Value.Type = Value.self
        ) throws(DecodeError) -> Value {
            let width = MemoryLayout<Value>.size
            guard remaining >= width else { throw .truncated(needed: width, remaining: remaining) }
            let value = source.loadUnaligned(fromByteOffset: offset, as: Value.self)
            offset += width
            return Value(littleEndian: value)
        }
    #endif

    public mutating func bool() throws(DecodeError) -> Bool {
        let raw = try integer(UInt8.self)
        guard raw <= 1 else { throw .badValue("boolean \(raw); 0 or 1 expected") }
        return raw == 1
    }

    /// A view of the next `count` bytes, valid only as long as the reader's source.
    public mutating func view(_ count: Int) throws(DecodeError) -> UnsafeRawBufferPointer {
        guard count >= 0, remaining >= count else { throw .truncated(needed: count, remaining: remaining) }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: source[offset..<(offset + count)])
    }

    public mutating func raw(_ count: Int) throws(DecodeError) -> [UInt8] { Array(try view(count)) }

    public mutating func byteString(max: Int = .max) throws(DecodeError) -> [UInt8] {
        Array(try byteStringView(max: max))
    }

    public mutating func byteStringView(max: Int = .max) throws(DecodeError) -> UnsafeRawBufferPointer {
        let length = Int(try integer(UInt32.self))
        guard length <= max else { throw .badValue("length \(length); at most \(max) expected") }
        return try view(length)
    }

    /// Valid UTF-8 only: repaired text would not be what the sender wrote.
    public mutating func string(max: Int = 1 << 20) throws(DecodeError) -> String {
        let bytes = try byteString(max: max)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .badValue("text is not valid UTF-8") }
        return text
    }

    public mutating func value<Value: WireCodable>(_ type: Value.Type = Value.self) throws(DecodeError) -> Value {
        try Value(decoding: &self)
    }

    public mutating func list<Element: WireCodable>(
        of type: Element.Type = Element.self, max: Int = 1 << 20
    ) throws(DecodeError) -> [Element] {
        let count = Int(try integer(UInt32.self))
        guard count <= max else { throw .badValue("\(count) elements; at most \(max) expected") }
        var elements: [Element] = []
        elements.reserveCapacity(Swift.min(count, remaining))  // an element takes at least a byte
        for _ in 0..<count {
            guard remaining > 0 else { throw .truncated(needed: 1, remaining: 0) }
            elements.append(try Element(decoding: &self))
        }
        return elements
    }

    public mutating func optional<Value: WireCodable>(_ type: Value.Type = Value.self) throws(DecodeError) -> Value? {
        try bool() ? try Value(decoding: &self) : nil
    }

    public func finish() throws(DecodeError) {
        guard remaining == 0 else { throw .trailing(remaining) }
    }
}

extension RawRepresentable where RawValue: FixedWidthInteger {
    /// Decodes an enum by its raw value; an unknown one is refused by name.
    public static func decode(from reader: inout ByteReader) throws(DecodeError) -> Self {
        let raw = try reader.integer(RawValue.self)
        guard let value = Self(rawValue: raw) else { throw .badValue("\(Self.self) \(raw) is unknown") }
        return value
    }
}
