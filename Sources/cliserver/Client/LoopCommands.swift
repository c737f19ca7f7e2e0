public import CliProtocol
public import EOLoop
import IOC
public import OSAL
import SAFTypes

/// The console commands of a daemon: registered with cliserver, also after either was restarted. Loop thread only.
///
/// Without a cliserver nothing happens, until there is one.
public final class LoopCommands {
    public typealias Handler = (CommandArguments, CommandReply) -> Void

    private let loop: Loop
    private let owner: String
    private let connection: LoopConnection
    private var commands: [RegisteredCommand<Handler>] = []
    private var isRegistrationDue = false
    private static let timeout: Duration = .seconds(10)

    /// - Parameter owner: the word before the command on the console: the daemon's name.
    public init(loop: Loop, places: Places, owner: String) {
        self.loop = loop
        self.owner = owner
        connection = LoopConnection(loop: loop, to: .wellKnown(.cliserver), places: places)
        connection.onUp = { [unowned self] _ in register() }
        connection.onPush = { [unowned self] code, body, descriptors in
            for descriptor in descriptors { IO.close(descriptor) }
            heard(code, body)
        }
    }

    /// Adds a command, or replaces the one of the same name. The handler is called on the loop and must not block; it
    /// may keep its reply and answer later.
    public func register(_ spec: CommandSpec, _ handler: @escaping Handler) {
        commands.removeAll { $0.spec.name == spec.name }
        commands.append(RegisteredCommand(spec: spec, handler: handler))
        guard !isRegistrationDue else { return }
        isRegistrationDue = loop.enqueue(.low) { [weak self] in
            self?.isRegistrationDue = false
            self?.register()
        }
    }

    public func close() { connection.close() }

    private func register() {
        guard connection.isUp, !commands.isEmpty else { return }
        let description = OwnerDescription(
            name: owner, kind: .daemon, pid: UInt32(Environment.processID), commands: commands.map(\.spec))
        connection.call(CliRequestCode.register.rawValue, description.encoded, lane: .low, timeout: Self.timeout) { _ in
        }
    }

    private func heard(_ code: UInt16, _ body: UnsafeRawBufferPointer) {
        guard code == CliPushCode.invoke.rawValue, let invocation = try? Invocation(decoding: body) else { return }
        // The reply stays on the loop's thread, as everything here does.
        nonisolated(unsafe) let answer: (CommandStatus, String) -> Void = { [weak self] status, text in
            let result = CommandResult(invocation: invocation.id, status: status, text: text)
            self?.connection.call(CliRequestCode.result.rawValue, result.encoded, timeout: Self.timeout) { _ in }
        }
        let reply = CommandReply(format: invocation.format) { status, text in answer(status, text) }
        guard let command = commands.first(where: { $0.spec.name == invocation.command }) else {
            return reply.fail("\(owner) has no command '\(invocation.command)' any more")
        }
        let arguments = CommandArguments(invocation.arguments, format: invocation.format, spec: command.spec)
        command.handler(arguments, reply)
    }
}
