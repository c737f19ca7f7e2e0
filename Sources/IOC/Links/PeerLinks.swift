import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// What became of a one-way message.
public enum SendOutcome: Equatable, Sendable {
    /// Queued, in order, on a link that stands. It is lost when the link breaks before it arrives.
    case sent
    /// The lane is full: not sent. ``PeerLinks/onWritable`` says when there is room.
    case full
    /// There is no link to this node: not sent.
    case down
}

/// The links of one daemon to the daemons of its service on other nodes. Loop thread only; nothing here blocks.
///
/// A link to a node is made when it is wanted (``reach(_:)``, or the first send or call) and made again when it breaks,
/// until ``leave(_:_:)``. Requests and one-way messages travel on the link we dialed, answers come back on it; what a
/// peer wants of us comes on the link it dialed. Within a lane messages keep their order; a more urgent lane overtakes.
public final class PeerLinks {
    /// A link to a node stands. `isNew`: this life of the peer was not spoken to before and knows nothing of us.
    public var onUp: ((_ node: NodeID, _ incarnation: UInt64, _ isNew: Bool) -> Void)?
    /// A link that stood is gone, with what it had queued.
    public var onDown: ((NodeID, String) -> Void)?
    /// A one-way message; the body is valid during the call only.
    public var onMessage: ((NodeID, _ code: UInt16, Lane, UnsafeRawBufferPointer) -> Void)?
    /// A request; the body is valid during the call only. Answer it now or later.
    public var onRequest: ((PeerRequest, UnsafeRawBufferPointer) -> Void)?
    /// A lane that was full has room.
    public var onWritable: ((NodeID, Lane) -> Void)?
    /// Something an operator should read: who was refused, why a link is not made. Repetitions are left out.
    public var onTrouble: ((String) -> Void)?

    public internal(set) var description: ClusterDescription
    public private(set) var options: LinkOptions
    public let incarnation: UInt64
    let loop: Loop
    let service: WellKnownService
    let limits: LinkLimits
    /// By number, for look-ups; `order` is what is iterated.
    var peers: [UInt32: PeerNode] = [:]
    var order: [PeerNode] = []
    /// Nodes that were taken out of the cluster, by number.
    var former: [UInt32: PeerNode] = [:]
    var listeners: [LinkListener] = []
    var strangers: [LinkConnection] = []
    /// A view has named them, and the description does not yet.
    var awaited: Set<UInt32> = []
    var lastTrouble = ""
    var isStopped = false

    private var spinner: SpinnerID?
    private var dirty: [LinkConnection] = []
    private var dirtySpare: [LinkConnection] = []
    private var backlogged: [LinkConnection] = []
    private var hot: [LinkConnection] = []
    private var hadEvent = false
    /// Nil without TLS.
    let security: TlsCredentials?

    /// Bytes read from one connection before others are looked at.
    private static let readBudget = 1 << 20
    private static let hotMax = 4

    /// Listens on the addresses of the local node.
    ///
    /// - Throws: what bind(2) says, with the address; an address that is not numeric; certificates or an OpenSSL that
    ///   cannot be used.
    public init(
        loop: Loop, service: WellKnownService, description: ClusterDescription, incarnation: UInt64,
        options: LinkOptions = LinkOptions()
    ) throws(LinkError) {
        self.loop = loop
        self.service = service
        self.description = description
        self.options = options
        self.options.messages = WireOffer.here.of(options.messages)
        self.incarnation = incarnation
        limits = options.limits
        switch description.links.security {
        case .none: security = nil
        case .tls: security = try TlsCredentials(folder: description.links.certificateDirectory)
        }
        do throws(OSError) {
            try addPeers()
            try listen()
        } catch {
            throw LinkError("links of \(service.name): \(error)")
        }
        loop.pollLonger(upTo: Spinning.networkLimit)
        spinner = loop.addSpinner(
            { [unowned(unsafe) self] in poll() }, beforeSleep: { [unowned(unsafe) self] in isBusy })
    }

    deinit { close() }

