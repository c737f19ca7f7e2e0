public import CliProtocol
public import EngineKit
public import SAFTypes

/// Routes command lines to the owners of the commands; decides only.
///
/// A command line is `OWNER COMMAND ARGUMENTS`. `help`, `version`, `status` and what begins with
/// `cliserver` are cliserver's own. Every execution is
/// answered exactly once, by its owner, by its deadline or by its owner's death, and none waits for another.
public struct CliEngine: Engine, Sendable {
    public typealias PeerID = UInt64
    public typealias RequestID = UInt64
    public typealias InvocationID = UInt64

    public enum Event: Hashable, Sendable {
        case register(RequestID, OwnerDescription, from: PeerID)
        case execute(RequestID, ExecuteRequest, from: PeerID)
        case page(RequestID, PageRequest, from: PeerID)
        case describe(RequestID)
        case result(RequestID, CommandResult, from: PeerID)
        /// The invocation could not be handed over: the owner's queue is full.
        case undeliverable(InvocationID)
        case peerLeft(PeerID)
        case deadlinePassed(InvocationID)
        case pageExpired(UInt64)
        /// The shell's answer to ``Effect/askStatus(_:_:)``.
        case statusArrived(InvocationID, CommandStatus, String)
        /// The owners have had the time to register again after a start.
        case settlingTimeOver
    }

    public enum Effect: Hashable, Sendable {
        case accept(RequestID)
        case refuse(RequestID, AisError, String)
        case page(RequestID, CommandPage)
        case owners(RequestID, OwnerList)
        case invoke(Invocation, at: PeerID)
        case cancel(InvocationID, at: PeerID)
        case startDeadline(InvocationID, after: Duration)
        case stopDeadline(InvocationID)
        case startPageTimer(UInt64, after: Duration)
        case stopPageTimer(UInt64)
        case askStatus(InvocationID, OutputFormat)
    }

    public struct Limits: Hashable, Sendable {
        public var executionsMax = 256
        public var executionsPerOwnerMax = 32
        public var timeLimitMax: Duration = .seconds(600)
        public var heldBytesMax = 16 << 20
        public var heldOutputsMax = 64
        public var pageLifetime: Duration = .seconds(30)
        /// How long after a start an unknown owner means "try again".
        public var settlingTime: Duration = .seconds(1)

        public init() {}
    }

    struct Execution: Hashable, Sendable {
        let request: RequestID
        let client: PeerID
        let owner: PeerID?
        let line: String
        let timeLimit: Duration
    }

    struct HeldOutput: Hashable, Sendable {
        let status: CommandStatus
        let client: PeerID
        var rest: Substring
    }

    public let limits: Limits
    let version: String
    var owners: [PeerID: OwnerDescription] = [:]
    var executions: [InvocationID: Execution] = [:]
    var held: [UInt64: HeldOutput] = [:]
    private var lastID: UInt64 = 0
    private var isSettled = false

    public init(version: String, limits: Limits = Limits()) {
        self.version = version
        self.limits = limits
    }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        defer { checkInvariants() }
        switch event {
        case .register(let request, let description, let peer): return register(request, description, from: peer)
        case .execute(let request, let asked, let peer): return execute(request, asked, from: peer)
        case .page(let request, let asked, let peer): return nextPage(request, asked.continuation, for: peer)
        case .describe(let request):
            let listed = ([.cliserver] + sortedOwners).prefix(OwnerList.ownersMax)
            return [.owners(request, OwnerList(owners: Array(listed)))]
        case .result(let request, let result, let peer):
            let isOurs = executions[result.invocation].map { $0.owner == peer } ?? false
            return [.accept(request)] + (isOurs ? finish(result.invocation, result.status, result.text) : [])
        case .undeliverable(let id):
            guard let execution = executions[id] else { return [] }
            let text = "\(execution.line): its owner does not take more commands now; try again"
            return finish(id, .unavailable, text)
        case .peerLeft(let peer): return left(peer)
        case .deadlinePassed(let id): return expire(id)
        case .pageExpired(let id):
            held[id] = nil
            return []
        case .statusArrived(let id, let status, let text): return finish(id, status, text)
        case .settlingTimeOver:
            isSettled = true
            return []
        }
    }

    mutating func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    /// By name, so that lists look the same every time.
    var sortedOwners: [OwnerDescription] { owners.values.sorted { ($0.name, $0.pid) < ($1.name, $1.pid) } }

    private func checkInvariants() {
        invariant(executions.count <= limits.executionsMax, "executions stay within their limit")
        invariant(held.count <= limits.heldOutputsMax, "held outputs stay within their limit")
        invariant(owners.count <= OwnerList.ownersMax, "owners stay within their limit")
    }
}

// Owners.
extension CliEngine {
    private mutating func register(
        _ request: RequestID, _ description: OwnerDescription, from peer: PeerID
    ) -> [Effect] {
        guard !description.name.isEmpty, !["help", "version", "status", "cliserver"].contains(description.name) else {
            return [.refuse(request, .invalidParam, "'\(description.name)' cannot be the name of an owner of commands")]
        }
        if let defect = description.commands.lazy.compactMap(\.defect).first {
            return [.refuse(request, .invalidParam, "\(description.name): \(defect)")]
        }
        var names: Set<String> = []
        for command in description.commands where !names.insert(command.name).inserted {
            return [.refuse(request, .exist, "\(description.name): command \(command.name) is registered twice")]
        }
        guard owners[peer] != nil || owners.count < OwnerList.ownersMax else {
            return [.refuse(request, .noResources, "at most \(OwnerList.ownersMax) owners of commands")]
        }
        owners[peer] = description
        return [.accept(request)]
    }

