public import CliProtocol
import EngineKit
public import IOC
public import OSAL
import SAFTypes

/// A client of the console: runs command lines through cliserver. Blocking; any thread.
public final class Console: Sendable {
    public struct Output: Hashable, Sendable {
        public var status: CommandStatus
        public var text: String

        public init(status: CommandStatus, text: String) {
            self.status = status
            self.text = text
        }
    }

    private let connection: IOCConnection
    /// An answer takes longer than the command by no more than this.
    private static let margin: Duration = .milliseconds(500)
    private static let pause: Duration = .milliseconds(50)

    public init(places: Places) { connection = IOCConnection(to: .wellKnown(.cliserver), places: places) }

    /// For consoles that stay: connects now and notices a restart of cliserver while idle, so that the next command
    /// goes to the new one. A command that was sent to the old one is not repeated: its outcome would be unknown.
    public func stayConnected() {
        connection.onPush { push in for descriptor in push.descriptors { IO.close(descriptor) } }
    }

    public var isConnected: Bool { connection.isUp }

    /// Runs one command line. While cliserver is away or has just been restarted, waits for it within `timeLimit`.
    ///
    /// - Throws: `.tryAgain` no cliserver, or too busy, until the end; `.timeout` it was restarted while the command
    ///   ran, or did not answer: the outcome is unknown.
    public func run(
        _ words: [String], format: OutputFormat = .text, timeLimit: Duration = .seconds(5)
    ) throws(CallError) -> Output {
        let deadline = MonotonicClock.now() + timeLimit
        var page = try repeating(until: deadline) { (remaining) throws(CallError) in
            let request = ExecuteRequest(words: words, format: format, timeLimit: remaining)
            return try self.page(.execute, request.encoded, remaining + Self.margin)
        }
        var text = page.text
        while page.continuation != 0 {
            page = try self.page(.page, PageRequest(continuation: page.continuation).encoded, .seconds(5))
            text += page.text
        }
        return Output(status: page.status, text: text)
    }

    /// Who has registered which commands.
    public func owners(timeLimit: Duration = .seconds(5)) throws(CallError) -> [OwnerDescription] {
        let deadline = MonotonicClock.now() + timeLimit
        return try repeating(until: deadline) { (remaining) throws(CallError) in
            let reply = try connection.call(CliRequestCode.describe.rawValue, [], timeout: remaining)
            do throws(DecodeError) {
                return try OwnerList(decoding: reply.body).owners
            } catch {
                throw CallError(.library, "cliserver answered what this program does not understand: \(error)")
            }
        }
    }

    public func close() { connection.close() }

    private func page(_ code: CliRequestCode, _ body: [UInt8], _ timeout: Duration) throws(CallError) -> CommandPage {
        let reply = try connection.call(code.rawValue, body, timeout: timeout)
        do throws(DecodeError) {
            return try CommandPage(decoding: reply.body)
        } catch {
            throw CallError(.library, "cliserver answered what this program does not understand: \(error)")
        }
    }

    private func repeating<Value>(
        until deadline: Instant, _ attempt: (Duration) throws(CallError) -> Value
    ) throws(CallError) -> Value {
        while true {
            let remaining = max(deadline - MonotonicClock.now(), .milliseconds(1))
            do throws(CallError) {
                return try attempt(remaining)
            } catch {
                guard error.code == .tryAgain, MonotonicClock.now() + Self.pause < deadline else { throw error }
                let rest = Monitor<Void>(())
                let _: Void? = rest.wait(until: MonotonicClock.now() + Self.pause) { _ in nil }
            }
        }
    }
}
