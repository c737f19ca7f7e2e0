import SAFTypes

/// A value whose byte form is the list of its fields, in order: one list serves both directions, so that encoding and
/// decoding cannot drift apart.
public protocol WireFields: WireCodable {
    init()
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure)
}

/// One direction of a ``WireFields`` value: ``FieldWriter`` or ``FieldReader``.
public protocol FieldCoder {
    associatedtype Failure: Error
    mutating func integer<Value: FixedWidthInteger>(_ value: inout Value) throws(Failure)
    mutating func flag(_ value: inout Bool) throws(Failure)
    mutating func text(_ value: inout String) throws(Failure)
    mutating func bytes(_ value: inout [UInt8]) throws(Failure)
    mutating func value<Value: WireCodable>(_ value: inout Value) throws(Failure)
    mutating func optional<Value: WireCodable>(_ value: inout Value?) throws(Failure)
    mutating func list<Value: WireCodable>(_ values: inout [Value]) throws(Failure)
    mutating func texts(_ values: inout [String]) throws(Failure)
    mutating func raw<Value: RawRepresentable>(_ value: inout Value) throws(Failure)
    where Value.RawValue: FixedWidthInteger
    /// Nanoseconds i64; negative ones are refused.
    mutating func duration(_ value: inout Duration) throws(Failure)
    /// present u8 · raw value.
    mutating func optionalRaw<Value: RawRepresentable>(_ value: inout Value?) throws(Failure)
    where Value.RawValue: FixedWidthInteger
    /// Longer lists than this are refused.
    var elementsMax: Int { get }
}

extension WireFields {
    public func encode(to writer: inout ByteWriter) {
        var copy = self
        var coder = FieldWriter(writer: writer)
        copy.fields(&coder)
        writer = coder.writer
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        self.init()
        var coder = FieldReader(reader: reader)
        try fields(&coder)
        reader = coder.reader
    }
}

public struct FieldWriter: FieldCoder {
    public typealias Failure = Never
    public var writer: ByteWriter
    public let elementsMax = Limits.elementsMax

    public mutating func integer<Value: FixedWidthInteger>(_ value: inout Value) { writer.integer(value) }
    public mutating func flag(_ value: inout Bool) { writer.bool(value) }
    public mutating func text(_ value: inout String) { writer.string(value) }
    public mutating func bytes(_ value: inout [UInt8]) { writer.byteString(value) }
    public mutating func value<Value: WireCodable>(_ value: inout Value) { writer.value(value) }
    public mutating func optional<Value: WireCodable>(_ value: inout Value?) { writer.optional(value) }
    public mutating func list<Value: WireCodable>(_ values: inout [Value]) { writer.list(values) }
    public mutating func texts(_ values: inout [String]) {
        writer.integer(UInt32(values.count))
        for value in values { writer.string(value) }
    }
    public mutating func raw<Value: RawRepresentable>(_ value: inout Value) where Value.RawValue: FixedWidthInteger {
        writer.integer(value.rawValue)
    }
    public mutating func duration(_ value: inout Duration) { writer.integer(value.wholeNanoseconds) }
    public mutating func optionalRaw<Value: RawRepresentable>(_ value: inout Value?)
    where Value.RawValue: FixedWidthInteger {
        writer.bool(value != nil)
        if let value { writer.integer(value.rawValue) }
    }
}

public struct FieldReader: FieldCoder {
    public typealias Failure = DecodeError
    public var reader: ByteReader
    public let elementsMax = Limits.elementsMax

    public mutating func integer<Value: FixedWidthInteger>(_ value: inout Value) throws(DecodeError) {
        value = try reader.integer()
    }
    public mutating func flag(_ value: inout Bool) throws(DecodeError) { value = try reader.bool() }
    public mutating func text(_ value: inout String) throws(DecodeError) {
        value = try reader.string(max: Limits.textMax)
    }
    public mutating func bytes(_ value: inout [UInt8]) throws(DecodeError) {
        value = try reader.byteString(max: Limits.textMax)
    }
    public mutating func value<Value: WireCodable>(_ value: inout Value) throws(DecodeError) {
        value = try reader.value()
    }
    public mutating func optional<Value: WireCodable>(_ value: inout Value?) throws(DecodeError) {
        value = try reader.optional()
    }
    public mutating func list<Value: WireCodable>(_ values: inout [Value]) throws(DecodeError) {
        values = try reader.list(max: Limits.elementsMax)
    }
    public mutating func texts(_ values: inout [String]) throws(DecodeError) {
        let count = Int(try reader.integer(UInt32.self))
        guard count <= Limits.elementsMax else {
            throw .badValue("\(count) texts; at most \(Limits.elementsMax) expected")
        }
        values = []
        for _ in 0..<count { values.append(try reader.string(max: Limits.textMax)) }
    }
    public mutating func raw<Value: RawRepresentable>(_ value: inout Value) throws(DecodeError)
    where Value.RawValue: FixedWidthInteger {
        value = try Value.decode(from: &reader)
    }
    public mutating func duration(_ value: inout Duration) throws(DecodeError) {
        let nanoseconds = try reader.integer(Int64.self)
        guard nanoseconds >= 0 else { throw .badValue("duration \(nanoseconds) ns; 0 or more expected") }
        value = .nanoseconds(nanoseconds)
    }
    public mutating func optionalRaw<Value: RawRepresentable>(_ value: inout Value?) throws(DecodeError)
    where Value.RawValue: FixedWidthInteger {
        value = try reader.bool() ? try Value.decode(from: &reader) : nil
    }
}

/// Bounds of what travels; a peer that exceeds one is refused.
public enum Limits {
    /// Elements of one list: entities of a model, assignments of a report.
    public static let elementsMax = 1 << 16
    /// Octets of one text: a command argument, an environment value.
    public static let textMax = 1 << 16
}

extension Duration {
    /// Nanoseconds, saturating; what a duration is on the wire.
    public var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, overflowSum) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflowSum ? (seconds < 0 ? .min : .max) : sum
    }
}