    /// Ends all links and listeners. Calls outstanding fail: BAD_HANDLE.
    public func close() {
        guard !isStopped else { return }
        isStopped = true
        if let spinner { loop.removeSpinner(spinner) }
        for listener in listeners { if let watch = listener.watch { loop.unwatch(watch) } }
        listeners = []
        for stranger in strangers { discard(stranger) }
        strangers = []
        for peer in order {
            for timer in [peer.retryTimer, peer.pathTimer].compactMap({ $0 }) { loop.cancel(timer) }
            if let connection = peer.outgoing { discard(connection) }
            if let connection = peer.incoming { discard(connection) }
            (peer.outgoing, peer.incoming) = (nil, nil)
            for number in peer.calls.numbers {
                finish(peer, number, .failure(CallError(.badHandle, "the link to \(name(peer)) was closed")))
            }
        }
        (dirty, backlogged, hot) = ([], [], [])
        loop.pollsKernel = false
    }

    // MARK: What is known

    public func isUp(_ node: NodeID) -> Bool { peers[node.rawValue]?.link != nil }

    /// The version in which to write to a node: the newest of ``LinkOptions/messages`` that both builds know. Nil while
    /// there is no link to it. It changes only with a new life of either side.
    public func messages(to node: NodeID) -> UInt8? { peers[node.rawValue]?.link?.messages }

    /// The version in which a node writes to us; nil while it has no link to us. To be asked while a message of it is
    /// read: its next life may be another build.
    public func messages(from node: NodeID) -> UInt8? { peers[node.rawValue]?.incoming?.messages }

    /// All peers, in the order of their numbers.
    public var status: [LinkStatus] { order.map(\.status) }

    func name(_ peer: PeerNode) -> String { "\(service.name) on node \(peer.node.name) (\(peer.id))" }

    func trouble(_ text: String) {
        guard text != lastTrouble else { return }
        lastTrouble = text
        onTrouble?(text)
    }

    // MARK: Moving bytes

    /// Puts a connection among those with something to send, which happens before the loop sleeps.
    func markDirty(_ connection: LinkConnection) {
        guard !connection.isDirty else { return }
        connection.isDirty = true
        dirty.append(connection)
    }

    func watch(_ connection: LinkConnection) throws(OSError) {
        connection.watch = try loop.watch(connection.fd, [.read, .write, .edgeTriggered], lane: .high) {
            [unowned self, unowned connection] event in
            if event.readable || event.hangup || event.error { connection.canRead = true }
            if event.hangup || event.error { connection.isHungUp = true }
            if event.writable || event.error { connection.canWrite = true }
            hadEvent = true
            serve(connection)
        }
    }

    /// Does what the connection's readiness allows.
    func serve(_ connection: LinkConnection) {
        if connection.phase == .connecting {
            guard connection.canWrite || connection.isHungUp else { return }
            connected(connection)
        }
        if connection.mayRead { fill(connection) }
        if !connection.isClosed, connection.hasOutput { flush(connection) }
    }

    private func fill(_ connection: LinkConnection) {
        var budget = Self.readBudget
        reading: while connection.mayRead, !connection.isClosed, !connection.isPaused, connection.phase != .connecting {
            if budget <= 0 {
                if !connection.isBacklogged {
                    connection.isBacklogged = true
                    backlogged.append(connection)
                }
                return
            }
            switch connection.pull() {
            case .moved(let count):
                budget -= count
                if connection.isFreshlySecured { secured(connection) }
                takeFrames(connection)
            case .blocked: break reading
            case .ended(let reason): return end(connection, reason)
            }
        }
        if budget < Self.readBudget { noteHot(connection) }
    }

    /// The stream is over; what the other side should know of it (a TLS alert) still goes out.
    private func end(_ connection: LinkConnection, _ reason: String) {
        if let cipher = connection.cipher, !cipher.isEstablished {
            connection.pushLast()
            return lose(connection, "\(reason); \(expected(of: connection)) was expected")
        }
        lose(connection, reason)
    }

    private func noteHot(_ connection: LinkConnection) {
        guard !connection.isHot, connection.phase == .up, hot.count < Self.hotMax else { return }
        connection.isHot = true
        hot.append(connection)
        loop.pollsKernel = true
    }