    private mutating func left(_ peer: PeerID) -> [Effect] {
        let owner = owners.removeValue(forKey: peer)
        var effects: [Effect] = []
        for id in executions.keys.sorted() {
            guard let execution = executions[id] else { continue }
            if execution.owner == peer {
                let text = "\(execution.line): \(owner?.name ?? "its owner") ended before it answered"
                effects += finish(id, .unavailable, text)
            } else if execution.client == peer {
                executions[id] = nil
                effects.append(.stopDeadline(id))
                if let serving = execution.owner { effects.append(.cancel(id, at: serving)) }
            }
        }
        for id in held.keys.sorted() where held[id]?.client == peer {
            held[id] = nil
            effects.append(.stopPageTimer(id))
        }
        return effects
    }
}

// Executions.
extension CliEngine {
    private mutating func execute(_ request: RequestID, _ asked: ExecuteRequest, from client: PeerID) -> [Effect] {
        guard executions.count < limits.executionsMax else {
            return [.refuse(request, .tryAgain, "\(limits.executionsMax) commands are running already; try again")]
        }
        switch resolve(asked.words) {
        case .answer(let status, let text): return present(request, status, text, to: client)
        case .unknown(let text):
            if !isSettled { return [.refuse(request, .tryAgain, "cliserver has just been started: \(text)")] }
            return present(request, .usage, text, to: client)
        case .status:
            let id = begin(request, asked, client: client, owner: nil)
            return [.startDeadline(id, after: timeLimit(of: asked)), .askStatus(id, asked.format)]
        case .command(let peer, let command, let arguments):
            let running = executions.values.filter { $0.owner == peer }.count
            guard running < limits.executionsPerOwnerMax else {
                let text = "\(asked.words[0]): \(running) commands wait for it already; try again"
                return present(request, .unavailable, text, to: client)
            }
            let id = begin(request, asked, client: client, owner: peer)
            let invocation = Invocation(id: id, format: asked.format, command: command, arguments: arguments)
            return [.startDeadline(id, after: timeLimit(of: asked)), .invoke(invocation, at: peer)]
        }
    }

    private mutating func begin(
        _ request: RequestID, _ asked: ExecuteRequest, client: PeerID, owner: PeerID?
    ) -> InvocationID {
        let id = nextID()
        let line = asked.words.prefix(2).joined(separator: " ")
        executions[id] = Execution(
            request: request, client: client, owner: owner, line: line, timeLimit: timeLimit(of: asked))
        return id
    }

    private func timeLimit(of asked: ExecuteRequest) -> Duration {
        min(max(.milliseconds(Int64(asked.timeLimitMilliseconds)), .milliseconds(1)), limits.timeLimitMax)
    }

    private mutating func expire(_ id: InvocationID) -> [Effect] {
        guard let execution = executions[id] else { return [] }
        let name = execution.owner.flatMap { owners[$0]?.name } ?? "amfd"
        let text = "\(execution.line): \(name) did not answer within \(execution.timeLimit)"
        var effects = finish(id, .unavailable, text)
        if let owner = execution.owner { effects.append(.cancel(id, at: owner)) }
        return effects
    }

    private mutating func finish(_ id: InvocationID, _ status: CommandStatus, _ text: String) -> [Effect] {
        guard let execution = executions.removeValue(forKey: id) else { return [] }
        return [.stopDeadline(id)] + present(execution.request, status, text, to: execution.client)
    }
}

// Output in pages.
extension CliEngine {
    mutating func present(
        _ request: RequestID, _ status: CommandStatus, _ text: String, to client: PeerID
    ) -> [Effect] {
        let (first, rest) = Self.split(text[...])
        guard !rest.isEmpty else { return [.page(request, CommandPage(status: status, text: String(first)))] }
        let heldBytes = held.values.reduce(0) { $0 + $1.rest.utf8.count }
        guard held.count < limits.heldOutputsMax, heldBytes + rest.utf8.count <= limits.heldBytesMax else {
            return [.refuse(request, .tryAgain, "too much output waits to be read by others; try again")]
        }
        let id = nextID()
        held[id] = HeldOutput(status: status, client: client, rest: rest)
        return [
            .startPageTimer(id, after: limits.pageLifetime),
            .page(request, CommandPage(status: status, text: String(first), continuation: id)),
        ]
    }

    private mutating func nextPage(_ request: RequestID, _ id: UInt64, for client: PeerID) -> [Effect] {
        guard var output = held[id], output.client == client else {
            return [.refuse(request, .notExist, "this output is no longer kept; run the command again")]
        }
        let (page, rest) = Self.split(output.rest)
        held[id] = nil
        guard !rest.isEmpty else {
            return [.stopPageTimer(id), .page(request, CommandPage(status: output.status, text: String(page)))]
        }
        output.rest = rest
        let next = nextID()
        held[next] = output
        return [
            .stopPageTimer(id), .startPageTimer(next, after: limits.pageLifetime),
            .page(request, CommandPage(status: output.status, text: String(page), continuation: next)),
        ]
    }

    /// At the last line end that fits, or else between two characters.
    private static func split(_ text: Substring) -> (page: Substring, rest: Substring) {
        let bytes = text.utf8
        guard bytes.count > CommandPage.textBytesMax else { return (text, "") }
        var end = bytes.index(bytes.startIndex, offsetBy: CommandPage.textBytesMax)
        if let newline = bytes[..<end].lastIndex(of: UInt8(ascii: "\n")) {
            end = bytes.index(after: newline)
        } else {
            while bytes[end] & 0xC0 == 0x80 { end = bytes.index(before: end) }
        }
        return (text[..<end], text[end...])
    }
}
