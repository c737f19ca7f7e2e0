import CkptEngine
import CkptProtocol
import CkptStore
import EOLoop
import EngineKit
import IOC
import OSAL
import SAFTypes

/// Everything of ckptd that touches the world: frames in and out, RAM files, timers, words. It decides nothing.
final class CkptShell {
    private let loop: Loop
    private let files: CheckpointFiles
    private let journal: Journal
    private var engine: CkptEngine
    private let subscriptions: Subscriptions
    private var server: IOCServer?
    private var timers: [CkptTimer: LoopTimer] = [:]
    private var writer = ByteWriter(reserving: 4096)

    // The request that is being handled, and its body.
    private var request: Request?
    private var body = UnsafeRawBufferPointer(start: nil, count: 0)
    private var committed: Transaction?

    /// Timers longer than this are looked at again in between; the engine starts them anew.
    private static let timerMax = Duration.seconds(86_400)

    init(loop: Loop, places: Places, journal: Journal) throws(StoreError) {
        self.loop = loop
        self.journal = journal
        files = try CheckpointFiles(directory: "\(places.shmDirectory)/ckpt")
        subscriptions = Subscriptions(files: files)
        let found = try files.recover()
        for damage in found.damaged { journal.write(damage) }
        let seconds = UInt64(clamping: MonotonicClock.wallNanoseconds() / 1_000_000_000)
        engine = CkptEngine(
            incarnation: CkptEngine.incarnation(seconds: seconds, found: found.checkpoints, node: nil))
        for checkpoint in found.checkpoints { process(.restored(checkpoint)) }
        for (session, process) in engine.absentSessions where !isAlive(process) {
            self.process(.disconnected(session, isDead: true))
        }
    }

    func serve(places: Places) throws(OSError) {
        var options = ServerOptions()
        // Components run as any user; the engine checks what only an administrator may ask.
        options.socketMode = 0o666
        let server = try IOCServer(loop: loop, endpoint: .wellKnown(.ckptd), places: places, options: options)
        server.onConnect = { [unowned self] peer in process(.connected(Self.session(peer), Self.process(peer))) }
        server.onDisconnect = { [unowned self] peer in disconnected(peer) }
        server.onRequest = { [unowned self] request, body in handle(request, body) }
        self.server = server
    }

    func stop() { server?.close() }

    private static func session(_ peer: Peer) -> ClientSession {
        ClientSession(high: peer.info.session.high, low: peer.info.session.low)
    }

    private static func process(_ peer: Peer) -> ProcessIdentity {
        ProcessIdentity(id: UInt32(bitPattern: peer.info.credentials.pid), start: peer.info.startTime)
    }

    private func isAlive(_ process: ProcessIdentity) -> Bool {
        Process.isAlive(Int32(bitPattern: process.id), startTime: process.start)
    }

    private func disconnected(_ peer: Peer) {
        let session = Self.session(peer)
        let isReplaced = server?.peers.contains { $0 != peer && $0.isConnected && Self.session($0) == session } ?? false
        if isReplaced { return }
        process(.disconnected(session, isDead: !isAlive(Self.process(peer))))
    }

    private func handle(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        guard let code = CkptCode(rawValue: request.code) else {
            return request.fail(.notSupported, "request code \(request.code) is unknown to this version")
        }
        let decoded: CkptRequest
        do throws(DecodeError) {
            decoded = try CkptRequest(code: code, decoding: body)
        } catch {
            return request.fail(.invalidParam, "\(error)")
        }
        let user = request.peer.info.credentials.uid
        let origin = RequestOrigin(
            identity: RequestIdentity(session: Self.session(request.peer), number: request.id.number),
            process: Self.process(request.peer), isRetransmission: request.isRetransmission,
            isAdministrator: user == 0 || user == Environment.userID)
        self.request = request
        self.body = body
        process(.request(decoded, origin, time: MonotonicClock.wallNanoseconds()))
        self.request = nil
        self.body = UnsafeRawBufferPointer(start: nil, count: 0)
        committed = nil
    }

    /// One event and everything that follows from it.
    private func process(_ event: CkptEvent) {
        for effect in engine.handle(event, at: loop.now) { perform(effect) }
    }

    private func perform(_ effect: CkptEffect) {
        switch effect {
        case .create(let new): process(.settled(outcome { () throws(StoreError) in try files.create(new) }))
        case .commit(let transaction, let isUpdate):
            let result = outcome { () throws(StoreError) in
                try files.commit(transaction, payload: body, isUpdate: isUpdate)
            }
            if result == .done, subscriptions.hasAny(transaction.checkpoint) { committed = transaction }
            process(.settled(result))
        case .record(let transaction, let isUpdate):
            let result = outcome { () throws(StoreError) in
                try files.commit(transaction, payload: body, isUpdate: isUpdate)
            }
            if result != .done {
                journal.write(.error, "checkpoint \(transaction.checkpoint): a step was not kept: \(result)")
            }
        case .remove(let id): files.remove(id)
        case .retire(let id): files.retire(id)
        case .setAside(let id, let reason): journal.write(files.setAside(id, reason))
        case .reply(_, let answer): reply(answer)
        case .refuse(_, let error, let text): request?.fail(error, text)
        case .publish(let id):
            let fresh = committed?.checkpoint == id ? committed : nil
            committed = nil
            subscriptions.publish(id, fresh, payload: body)
        case .endSubscription(let handle): subscriptions.end(handle)
        case .startTimer(let timer, let deadline): start(timer, at: deadline)
        case .cancelTimer(let timer): if let old = timers.removeValue(forKey: timer) { loop.cancel(old) }
        case .note(let note): journal.write(note)
        case .replication, .wrote, .executed, .closeHandles: break  // on members only
        }
    }

