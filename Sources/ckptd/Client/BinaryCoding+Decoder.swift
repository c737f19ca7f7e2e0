/// Reads a Decodable value out of a ``BinaryValue``.
struct BinaryDecoder: Decoder {
    let codingPath: [any CodingKey]
    let userInfo: [CodingUserInfoKey: Any] = [:]
    let value: BinaryValue

    static func decode<Value: Decodable>(_ type: Value.Type, from value: BinaryValue) throws -> Value {
        try read(type, value, [])
    }

    fileprivate static func read<Value: Decodable>(
        _ type: Value.Type, _ value: BinaryValue, _ path: [any CodingKey]
    ) throws -> Value {
        if case .bytes(let bytes) = value, let same = bytes as? Value { return same }
        return try Value(from: BinaryDecoder(codingPath: path, value: value))
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .record(let fields, let order) = value else { throw mismatch([String: Any].self, "a record") }
        return KeyedDecodingContainer(Keyed(codingPath: codingPath, fields: fields, order: order))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        switch value {
        case .list(let values): return Unkeyed(codingPath: codingPath, values: values)
        case .bytes(let bytes): return Unkeyed(codingPath: codingPath, values: bytes.map { .signed(Int64($0)) })
        default: throw mismatch([Any].self, "a list")
        }
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    fileprivate func mismatch(_ type: Any.Type, _ expected: String) -> DecodingError {
        .typeMismatch(
            type, .init(codingPath: codingPath, debugDescription: "\(expected) expected, \(value.kind) found"))
    }

    fileprivate func integer<Value: FixedWidthInteger>() throws -> Value {
        let exact: Value?
        switch value {
        case .signed(let value): exact = Value(exactly: value)
        case .unsigned(let value): exact = Value(exactly: value)
        default: throw mismatch(Value.self, "an integer")
        }
        guard let exact else { throw mismatch(Value.self, "a number of \(Value.bitWidth) bits") }
        return exact
    }
}

extension BinaryDecoder: SingleValueDecodingContainer {
    func decodeNil() -> Bool { value == .null }

    func decode(_ type: Bool.Type) throws -> Bool {
        guard case .bool(let value) = value else { throw mismatch(type, "a boolean") }
        return value
    }

    func decode(_ type: String.Type) throws -> String {
        guard case .text(let value) = value else { throw mismatch(type, "text") }
        return value
    }

    func decode(_ type: Double.Type) throws -> Double {
        switch value {
        case .double(let value): return value
        case .float(let value): return Double(value)
        default: throw mismatch(type, "a floating-point number")
        }
    }

    func decode(_ type: Float.Type) throws -> Float {
        guard case .float(let value) = value else { throw mismatch(type, "a Float") }
        return value
    }

    func decode(_ type: Int.Type) throws -> Int { try integer() }
    func decode(_ type: Int8.Type) throws -> Int8 { try integer() }
    func decode(_ type: Int16.Type) throws -> Int16 { try integer() }
    func decode(_ type: Int32.Type) throws -> Int32 { try integer() }
    func decode(_ type: Int64.Type) throws -> Int64 { try integer() }
    func decode(_ type: UInt.Type) throws -> UInt { try integer() }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try integer() }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try integer() }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try integer() }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try integer() }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try Self.read(type, value, codingPath) }
}

extension BinaryDecoder {
    private struct Keyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
        let codingPath: [any CodingKey]
        let fields: [String: BinaryValue]
        let order: [String]

        var allKeys: [Key] { order.compactMap { Key(stringValue: $0) } }
        func contains(_ key: Key) -> Bool { fields[key.stringValue] != nil }

        private func field(_ key: any CodingKey) throws -> BinaryValue {
            guard let value = fields[key.stringValue] else {
                throw DecodingError.keyNotFound(
                    key, .init(codingPath: codingPath, debugDescription: "no key \(key.stringValue)"))
            }
            return value
        }

        private func decoder(_ key: any CodingKey) throws -> BinaryDecoder {
            BinaryDecoder(codingPath: codingPath + [key], value: try field(key))
        }

        func decodeNil(forKey key: Key) throws -> Bool { try field(key) == .null }
        func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
            try BinaryDecoder.read(type, try field(key), codingPath + [key])
        }
        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) throws -> KeyedDecodingContainer<Nested> { try decoder(key).container(keyedBy: type) }
        func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
            try decoder(key).unkeyedContainer()
        }
        func superDecoder() throws -> any Decoder { try decoder(BinaryKey.superKey) }
        func superDecoder(forKey key: Key) throws -> any Decoder { try decoder(key) }
    }

    private struct Unkeyed: UnkeyedDecodingContainer {
        let codingPath: [any CodingKey]
        let values: [BinaryValue]
        var currentIndex = 0

        init(codingPath: [any CodingKey], values: [BinaryValue]) {
            self.codingPath = codingPath
            self.values = values
        }

        var count: Int? { values.count }
        var isAtEnd: Bool { currentIndex >= values.count }
        private var path: [any CodingKey] { codingPath + [BinaryKey(currentIndex)] }

        private func current() throws -> BinaryValue {
            guard !isAtEnd else {
                throw DecodingError.valueNotFound(
                    BinaryValue.self, .init(codingPath: path, debugDescription: "the list has \(values.count) elements")
                )
            }
            return values[currentIndex]
        }

        mutating func decodeNil() throws -> Bool {
            guard try current() == .null else { return false }
            currentIndex += 1
            return true
        }
        mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
            let value = try BinaryDecoder.read(type, try current(), path)
            currentIndex += 1
            return value
        }
        private mutating func next() throws -> BinaryDecoder {
            let decoder = BinaryDecoder(codingPath: path, value: try current())
            currentIndex += 1
            return decoder
        }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type
        ) throws -> KeyedDecodingContainer<Nested> { try next().container(keyedBy: type) }
        mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
            try next().unkeyedContainer()
        }
        mutating func superDecoder() throws -> any Decoder { try next() }
    }
}
