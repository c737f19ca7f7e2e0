import EOLoop
import OSAL
import SAFTypes

/// Numbers the connections of one server; never used twice.
public struct PeerID: Hashable, Comparable, Sendable {
    public var rawValue: UInt64
    public init(_ value: UInt64) { rawValue = value }
    public static func < (left: PeerID, right: PeerID) -> Bool { left.rawValue < right.rawValue }
}

/// Who connected, as the kernel says it.
public struct PeerInfo: Hashable, Sendable {
    public let credentials: PeerCredentials
    /// All groups of the process, its own included.
    public let groups: [UInt32]
    public let session: SessionID
    /// With the pid it names the process for ever. Source: /proc/PID/stat, field 22; 0 when it was gone already.
    public let startTime: UInt64
}

public enum PushOutcome: Equatable, Sendable {
    case queued
    /// The lane was full (or the peer gone): the frame is lost and counted in ``Peer/droppedFrames``.
    case dropped
}

/// One connected client, at the server. Loop thread only.
public final class Peer: Hashable {
    public let id: PeerID
    public let info: PeerInfo
    /// The same client (process and session) was connected before.
    public let isReconnect: Bool
    /// The service's own.
    public var context: AnyObject?
    /// Called when a lane that was full has room again.
    public var onWritable: (() -> Void)?
    /// Pushes that were dropped since the connection stands.
    public private(set) var droppedFrames: UInt64 = 0
    /// Why the connection ended; nil while it stands.
    public internal(set) var endReason: String?

    let link: Link
    let session: Session
    /// Nil when the server was closed and is gone: then there is nobody to drop us, and nothing to do.
    var server: IOCServer? { backlink.owner }
    private let backlink: Backlink<IOCServer>
    var bellWatch: WatchID?
    var socketWatch: WatchID?
    var isHot = false
    private var wantsSpace = false

    init(id: PeerID, info: PeerInfo, isReconnect: Bool, link: Link, session: Session, backlink: Backlink<IOCServer>) {
        self.id = id
        self.info = info
        self.isReconnect = isReconnect
        self.link = link
        self.session = session
        self.backlink = backlink
    }

    public static func == (left: Peer, right: Peer) -> Bool { left === right }
    public func hash(into hasher: inout Hasher) { hasher.combine(id) }

    /// The client's session: the same after a reconnect.
    public var sessionID: SessionID { info.session }
    public var isConnected: Bool { endReason == nil }

    /// Sends a message nobody answers; never blocks. `descriptors` stay the caller's.
    @discardableResult
    public func push(_ code: UInt16, lane: Lane = .normal, _ body: [UInt8], descriptors: [Int32] = []) -> PushOutcome {
        body.withUnsafeBytes { push(code, lane: lane, $0, descriptors: descriptors) }
    }

    @discardableResult
    public func push(
        _ code: UInt16, lane: Lane = .normal, _ body: UnsafeRawBufferPointer, descriptors: [Int32] = []
    ) -> PushOutcome {
        guard isConnected else {
            droppedFrames += 1
            return .dropped
        }
        switch link.send(FrameHeader(kind: .oneWay, lane: lane, code: code), body, descriptors: descriptors) {
        case .sent:
            link.ring()
            return .queued
        case .full:
            droppedFrames += 1
            askForSpace(lane, bytes: body.count)
            return .dropped
        case .failed:
            droppedFrames += 1
            return .dropped
        case .broken(let reason):
            droppedFrames += 1
            server?.dropSoon(self, reason: reason)
            return .dropped
        }
    }

    /// Frames sent that the client has not taken yet.
    public var queuedFrames: Int { Lane.allCases.reduce(0) { $0 + link.writer.queuedFrames($1) } }

    /// Hangs up. ``IOCServer/onDisconnect`` is called, later in this turn of the loop.
    public func disconnect(reason: String) { server?.dropSoon(self, reason: reason) }

    // MARK: Answers

    /// Sends what the session remembers at `index`, or leaves it for when there is room.
    func send(answer index: Int) {
        let entry = session.memory.entries[index]
        let header = FrameHeader(
            kind: entry.kind, lane: entry.lane, code: entry.code, number: entry.number, status: entry.status)
        let outcome = entry.body.withUnsafeBytes {
            link.send(header, $0, descriptors: entry.descriptors.map(\.raw))
        }
        switch outcome {
        case .sent:
            session.memory.markSent(index)
            link.ring()
        case .full:
            askForSpace(entry.lane, bytes: min(entry.body.count, link.writer.layout.inlineMax(entry.lane)))
            if session.memory.isOverfull { server?.dropSoon(self, reason: "it does not read its answers") }
        case .failed:
            session.memory.markSent(index)
            refuse(entry.number, entry.lane, .noResources, "the answer could not be sent: out of memory or descriptors")
        case .broken(let reason):
            server?.dropSoon(self, reason: reason)
        }
    }

