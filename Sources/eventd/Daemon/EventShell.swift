import AmfClient
import CliClient
import CliProtocol
import EOLoop
import EngineKit
import EventEngine
import EventProtocol
import IOC
import LogClient
import OSAL
import SAFTypes

/// Everything of eventd that touches the world; decides nothing about events.
final class EventShell {
    private let loop: Loop
    private let files: RecordFiles
    private let server: IOCServer
    private let commands: LoopCommands
    private let component: DaemonComponent
    private var engine: EventEngine
    private var requests: [UInt64: Request] = [:]
    private var nextTicket: UInt64 = 0
    private var peers: [ClientID: Peer] = [:]
    private var timer: LoopTimer?

    init(loop: Loop, places: Places) throws(OSError) {
        self.loop = loop
        files = try RecordFiles(places: places)
        // Nanoseconds of the day: no earlier life can have given so many ids.
        engine = EventEngine(firstEventID: EventID(clamping: MonotonicClock.wallNanoseconds()))
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.eventd), places: places)
        component = DaemonComponent(loop: loop, places: places) { loop.stop() }
        commands = LoopCommands(loop: loop, places: places, owner: "eventd")
        restore()
        server.onConnect = { [unowned self] peer in
            let client = ClientID(peer.id.rawValue)
            peers[client] = peer
            peer.onWritable = { [unowned self] in process(.writable(client)) }
        }
        server.onDisconnect = { [unowned self] peer in
            peers[ClientID(peer.id.rawValue)] = nil
            process(.clientLeft(ClientID(peer.id.rawValue)))
        }
        server.onRequest = { [unowned self] request, body in handle(request, body) }
        registerCommands()
    }

    func stop() {
        component.close()
        commands.close()
        server.close()
    }

    private func restore() {
        let (records, damaged) = files.load()
        for path in damaged { Log.error("record \(path) is damaged and was moved aside", area: "EVT", context: "RST") }
        for effect in engine.restore(records) { perform(effect) }
        if !records.isEmpty {
            Log.notice("\(records.count) channels and retained events found again", area: "EVT", context: "RST")
        }
    }

    private func handle(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        let decoded: EventRequest
        do throws(DecodeError) {
            decoded = try EventRequest(code: request.code, body: body)
        } catch {
            return request.fail(.invalidParam, "\(error)")
        }
        nextTicket += 1
        requests[nextTicket] = request
        let client = ClientID(request.peer.id.rawValue)
        let wall = MonotonicClock.wallNanoseconds()
        process(.request(decoded, client: client, ticket: nextTicket, wall: wall))
    }

    /// One event and what follows. What a client had no room for is given back last first, so that it keeps its order.
    private func process(_ event: EventEngine.Event) {
        var refused: [(delivery: EventDelivery, client: ClientID)] = []
        for effect in engine.handle(event, at: loop.now) {
            guard case .deliver(let delivery, let client) = effect else {
                perform(effect)
                continue
            }
            let isBehindRefused = refused.contains { $0.client == client }
            if isBehindRefused || !deliver(delivery, to: client) { refused.append((delivery, client)) }
        }
        for (delivery, client) in refused.reversed() {
            for effect in engine.handle(.refused(delivery, client: client), at: loop.now) { perform(effect) }
        }
    }

    /// False when the client has no room; true also when it has gone.
    private func deliver(_ delivery: EventDelivery, to client: ClientID) -> Bool {
        guard let peer = peers[client], peer.isConnected else { return true }
        // A lane for each priority, so that what is important overtakes inside the connection, too.
        let lane = Lane(rawValue: delivery.event.priority.rawValue) ?? .low
        return peer.push(EventDelivery.code, lane: lane, delivery.encoded) == .queued
    }

    private func perform(_ effect: EventEngine.Effect) {
        switch effect {
        case .reply(let ticket, let result): reply(ticket, result)
        case .deliver: break  // in process(_:), which keeps the order
        case .keep(let key, let record):
            do throws(OSError) {
                try files.keep(key, record)
            } catch {
                Log.error("\(key) will not survive a restart of eventd: \(error)", area: "EVT", context: "RST")
            }
        case .forget(let key): files.forget(key)
        case .setTimer(let instant):
            if let timer { loop.cancel(timer) }
            timer = instant.map { instant in
                loop.schedule(after: max(.milliseconds(1), instant - loop.now)) { [unowned self] in
                    timer = nil
                    process(.timer)
                }
            }
        }
    }

    private func reply(_ ticket: UInt64, _ result: Result<EventEngine.EventReply, EventFailure>) {
        guard let request = requests.removeValue(forKey: ticket) else { return }
        switch result {
        case .success(.done): request.reply([])
        case .success(.published(let id)): request.reply(PublishedEvent(id: id).encoded)
        case .success(.channels(let list)): request.reply(list.encoded)
        case .failure(let failure): request.fail(failure.code, failure.text)
        }
    }

    private func registerCommands() {
        commands.register(CommandSpec(name: "channels", help: "the channels of this node")) { [unowned self] _, reply in
            let list = engine.channelList.channels
            reply.either(
                text: list.isEmpty ? "no channels" : list.map(\.line).joined(separator: "\n"),
                json: .array(list.map(\.json)))
        }
    }
}

extension ChannelStatus {
    fileprivate var line: String {
        "\(name): \(publishers) publishers, \(subscribers) subscribers, \(published) published, \(retained) retained, "
            + "\(dropped) dropped\(isUnlinked ? ", unlinked" : "")"
    }

    fileprivate var json: JSONValue {
        .object([
            .init("name", .string(name.description)), .init("unlinked", .bool(isUnlinked)),
            .init("publishers", .integer(Int64(publishers))), .init("subscribers", .integer(Int64(subscribers))),
            .init("published", .integer(Int64(clamping: published))), .init("retained", .integer(Int64(retained))),
            .init("dropped", .integer(Int64(clamping: dropped))),
        ])
    }
}
