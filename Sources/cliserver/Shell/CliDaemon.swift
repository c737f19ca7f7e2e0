import AmfProtocol
import CliEngine
import CliProtocol
public import EOLoop
import EngineKit
import IOC
import IOCCluster
public import OSAL
import SAFTypes
import SafText

/// The shell of cliserver: performs what ``CliEngine`` decides. Loop thread only.
public final class CliDaemon {
    private let loop: Loop
    private let server: IOCServer
    private let places: Places
    /// Made when it is needed first: while there is no amfd, looking for it would wake us ten times a second.
    private var amfd: LoopConnection?
    private var engine: CliEngine
    private var requests: [UInt64: Request] = [:]
    private var lastRequest: UInt64 = 0
    private var peers: [UInt64: Peer] = [:]
    private var deadlines: [UInt64: LoopTimer] = [:]
    private var pageTimers: [UInt64: LoopTimer] = [:]
    private static let statusTimeout: Duration = .seconds(5)

    /// - Throws: EADDRINUSE when another cliserver serves these places, and what the file system says.
    public init(loop: Loop, places: Places, version: String) throws(OSError) {
        self.loop = loop
        self.places = places
        engine = CliEngine(version: version)
        try File.makeDirectories(places.runDirectory)
        var options = ServerOptions()
        options.socketMode = 0o666  // components of every user register commands; see `refusal` for who may run them
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.cliserver), places: places, options: options)
        let access = LocalAccess.ofNode(places)
        server.admit = { access.admits(user: $0.credentials.uid, groups: $0.groups) ? nil : .access }
        server.onConnect = { [unowned self] peer in peers[peer.id.rawValue] = peer }
        server.onDisconnect = { [unowned self] peer in
            peers[peer.id.rawValue] = nil
            handle(.peerLeft(peer.id.rawValue))
        }
        server.onRequest = { [unowned self] request, body in asked(request, body) }
        loop.schedule(after: engine.limits.settlingTime) { [weak self] in self?.handle(.settlingTimeOver) }
    }

    public func close() {
        server.close()
        amfd?.close()
    }

    private func asked(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        do throws(DecodeError) {
            guard let code = CliRequestCode(rawValue: request.code) else {
                return request.fail(.notSupported, "cliserver knows no request \(request.code)")
            }
            // The command may have been executed in an earlier life of cliserver, and need not bear a second time.
            if request.isRetransmission, code == .execute || code == .page {
                return request.fail(.timeout, "cliserver was restarted while the command ran: its outcome is unknown")
            }
            let peer = request.peer.id.rawValue
            lastRequest += 1
            let id = lastRequest
            let event: CliEngine.Event =
                switch code {
                case .register: .register(id, try OwnerDescription(decoding: body), from: peer)
                case .execute: .execute(id, try ExecuteRequest(decoding: body), from: peer)
                case .page: .page(id, try PageRequest(decoding: body), from: peer)
                case .describe: .describe(id)
                case .result: .result(id, try CommandResult(decoding: body), from: peer)
                }
            if let refusal = Self.refusal(of: event, from: request.peer.info.credentials.uid) {
                return request.fail(.access, refusal)
            }
            requests[id] = request
            handle(event)
        } catch {
            request.fail(.invalidParam, "cliserver cannot read request \(request.code): \(error)")
        }
    }

    /// Only the user cliserver runs as, and root, may run commands, or offer them in the name of a daemon.
    private static func refusal(of event: CliEngine.Event, from user: UInt32) -> String? {
        guard user != 0, user != Environment.userID else { return nil }
        switch event {
        case .execute, .page, .describe:
            return "user \(user) may not run commands; root and user \(Environment.userID) may"
        case .register(_, let owner, _) where owner.kind == .daemon:
            return "user \(user) may not register the commands of a daemon"
        default: return nil
        }
    }

    private func handle(_ event: CliEngine.Event) {
        for effect in engine.handle(event, at: loop.now) { perform(effect) }
    }

    private func perform(_ effect: CliEngine.Effect) {
        switch effect {
        case .accept(let id): requests.removeValue(forKey: id)?.reply([])
        case .refuse(let id, let error, let text): requests.removeValue(forKey: id)?.fail(error, text)
        case .page(let id, let page): requests.removeValue(forKey: id)?.reply(page.encoded)
        case .owners(let id, let owners): requests.removeValue(forKey: id)?.reply(owners.encoded)
        case .invoke(let invocation, let peer):
            let outcome = peers[peer]?.push(CliPushCode.invoke.rawValue, invocation.encoded) ?? .dropped
            if outcome == .dropped { handle(.undeliverable(invocation.id)) }
        case .cancel(let id, let peer):
            var writer = ByteWriter()
            writer.integer(id)
            peers[peer]?.push(CliPushCode.cancel.rawValue, lane: .low, writer.bytes)
        case .startDeadline(let id, let time):
            deadlines[id] = loop.schedule(after: time) { [unowned self] in
                deadlines[id] = nil
                handle(.deadlinePassed(id))
            }
        case .stopDeadline(let id): deadlines.removeValue(forKey: id).map { loop.cancel($0) }
        case .startPageTimer(let id, let time):
            pageTimers[id] = loop.schedule(after: time) { [unowned self] in
                pageTimers[id] = nil
                handle(.pageExpired(id))
            }
        case .stopPageTimer(let id): pageTimers.removeValue(forKey: id).map { loop.cancel($0) }
        case .askStatus(let id, let format): askStatus(id, format)
        }
    }

    private func forgetAmfdIfDown() {
        guard let connection = amfd, !connection.isUp else { return }
        connection.close()
        amfd = nil
    }

    private func askStatus(_ id: UInt64, _ format: OutputFormat) {
        let amfd = self.amfd ?? LoopConnection(loop: loop, to: .wellKnown(.amfd), places: places)
        self.amfd = amfd
        amfd.call(AmfRequest.status.code.rawValue, AmfRequest.status.body, timeout: Self.statusTimeout) {
            [weak self] result in
            guard let self else { return }
            if case .failure = result { loop.enqueue(.low) { [weak self] in self?.forgetAmfdIfDown() } }
            switch result {
            case .failure(let error):
                let reason = error.text.isEmpty ? "\(error.code)" : error.text
                handle(.statusArrived(id, .unavailable, "status: \(reason)\n"))
            case .success(let reply):
                do throws(DecodeError) {
                    let report = try StatusReport(decoding: reply.body)
                    let text =
                        format == .json
                        ? StatusText.json(report).text() + "\n"
                        : StatusText.render(report, now: MonotonicClock.wallNanoseconds())
                    handle(.statusArrived(id, .done, text))
                } catch {
                    handle(.statusArrived(id, .failed, "status: amfd's answer cannot be read: \(error)\n"))
                }
            }
        }
    }
}