    /// A failure that is not remembered: it may be sent again, or be lost with a client that does not read.
    func refuse(_ number: UInt64, _ lane: Lane, _ error: AisError, _ text: String) {
        let header = FrameHeader(kind: .failure, lane: lane, number: number, status: error.rawValue)
        var text = text
        text.withUTF8 { bytes in
            if link.send(header, UnsafeRawBufferPointer(bytes)) == .sent { link.ring() }
        }
    }

    private func askForSpace(_ lane: Lane, bytes: Int) {
        wantsSpace = true
        let need = min(bytes + 2 * FrameHeader.size, link.writer.layout.capacity(lane) / 2)
        if !link.writer.announceWantsSpace(lane, bytes: need) { server?.markHot(self) }
    }

    /// The client took something, or there is room after all: sends what waits.
    func spaceMayBeThere() {
        guard wantsSpace, isConnected else { return }
        wantsSpace = false
        for lane in Lane.allCases {
            while !wantsSpace, isConnected, let index = session.memory.nextUnsent(lane) { send(answer: index) }
        }
        if !wantsSpace, isConnected { onWritable?() }
    }
}

/// What the server keeps of a client across its connections.
final class Session {
    let id: SessionID
    let owner: Owner
    var memory: ReplyMemory
    /// The connection it has now; cleared when that ends, which also ends the circle of references.
    var peer: Peer?
    /// Set while the client is away: when it is forgotten.
    var expiry: LoopTimer?
    /// Orders the sessions that wait, so that the oldest is forgotten first.
    var detachedAt: UInt64 = 0

    /// A session belongs to a process: another one that knows its number does not get it.
    struct Owner: Hashable {
        var pid: Int32
        var startTime: UInt64
        var uid: UInt32
    }

    init(id: SessionID, owner: Owner, limits: ReplyMemory.Limits) {
        self.id = id
        self.owner = owner
        memory = ReplyMemory(limits: limits)
    }

    /// Remembers the answer and sends it on the connection there is now, if any.
    func answer(
        _ number: UInt64, kind: FrameKind, status: UInt32, _ body: UnsafeRawBufferPointer, _ descriptors: [Int32]
    ) {
        var owned: [SharedDescriptor] = []
        for descriptor in descriptors {
            guard let copy = try? Descriptor(duplicating: descriptor) else {
                let text = Array("the server is out of descriptors".utf8)
                text.withUnsafeBytes {
                    answer(number, kind: .failure, status: AisError.noResources.rawValue, $0, [])
                }
                return
            }
            owned.append(SharedDescriptor(copy))
        }
        guard let index = memory.finish(number, kind: kind, status: status, body: body, descriptors: owned) else {
            return
        }
        if let peer { peer.send(answer: index) } else { memory.markSent(index) }
    }
}

/// One request to answer. It may be kept and answered later; answering a peer that has gone is harmless.
public struct Request {
    public let peer: Peer
    /// The same for every arrival of this request, for services that keep what they executed.
    public let id: RequestID
    public let code: UInt16
    public let lane: Lane
    /// The request may have been executed by an earlier life of this server (or another one that knew the session).
    ///
    /// Retransmissions that this life of the server knows never reach the service.
    public let isRetransmission: Bool
    /// The client wants no answer up to this number any more: what a service keeps of its requests up to there may go.
    public let acknowledged: UInt64
    /// Owned by whoever handles the request: wrap each in a ``OSAL/Descriptor`` or close it.
    public let descriptors: [Int32]

    public func reply(_ body: [UInt8], descriptors: [Int32] = []) {
        body.withUnsafeBytes { reply($0, descriptors: descriptors) }
    }

    /// Answers; `body` and `descriptors` stay the caller's. A second answer is ignored.
    public func reply(_ body: UnsafeRawBufferPointer, descriptors: [Int32] = []) {
        session.answer(id.number, kind: .reply, status: 0, body, descriptors)
    }

    public func fail(_ error: AisError, _ text: String = "") {
        var text = text
        text.withUTF8 {
            session.answer(id.number, kind: .failure, status: error.rawValue, UnsafeRawBufferPointer($0), [])
        }
    }

    let session: Session
}