    private func outcome(_ body: () throws(StoreError) -> Void) -> CommitOutcome {
        do throws(StoreError) {
            try body()
            return .done
        } catch {
            switch error {
            case .noSpace(let text): return .noSpace(text)
            case .corrupted(let slot): return .corrupted(slot: slot)
            case .damaged(let text), .system(let text): return .failed(text)
            }
        }
    }

    private func start(_ timer: CkptTimer, at deadline: Instant) {
        if let old = timers.removeValue(forKey: timer) { loop.cancel(old) }
        let wait = min(Self.timerMax, max(.zero, deadline - loop.now))
        timers[timer] = loop.schedule(after: wait) { [unowned self] in
            timers[timer] = nil
            process(.timerFired(timer, time: MonotonicClock.wallNanoseconds()))
        }
    }

    // MARK: For the console

    var summaries: [CheckpointSummary] { engine.summaries(at: MonotonicClock.now()) }

    var sessionCounts: (all: Int, absent: Int) { engine.sessionCounts }

    var directory: String { files.directory }

    func sections(of id: CheckpointID, limit: Int) -> [StoredSection] { engine.sections(of: id, limit: limit) }

    /// The first bytes of a section; nil when they are corrupted.
    func data(of id: CheckpointID, _ section: StoredSection, bytesMax: Int) -> [UInt8]? {
        guard section.descriptor.state == .valid else { return nil }
        let count = min(Int(clamping: section.descriptor.size), bytesMax)
        return (try? files.read(id, slot: section.slot, offset: 0, count: count)).map { Array($0) }
    }

    // MARK: Answers

    private func reply(_ answer: CkptAnswer) {
        guard let request else { return }
        writer.removeAll()
        switch answer {
        case .done: break
        case .opened(let reply): writer.value(reply)
        case .updated(let reply): writer.value(reply)
        case .status(let descriptor): writer.value(descriptor)
        case .list(let reply): writer.value(reply)
        case .data(let id, let change, let parts):
            writer.integer(change)
            writer.integer(UInt32(parts.count))
            for part in parts { if !append(id, part) { return } }
        case .snapshot(let id, let change, let sections): append(id, change, sections)
        case .subscription(let id, let handle, let after, let change, let sections):
            return startSubscription(id, handle, after, change, sections, request)
        case .adminList(let reply): writer.value(reply)
        case .adminSections(let reply, let id, let sections, let dataMax):
            writer.bool(reply.hasMore)
            writer.value(reply.summary)
            append(id, reply.snapshot.change, sections, dataMax: dataMax)
        }
        writer.bytes.withUnsafeBytes { request.reply($0) }
    }

    /// Appends the bytes of one part; false when they are corrupted and the request has been refused.
    private func append(_ id: CheckpointID, _ part: StoredPart) -> Bool {
        do throws(StoreError) {
            writer.byteString(try files.read(id, slot: part.slot, offset: part.offset, count: part.count))
            return true
        } catch {
            request?.fail(.library, "the section is corrupted; overwrite or delete it (\(error))")
            if case .corrupted(let slot) = error { process(.damaged(id, slot: slot)) }
            return false
        }
    }

    private func append(_ id: CheckpointID, _ change: UInt64, _ sections: [StoredSection], dataMax: Int = .max) {
        writer.integer(change)
        writer.integer(UInt32(sections.count))
        for section in sections {
            var descriptor = section.descriptor
            let count = min(Int(clamping: descriptor.size), dataMax)
            var data = UnsafeRawBufferPointer(start: nil, count: 0)
            if descriptor.state == .valid {
                do throws(StoreError) {
                    data = try files.read(id, slot: section.slot, offset: 0, count: count)
                } catch {
                    descriptor.state = .corrupted
                    if case .corrupted(let slot) = error { process(.damaged(id, slot: slot)) }
                }
            }
            writer.value(descriptor)
            writer.byteString(data)
        }
    }

    private func startSubscription(
        _ id: CheckpointID, _ handle: HandleID, _ after: UInt64?, _ change: UInt64, _ sections: [StoredSection],
        _ request: Request
    ) {
        let isResumed = after.map { files.positions(id, after: $0) != nil } ?? false
        if isResumed, let after {
            writer.integer(UInt8(1))
            writer.integer(after)
        } else {
            writer.integer(UInt8(2))
            append(id, change, sections)
        }
        writer.bytes.withUnsafeBytes { request.reply($0) }
        subscriptions.start(handle, of: id, peer: request.peer, after: isResumed ? after ?? change : change)
    }
}
