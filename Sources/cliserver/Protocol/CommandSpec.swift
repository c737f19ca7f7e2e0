public import SAFTypes

/// What an argument of a console command may be; checked before the command's owner sees it.
public enum ArgumentType: Hashable, Sendable {
    case text  // kind 1
    /// Decimal, within the bounds.
    case integer(ClosedRange<Int64>)  // kind 2
    /// `true`, `false`, `on`, `off`, `yes` or `no`.
    case boolean  // kind 3
    /// A number and a unit: `250ms`, `10s`, `5m`.
    case duration  // kind 4
    /// A SAF name of 1 to 256 octets.
    case name  // kind 5
    case choice([String])  // kind 6
}

extension ArgumentType {
    public static let integer: ArgumentType = .integer(.min ... .max)

    /// How the type reads in a usage line.
    public var placeholder: String {
        switch self {
        case .text: "text"
        case .integer: "number"
        case .boolean: "on|off"
        case .duration: "duration"
        case .name: "name"
        case .choice(let words): words.joined(separator: "|")
        }
    }
}

extension ArgumentType: WireCodable {
    private static let choicesMax = 64

    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .text: writer.integer(UInt8(1))
        case .integer(let range):
            writer.integer(UInt8(2))
            writer.integer(range.lowerBound)
            writer.integer(range.upperBound)
        case .boolean: writer.integer(UInt8(3))
        case .duration: writer.integer(UInt8(4))
        case .name: writer.integer(UInt8(5))
        case .choice(let words):
            writer.integer(UInt8(6))
            writer.strings(words)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .text
        case 2:
            let lower: Int64 = try reader.integer()
            let upper: Int64 = try reader.integer()
            guard lower <= upper else { throw .badValue("bounds \(lower) to \(upper); the lower first expected") }
            self = .integer(lower...upper)
        case 3: self = .boolean
        case 4: self = .duration
        case 5: self = .name
        case 6: self = .choice(try reader.strings(max: Self.choicesMax))
        default: throw .badValue("argument type \(kind); 1 to 6 expected")
        }
    }
}

/// One argument of a command: name · flags u8 (bit 0 optional, bit 1 repeated) · type · help.
public struct ArgumentSpec: Hashable, Sendable {
    public var name: String
    public var type: ArgumentType
    public var isOptional: Bool
    /// Takes all the words that are left; only for the last argument.
    public var isRepeated: Bool
    public var help: String

    public init(
        _ name: String, _ type: ArgumentType = .text, optional: Bool = false, repeated: Bool = false, help: String = ""
    ) {
        self.name = name
        self.type = type
        isOptional = optional
        isRepeated = repeated
        self.help = help
    }

    /// How the argument reads in a usage line: `NAME`, `[NAME]`, `[NAME…]`.
    public var usage: String {
        let word = "<\(name)>" + (isRepeated ? "…" : "")
        return isOptional ? "[\(word)]" : word
    }
}

extension ArgumentSpec: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.string(name)
        writer.integer(UInt8((isOptional ? 1 : 0) | (isRepeated ? 2 : 0)))
        writer.value(type)
        writer.string(help)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.string(max: CommandSpec.nameBytesMax)
        let flags = try reader.integer(UInt8.self)
        guard flags <= 3 else { throw .badValue("argument flags \(flags); bits 0 and 1 expected") }
        isOptional = flags & 1 != 0
        isRepeated = flags & 2 != 0
        type = try reader.value()
        help = try reader.string(max: CommandSpec.helpBytesMax)
    }
}

/// A console command as its owner registers it: name · help · arguments.
///
/// The name is one word; `help` is one sentence, its first line is shown in lists.
public struct CommandSpec: Hashable, Sendable {
    public static let nameBytesMax = 64
    public static let helpBytesMax = 4_096
    public static let argumentsMax = 32

    public var name: String
    public var help: String
    public var arguments: [ArgumentSpec]

    public init(name: String, help: String, arguments: [ArgumentSpec] = []) {
        self.name = name
        self.help = help
        self.arguments = arguments
    }

    /// `NAME <argument> [<argument>]`.
    public var usage: String { ([name] + arguments.map(\.usage)).joined(separator: " ") }

    /// What is wrong with the specification itself, for the owner's log; nil when it is usable.
    public var defect: String? {
        guard Self.isWord(name) else { return "command name '\(name)': letters, digits, '-', '_' and '.' expected" }
        var mustBeOptional = false
        for (index, argument) in arguments.enumerated() {
            guard Self.isWord(argument.name) else {
                return "command \(name): argument name '\(argument.name)': letters, digits, '-', '_' and '.' expected"
            }
            if argument.isRepeated, index != arguments.count - 1 {
                return "command \(name): repeated argument \(argument.name) must be the last"
            }
            if mustBeOptional, !argument.isOptional {
                return "command \(name): argument \(argument.name) must be optional, as the one before it is"
            }
            mustBeOptional = argument.isOptional
        }
        return nil
    }

    private static func isWord(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= nameBytesMax
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
    }
}

extension CommandSpec: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.string(name)
        writer.string(help)
        writer.list(arguments)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.string(max: Self.nameBytesMax)
        help = try reader.string(max: Self.helpBytesMax)
        arguments = try reader.list(max: Self.argumentsMax)
    }
}

extension ByteWriter {
    /// count u32 · strings.
    mutating func strings(_ values: [String]) {
        integer(UInt32(values.count))
        for value in values { string(value) }
    }
}

extension ByteReader {
    mutating func strings(max: Int, bytesMax: Int = 1 << 16) throws(DecodeError) -> [String] {
        let count = Int(try integer(UInt32.self))
        guard count <= max else { throw .badValue("\(count) words; at most \(max) expected") }
        var values: [String] = []
        for _ in 0..<count { values.append(try string(max: bytesMax)) }
        return values
    }
}
