/// Makes a ``BinaryValue`` of an Encodable value.
final class BinaryEncoder: Encoder {
    let codingPath: [any CodingKey]
    let userInfo: [CodingUserInfoKey: Any] = [:]
    fileprivate let box: Box

    /// What is being made; containers write into it, and may do so in any order.
    fileprivate final class Box {
        var value: BinaryValue?
        var list: [Box]?
        var record: [String: Box]?
        var order: [String] = []

        func made(depth: Int = 0) throws -> BinaryValue {
            guard depth < BinaryValue.depthMax else { throw BinaryEncoder.tooDeep }
            if let value { return value }
            if let list { return .list(try list.map { try $0.made(depth: depth + 1) }) }
            // A type that encodes nothing is a record without fields.
            return .record(try (record ?? [:]).mapValues { try $0.made(depth: depth + 1) }, order: order)
        }

        func child(_ key: String) -> Box {
            let child = Box()
            if record == nil { record = [:] }
            if record?.updateValue(child, forKey: key) == nil { order.append(key) }
            return child
        }

        func append() -> Box {
            let child = Box()
            if list == nil { list = [] }
            list?.append(child)
            return child
        }
    }

    private static let tooDeep = EncodingError.invalidValue(
        0, .init(codingPath: [], debugDescription: "more than \(BinaryValue.depthMax) levels"))

    fileprivate init(_ path: [any CodingKey], _ box: Box) {
        codingPath = path
        self.box = box
    }

    static func encode<Value: Encodable>(_ value: Value) throws -> BinaryValue {
        let box = Box()
        try write(value, to: box, [])
        return try box.made()
    }

    fileprivate static func write<Value: Encodable>(_ value: Value, to box: Box, _ path: [any CodingKey]) throws {
        if path.count > BinaryValue.depthMax { throw tooDeep }
        if let bytes = value as? [UInt8] {
            box.value = .bytes(bytes)  // as it is, not element by element
            return
        }
        try value.encode(to: BinaryEncoder(path, box))
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        if box.record == nil { box.record = [:] }
        return KeyedEncodingContainer(Keyed(codingPath: codingPath, box: box))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        if box.list == nil { box.list = [] }
        return Unkeyed(codingPath: codingPath, box: box)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { Single(codingPath: codingPath, box: box) }
}

extension BinaryEncoder {
    fileprivate static func number<Value: BinaryInteger>(_ value: Value) -> BinaryValue {
        if let signed = Int64(exactly: value) { return .signed(signed) }
        return .unsigned(UInt64(clamping: value))
    }

    private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let codingPath: [any CodingKey]
        let box: Box

        mutating func encodeNil(forKey key: Key) { box.child(key.stringValue).value = .null }
        mutating func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws {
            try BinaryEncoder.write(value, to: box.child(key.stringValue), codingPath + [key])
        }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Nested> {
            BinaryEncoder(codingPath + [key], box.child(key.stringValue)).container(keyedBy: type)
        }
        mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
            BinaryEncoder(codingPath + [key], box.child(key.stringValue)).unkeyedContainer()
        }
        mutating func superEncoder() -> any Encoder {
            BinaryEncoder(codingPath, box.child(BinaryKey.superKey.stringValue))
        }
        mutating func superEncoder(forKey key: Key) -> any Encoder {
            BinaryEncoder(codingPath + [key], box.child(key.stringValue))
        }
    }

    private struct Unkeyed: UnkeyedEncodingContainer {
        let codingPath: [any CodingKey]
        let box: Box
        var count: Int { box.list?.count ?? 0 }

        mutating func encodeNil() { box.append().value = .null }
        mutating func encode<Value: Encodable>(_ value: Value) throws {
            try BinaryEncoder.write(value, to: box.append(), codingPath + [BinaryKey(count)])
        }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type
        ) -> KeyedEncodingContainer<Nested> {
            BinaryEncoder(codingPath + [BinaryKey(count)], box.append()).container(keyedBy: type)
        }
        mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
            BinaryEncoder(codingPath + [BinaryKey(count)], box.append()).unkeyedContainer()
        }
        mutating func superEncoder() -> any Encoder { BinaryEncoder(codingPath + [BinaryKey(count)], box.append()) }
    }

    private struct Single: SingleValueEncodingContainer {
        let codingPath: [any CodingKey]
        let box: Box

        private func set(_ value: BinaryValue) { box.value = value }

        mutating func encodeNil() { set(.null) }
        mutating func encode(_ value: Bool) { set(.bool(value)) }
        mutating func encode(_ value: String) { set(.text(value)) }
        mutating func encode(_ value: Double) { set(.double(value)) }
        mutating func encode(_ value: Float) { set(.float(value)) }
        mutating func encode(_ value: Int) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: Int8) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: Int16) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: Int32) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: Int64) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: UInt) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: UInt8) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: UInt16) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: UInt32) { set(BinaryEncoder.number(value)) }
        mutating func encode(_ value: UInt64) { set(BinaryEncoder.number(value)) }
        mutating func encode<Value: Encodable>(_ value: Value) throws {
            try BinaryEncoder.write(value, to: box, codingPath + [BinaryKey(0)])
        }
    }
}

/// The place of an element in a list.
struct BinaryKey: CodingKey {
    let intValue: Int?
    let stringValue: String

    init(_ index: Int) { (intValue, stringValue) = (index, String(index)) }
    init?(intValue: Int) { self.init(intValue) }
    init?(stringValue: String) { self.init(text: stringValue) }
    private init(text: String) { (intValue, stringValue) = (nil, text) }
    static let superKey = BinaryKey(text: "super")
}
