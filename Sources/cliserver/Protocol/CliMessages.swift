public import SAFTypes

/// What may be asked of cliserver: the code of an IOC request, with its body and the reply's.
public enum CliRequestCode: UInt16, Sendable, CaseIterable {
    /// ``OwnerDescription`` → nothing. Replaces what the same connection registered before.
    case register = 1
    /// ``ExecuteRequest`` → ``CommandPage``.
    case execute = 2
    /// ``PageRequest`` → ``CommandPage``.
    case page = 3
    /// nothing → count u32 · ``OwnerDescription``…: everything registered, for completion and help.
    case describe = 4
    /// ``CommandResult`` → nothing: an owner answers an invocation.
    case result = 5
}

/// What cliserver sends unasked.
public enum CliPushCode: UInt16, Sendable, CaseIterable {
    /// ``Invocation``, to the owner of the command.
    case invoke = 64
    /// invocation u64: nobody waits for the answer any more.
    case cancel = 65
}

/// An owner of commands and what it offers: name · kind u8 · pid u32 · commands.
public struct OwnerDescription: Hashable, Sendable, WireCodable {
    public static let nameBytesMax = 256
    public static let commandsMax = 512

    public enum Kind: UInt8, Hashable, Sendable, CaseIterable { case daemon = 1, application = 2 }

    /// A daemon's name, or the DN of a component.
    public var name: String
    public var kind: Kind
    public var pid: UInt32
    public var commands: [CommandSpec]

    public init(name: String, kind: Kind, pid: UInt32, commands: [CommandSpec]) {
        self.name = name
        self.kind = kind
        self.pid = pid
        self.commands = commands
    }

    public func encode(to writer: inout ByteWriter) {
        writer.string(name)
        writer.integer(kind.rawValue)
        writer.integer(pid)
        writer.list(commands)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.string(max: Self.nameBytesMax)
        kind = try Kind.decode(from: &reader)
        pid = try reader.integer()
        commands = try reader.list(max: Self.commandsMax)
    }
}

public enum OutputFormat: UInt8, Hashable, Sendable, CaseIterable { case text = 1, json = 2 }

/// A command line in words, the owner first: format u8 · time limit in ms u32 · words.
public struct ExecuteRequest: Hashable, Sendable, WireCodable {
    public static let wordsMax = 256

    public var format: OutputFormat
    public var timeLimitMilliseconds: UInt32
    public var words: [String]

    public init(words: [String], format: OutputFormat = .text, timeLimit: Duration = .seconds(5)) {
        self.words = words
        self.format = format
        let (seconds, attoseconds) = timeLimit.components
        let milliseconds = seconds.multipliedReportingOverflow(by: 1_000)
        timeLimitMilliseconds =
            milliseconds.overflow
            ? .max : UInt32(clamping: milliseconds.partialValue + attoseconds / 1_000_000_000_000_000)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(format.rawValue)
        writer.integer(timeLimitMilliseconds)
        writer.strings(words)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        format = try OutputFormat.decode(from: &reader)
        timeLimitMilliseconds = try reader.integer()
        words = try reader.strings(max: Self.wordsMax)
    }
}

/// A command for its owner: invocation u64 · format u8 · command · arguments.
public struct Invocation: Hashable, Sendable, WireCodable {
    public var id: UInt64
    public var format: OutputFormat
    public var command: String
    public var arguments: [String]

    public init(id: UInt64, format: OutputFormat, command: String, arguments: [String]) {
        self.id = id
        self.format = format
        self.command = command
        self.arguments = arguments
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(id)
        writer.integer(format.rawValue)
        writer.string(command)
        writer.strings(arguments)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.integer()
        format = try OutputFormat.decode(from: &reader)
        command = try reader.string(max: CommandSpec.nameBytesMax)
        arguments = try reader.strings(max: ExecuteRequest.wordsMax)
    }
}

/// How a command ended. Raw values are the exit status of `saf console`.
public enum CommandStatus: UInt8, Hashable, Sendable, CaseIterable {
    case done = 0
    /// The command ran and failed; its text says why.
    case failed = 1
    /// The line is wrong: unknown owner or command, wrong arguments.
    case usage = 2
    /// The owner is gone or did not answer in time.
    case unavailable = 3
}

/// An owner's answer: invocation u64 · status u8 · text.
public struct CommandResult: Hashable, Sendable, WireCodable {
    /// Longer output is cut by the owner's library, with a mark that says so.
    public static let textBytesMax = 1 << 20

    public var invocation: UInt64
    public var status: CommandStatus
    public var text: String

    public init(invocation: UInt64, status: CommandStatus, text: String) {
        self.invocation = invocation
        self.status = status
        self.text = text
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(invocation)
        writer.integer(status.rawValue)
        writer.string(text)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        invocation = try reader.integer()
        status = try CommandStatus.decode(from: &reader)
        text = try reader.string(max: Self.textBytesMax)
    }
}

/// A part of a command's output: status u8 · text · continuation u64 (0 = this was the last).
public struct CommandPage: Hashable, Sendable, WireCodable {
    public static let textBytesMax = 32_768

    public var status: CommandStatus
    public var text: String
    /// Asks for the next page; valid for a short time and only once.
    public var continuation: UInt64

    public init(status: CommandStatus, text: String, continuation: UInt64 = 0) {
        self.status = status
        self.text = text
        self.continuation = continuation
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(status.rawValue)
        writer.string(text)
        writer.integer(continuation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        status = try CommandStatus.decode(from: &reader)
        text = try reader.string(max: Self.textBytesMax)
        continuation = try reader.integer()
    }
}

/// continuation u64.
public struct PageRequest: Hashable, Sendable, WireCodable {
    public var continuation: UInt64

    public init(continuation: UInt64) { self.continuation = continuation }

    public func encode(to writer: inout ByteWriter) { writer.integer(continuation) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { continuation = try reader.integer() }
}

/// count u32 · owners.
public struct OwnerList: Hashable, Sendable, WireCodable {
    public static let ownersMax = 1_024

    public var owners: [OwnerDescription]

    public init(owners: [OwnerDescription]) { self.owners = owners }

    public func encode(to writer: inout ByteWriter) { writer.list(owners) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { owners = try reader.list(max: Self.ownersMax) }
}