    private func takeFrames(_ connection: LinkConnection) {
        do throws(DecodeError) {
            while !connection.isClosed, let frame = try connection.receiver.next() {
                try take(frame.header, frame.body, on: connection)
            }
        } catch {
            lose(connection, Self.text(error))
        }
    }

    /// For people.
    static func text(_ error: DecodeError) -> String {
        switch error {
        case .badValue(let text): text
        case .truncated(let needed, let remaining): "a body too short: \(needed) bytes needed, \(remaining) left"
        case .trailing(let count): "a body with \(count) bytes too many"
        }
    }

    private func flush(_ connection: LinkConnection) {
        var batches = 4
        while connection.canWrite, connection.hasOutput, connection.phase != .connecting {
            if batches == 0 {
                markDirty(connection)
                break
            }
            batches -= 1
            if case .ended(let reason) = connection.push() { return lose(connection, reason) }
        }
        roomMayBeThere(connection)
    }

    private func roomMayBeThere(_ connection: LinkConnection) {
        if connection.isPaused, connection.sender.queuedBytes <= limits.answersPauseAt / 2 {
            connection.isPaused = false
            if connection.mayRead, !connection.isBacklogged {
                connection.isBacklogged = true
                backlogged.append(connection)
            }
        }
        guard case .dialed(let peer, _) = connection.role, connection.phase == .up else { return }
        watchPath(peer)
        for lane in Lane.allCases where peer.lanesWanted[Int(lane.rawValue)] {
            let half = limits.laneBytesMax[Int(lane.rawValue)] / 2
            guard connection.sender.queuedBytes(lane) <= half else { continue }
            peer.lanesWanted[Int(lane.rawValue)] = false
            transmitWaiting(peer)
            onWritable?(peer.id, lane)
        }
    }

    /// Asked before the loop sleeps. What is to be sent leaves before the loop looks at anything else.
    private var isBusy: Bool {
        if !dirty.isEmpty {
            flushDirty()
            return true
        }
        if !backlogged.isEmpty || hadEvent { return true }
        for connection in hot { connection.isHot = false }
        hot.removeAll(keepingCapacity: true)
        loop.pollsKernel = false
        return false
    }

    private func flushDirty() {
        swap(&dirty, &dirtySpare)
        for connection in dirtySpare {
            connection.isDirty = false
            if !connection.isClosed { flush(connection) }
        }
        dirtySpare.removeAll(keepingCapacity: true)
    }

    /// Called every turn, and again and again while the loop polls instead of sleeping.
    private func poll() -> Bool {
        var worked = hadEvent
        if !dirty.isEmpty { flushDirty() }
        if !backlogged.isEmpty {
            let batch = backlogged
            backlogged.removeAll(keepingCapacity: true)
            for connection in batch {
                connection.isBacklogged = false
                if !connection.isClosed { serve(connection) }
            }
            worked = true
        }
        if hadEvent {
            hadEvent = false
        } else if !hot.isEmpty {
            // Polling the sockets themselves saves the wake-up, which costs more than the bytes.
            for connection in hot where !connection.isClosed && !connection.isPaused && !connection.isBacklogged {
                let before = connection.receivedBytes &+ connection.sentBytes
                connection.canRead = true
                if connection.hasOutput { connection.canWrite = true }
                serve(connection)
                if connection.receivedBytes &+ connection.sentBytes != before { worked = true }
            }
        }
        return worked
    }

    /// Closes a connection and forgets it in the lists; nobody is told.
    func discard(_ connection: LinkConnection) {
        guard !connection.isClosed else { return }
        connection.phase = .closed
        if let watch = connection.watch { loop.unwatch(watch) }
        if let timer = connection.deadline { loop.cancel(timer) }
        (connection.watch, connection.deadline) = (nil, nil)
        UnixSocket.shutDown(connection.fd)
        hot.removeAll { $0 === connection }
        if case .dialed(let peer, _) = connection.role {
            peer.sentBefore &+= connection.sentBytes
            peer.receivedBefore &+= connection.receivedBytes
        }
    }
}
