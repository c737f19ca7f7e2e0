public import CliProtocol
import IOC
public import OSAL
import SAFTypes
import Synchronization

/// The console commands of an application: registered with cliserver, also after it was restarted. Any thread.
public final class CommandRegistry: Sendable {
    public typealias Handler = @Sendable (CommandArguments, CommandReply) -> Void

    private struct State {
        var commands: [RegisteredCommand<Handler>] = []
        var isListening = false
    }

    public let owner: String
    private let connection: IOCConnection
    private let state = Mutex(State())
    private static let timeout: Duration = .seconds(5)

    /// - Parameter owner: the word before the command on the console: the component's DN, of which short forms do.
    public init(owner: String, places: Places) {
        self.owner = owner
        connection = IOCConnection(to: .wellKnown(.cliserver), places: places)
        connection.onEstablished { [weak self] context in
            guard let self else { return }
            // Refused by cliserver: then the command is unknown on the console, which says so.
            _ = try? context.call(CliRequestCode.register.rawValue, description.encoded)
        }
    }

    /// Adds a command, or replaces the one of the same name. The handler runs on the library's thread and must not
    /// block; it may keep its reply and answer later, from any thread.
    public func register(_ spec: CommandSpec, _ handler: @escaping Handler) {
        let isFirst = state.withLock { state in
            state.commands.removeAll { $0.spec.name == spec.name }
            state.commands.append(RegisteredCommand(spec: spec, handler: handler))
            defer { state.isListening = true }
            return !state.isListening
        }
        if isFirst {
            _ = connection.onPush { [weak self] push in self?.heard(push) }
        } else {
            // Also while the connection is being made: its set-up may have told what there was a moment ago.
            connection.callAsync(
                CliRequestCode.register.rawValue, description.encoded, lane: .low, timeout: Self.timeout
            ) { _ in }
        }
    }

    public func close() { connection.close() }

    private var description: OwnerDescription {
        let specs = state.withLock { $0.commands.map(\.spec) }
        return OwnerDescription(name: owner, kind: .application, pid: UInt32(Environment.processID), commands: specs)
    }

    private func heard(_ push: Push) {
        for descriptor in push.descriptors { IO.close(descriptor) }
        guard push.code == CliPushCode.invoke.rawValue, let invocation = try? Invocation(decoding: push.body) else {
            return
        }
        let reply = CommandReply(format: invocation.format) { [weak self] status, text in
            let result = CommandResult(invocation: invocation.id, status: status, text: text)
            self?.connection.callAsync(CliRequestCode.result.rawValue, result.encoded, timeout: Self.timeout) { _ in }
        }
        let command = state.withLock { $0.commands.first { $0.spec.name == invocation.command } }
        guard let command else { return reply.fail("\(owner) has no command '\(invocation.command)' any more") }
        command.handler(CommandArguments(invocation.arguments, format: invocation.format, spec: command.spec), reply)
    }
}
