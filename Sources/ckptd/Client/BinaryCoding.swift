import SAFTypes

/// A value of Swift's Codable as bytes: small, self-describing, in one form whatever the machine.
///
/// version u8 (1) · value. A value is a tag u8 and what follows it; numbers are LEB128, signed ones zigzag:
///
///     0 nil · 1 false · 2 true · 3 signed · 4 unsigned (above Int64.max) · 5 Float u32 · 6 Double u64
///     7 text: length · UTF-8 · 8 bytes: length · octets · 9 list: count · values
///     10 record: count · (key · value)…; a key is 0 · length · UTF-8 when it is new, else its number among the keys
///        so far, from 1 on
///
/// Keys travel with the values, so that fields may be added to a type: a reader that has an optional more finds nil,
/// one that has a field less skips it. Decoding is total: it throws or returns, and allocates no more than the bytes
/// at hand justify.
indirect enum BinaryValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case signed(Int64)
    case unsigned(UInt64)
    case float(Float)
    case double(Double)
    case text(String)
    case bytes([UInt8])
    case list([BinaryValue])
    /// In the order of their encoding; a key comes once.
    case record([String: BinaryValue], order: [String])

    static let version: UInt8 = 1
    /// Deeper values are refused, both ways.
    static let depthMax = 100

    /// For people.
    var kind: String {
        switch self {
        case .null: "nil"
        case .bool: "a boolean"
        case .signed, .unsigned: "an integer"
        case .float, .double: "a floating-point number"
        case .text: "text"
        case .bytes: "bytes"
        case .list: "a list"
        case .record: "a record"
        }
    }
}

// MARK: To bytes

struct BinaryValueWriter {
    private(set) var writer = ByteWriter(reserving: 128)
    private var keys: [String: UInt64] = [:]

    static func bytes(_ value: BinaryValue) -> [UInt8] {
        var writer = BinaryValueWriter()
        writer.writer.integer(BinaryValue.version)
        writer.write(value)
        return writer.writer.bytes
    }

    private mutating func number(_ value: UInt64) {
        var rest = value
        while rest > 127 {
            writer.integer(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        writer.integer(UInt8(rest))
    }

    private mutating func octets(_ bytes: [UInt8]) {
        number(UInt64(bytes.count))
        writer.raw(bytes)
    }

    private mutating func write(_ value: BinaryValue) {
        func tag(_ tag: UInt8) { writer.integer(tag) }
        switch value {
        case .null: tag(0)
        case .bool(let value): tag(value ? 2 : 1)
        case .signed(let value):
            tag(3)
            number(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
        case .unsigned(let value):
            tag(4)
            number(value)
        case .float(let value):
            tag(5)
            writer.integer(value.bitPattern)
        case .double(let value):
            tag(6)
            writer.integer(value.bitPattern)
        case .text(let value):
            tag(7)
            octets(Array(value.utf8))
        case .bytes(let value):
            tag(8)
            octets(value)
        case .list(let values):
            tag(9)
            number(UInt64(values.count))
            for value in values { write(value) }
        case .record(let fields, let order):
            tag(10)
            number(UInt64(order.count))
            for name in order {
                key(name)
                write(fields[name] ?? .null)
            }
        }
    }

    private mutating func key(_ name: String) {
        if let known = keys[name] { return number(known) }
        keys[name] = UInt64(keys.count + 1)
        number(0)
        octets(Array(name.utf8))
    }
}

// MARK: From bytes

struct BinaryValueReader {
    private var reader: ByteReader
    private var keys: [String] = []

    static func value(_ bytes: [UInt8]) throws(DecodeError) -> BinaryValue {
        var outcome: Result<BinaryValue, DecodeError> = .failure(.truncated(needed: 1, remaining: 0))
        bytes.withUnsafeBytes { raw in
            var reader = BinaryValueReader(reader: ByteReader(raw))
            do throws(DecodeError) {
                let version = try reader.reader.integer(UInt8.self)
                guard version == BinaryValue.version else {
                    throw .badValue("version \(version) of the coding; \(BinaryValue.version) expected")
                }
                let value = try reader.value(depth: 0)
                try reader.reader.finish()
                outcome = .success(value)
            } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    private mutating func number() throws(DecodeError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try reader.integer(UInt8.self)
            guard shift < 63 || (shift == 63 && byte <= 1) else { throw .badValue("a number of more than 64 bits") }
            value |= UInt64(byte & 127) << shift
            if byte < 128 { return value }
            shift += 7
        }
    }

    /// Of things that take at least so many bytes each.
    private mutating func count(of size: Int) throws(DecodeError) -> Int {
        let count = try number()
        guard count <= UInt64(reader.remaining / size) else {
            throw .truncated(needed: Int(clamping: count), remaining: reader.remaining)
        }
        return Int(count)
    }

    private mutating func text() throws(DecodeError) -> String {
        let bytes = try reader.view(try count(of: 1))
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .badValue("text is not valid UTF-8") }
        return text
    }

    private mutating func value(depth: Int) throws(DecodeError) -> BinaryValue {
        guard depth < BinaryValue.depthMax else { throw .badValue("more than \(BinaryValue.depthMax) levels") }
        let tag = try reader.integer(UInt8.self)
        switch tag {
        case 0: return .null
        case 1, 2: return .bool(tag == 2)
        case 3:
            let raw = try number()
            return .signed(Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1))
        case 4: return .unsigned(try number())
        case 5: return .float(Float(bitPattern: try reader.integer()))
        case 6: return .double(Double(bitPattern: try reader.integer()))
        case 7: return .text(try text())
        case 8: return .bytes(try reader.raw(try count(of: 1)))
        case 9:
            let count = try count(of: 1)
            var values: [BinaryValue] = []
            values.reserveCapacity(min(count, 1_024))
            for _ in 0..<count { values.append(try value(depth: depth + 1)) }
            return .list(values)
        case 10: return try record(depth: depth)
        default: throw .badValue("a value with tag \(tag); 0 to 10 expected")
        }
    }

    private mutating func record(depth: Int) throws(DecodeError) -> BinaryValue {
        let count = try count(of: 2)
        var fields: [String: BinaryValue] = [:]
        var order: [String] = []
        for _ in 0..<count {
            let name = try key()
            guard fields[name] == nil else { throw .badValue("key \(name) comes twice") }
            fields[name] = try value(depth: depth + 1)
            order.append(name)
        }
        return .record(fields, order: order)
    }

    private mutating func key() throws(DecodeError) -> String {
        let index = try number()
        if index == 0 {
            keys.append(try text())
            return keys[keys.count - 1]
        }
        guard index <= UInt64(keys.count) else { throw .badValue("key \(index) of \(keys.count)") }
        return keys[Int(index) - 1]
    }
}
