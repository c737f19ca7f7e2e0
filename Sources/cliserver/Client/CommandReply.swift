public import CliProtocol
import Synchronization

/// The arguments of a command, checked against its specification before its handler sees them.
public struct CommandArguments: Sendable {
    /// As typed, in order.
    public let words: [String]
    /// What the person, or the program, wants to read.
    public let format: OutputFormat
    private let spec: CommandSpec

    init(_ words: [String], format: OutputFormat, spec: CommandSpec) {
        (self.words, self.format, self.spec) = (words, format, spec)
    }

    /// The word for an argument; nil when it was left out.
    public subscript(name: String) -> String? {
        guard let index = spec.arguments.firstIndex(where: { $0.name == name }), index < words.count else { return nil }
        return words[index]
    }

    /// All words of a repeated argument.
    public func all(_ name: String) -> [String] {
        guard let index = spec.arguments.firstIndex(where: { $0.name == name }), index < words.count else { return [] }
        return Array(words[index...])
    }

    public func integer(_ name: String) -> Int64? { self[name].flatMap { Int64($0) } }

    public func flag(_ name: String) -> Bool? { self[name].map { ["true", "on", "yes"].contains($0.lowercased()) } }

    public func duration(_ name: String) -> Duration? {
        guard let word = self[name] else { return nil }
        let digits = word.prefix { ("0"..."9").contains($0) }
        let scales: [String: Int64] = [
            "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
            "d": 86_400_000_000_000,
        ]
        guard let count = Int64(digits), let scale = scales[String(word.dropFirst(digits.count))] else { return nil }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: scale)
        return overflow ? nil : .nanoseconds(nanoseconds)
    }
}

/// Where a command's handler puts its answer; may be kept and answered later, once.
///
/// One that is forgotten answers by itself that it was, so nobody waits in vain.
public final class CommandReply: Sendable {
    private let deliver: Mutex<(@Sendable (CommandStatus, String) -> Void)?>
    private let format: OutputFormat

    init(format: OutputFormat, _ deliver: @escaping @Sendable (CommandStatus, String) -> Void) {
        self.format = format
        self.deliver = Mutex(deliver)
    }

    deinit { answer(.failed, "the command ended without an answer\n") }

    /// Answers with text, also when JSON was asked for.
    public func text(_ text: String) { answer(.done, text.hasSuffix("\n") || text.isEmpty ? text : text + "\n") }

    /// Answers with JSON: on one line when JSON was asked for, indented otherwise.
    public func json(_ value: JSONValue) { answer(.done, value.text(pretty: format == .text) + "\n") }

    /// Answers with whichever form was asked for; the other is not made.
    public func either(text: @autoclosure () -> String, json: @autoclosure () -> JSONValue) {
        if format == .json { self.json(json()) } else { self.text(text()) }
    }

    /// The command could not be done; `reason` says why and what to do.
    public func fail(_ reason: String) { answer(.failed, reason.hasSuffix("\n") ? reason : reason + "\n") }

    private func answer(_ status: CommandStatus, _ text: String) {
        let deliver = self.deliver.withLock { slot in
            defer { slot = nil }
            return slot
        }
        deliver?(status, Self.bounded(text))
    }

    /// Cuts what is longer than an answer may be at a line end, and says so.
    static func bounded(_ text: String) -> String {
        let limit = CommandResult.textBytesMax
        let bytes = text.utf8
        guard bytes.count > limit else { return text }
        let mark = "… cut: \(bytes.count) bytes of output, at most \(limit) are shown; ask for less\n"
        let end = bytes.index(bytes.startIndex, offsetBy: limit - mark.utf8.count)
        let cut = bytes[..<end].lastIndex(of: UInt8(ascii: "\n")).map { bytes.index(after: $0) } ?? bytes.startIndex
        return String(text[..<cut]) + mark
    }
}

/// A command and who executes it.
struct RegisteredCommand<Handler> {
    let spec: CommandSpec
    let handler: Handler
}
