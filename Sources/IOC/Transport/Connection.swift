import EngineKit
import OSAL
import SAFTypes

/// A client for applications and tools: thread-safe, no loop needed.
///
/// A call writes its request into the shared ring and waits for the answer itself: whoever waits reads the ring for all
/// (the *reader*, one thread at a time); the others sleep until their answer is there or it is their turn to read. A
/// caller polls for a short while when traffic is hot and sleeps otherwise. Only pushes with a handler, and calls that
/// complete by themselves, need the background thread (``ClientRuntime``); who has a loop of his own, or no thread to
/// spare, uses ``pushDescriptor``, ``callPolled(_:_:lane:timeout:then:)`` and ``poll()``.
///
/// A lost connection is made again inside, until the deadline of whoever needs it. Requests are executed at most once
/// by one life of the server; see ``Request/isRetransmission`` for what another life does.
public final class IOCConnection: @unchecked Sendable {
    public let options: ClientOptions
    let places: Places
    let destination: Destination
    /// Names this client to the server, over all connections.
    public let session = SessionID.random()
    let lock = Lock(())

    enum Destination {
        case endpoint(Endpoint)
        case address(Address, AddressResolver)
    }

    enum Phase { case down, connecting, up, closed }

    // Everything below is guarded by `lock`, but for what only the reader touches.
    var phase = Phase.down
    var link: Link?
    var incarnation: UInt64 = 0
    var isReading = false
    /// The link was told to ring bell 1: nobody reads, but somebody listens.
    var isAnnounced = false
    var numbers = OutstandingNumbers()
    var calls = Numbered<PendingCall>()
    var asynchronousCount = 0
    var pool: [PendingCall] = []
    var downReason: Words = "not connected yet"
    /// The only call that is still made: the connection is closed when it is answered.
    var lastCode: UInt16?
    var established: (@Sendable (borrowing EstablishedContext) -> Void)?
    var lost: (@Sendable () -> Void)?
    var isReconnecting = false

    // Pushes.
    var pushHandler: (@Sendable (Push) -> Void)?
    var listensByDescriptor = false
    var pushes: [Push] = []
    var pushBytes = 0
    var pushesDropped: UInt64 = 0
    var isDelivering = false
    var selection: PushSelection?
    var retry = PolledRetry()
    var polledJobs: [PolledJob] = []
    #if !SAF_LIBRARY
        var runtimeWatch: RuntimeWatch?
    #endif

    /// Does not connect yet: the first call, or a push handler, does.
    public init(to endpoint: Endpoint, places: Places, options: ClientOptions = ClientOptions()) {
        self.options = options
        self.places = places
        destination = .endpoint(endpoint)
    }

    /// To whoever provides `address` when the connection is made; asked again after every loss.
    public init(
        to address: Address, resolver: @escaping AddressResolver, places: Places,
        options: ClientOptions = ClientOptions()
    ) {
        self.options = options
        self.places = places
        destination = .address(address, resolver)
    }

    deinit { close() }

    /// What it leads to, for people.
    public var name: Words {
        switch destination {
        case .endpoint(let endpoint): "\(endpoint)"
        case .address(let address, _): "\(address)"
        }
    }

    public var isUp: Bool { lock.withLock { _ in phase == .up } }
    /// Why there is no connection, for people.
    public var reasonDown: Words { lock.withLock { _ in downReason } }

    /// Set-up calls for every new connection: `setup` runs on the connecting thread before other calls go out.
    public func onEstablished(_ setup: @escaping @Sendable (borrowing EstablishedContext) -> Void) {
        lock.withLock { _ in established = setup }
    }

    /// The connection was lost; it is made again by itself when somebody needs it. Any thread.
    public func onLost(_ handler: @escaping @Sendable () -> Void) { lock.withLock { _ in lost = handler } }

    /// Outstanding calls fail with BAD_HANDLE, and all later ones. Idempotent.
    public func close() {
        let (gone, finished) = lock.withLock { _ -> (Link?, [PendingCall]) in
            guard phase != .closed else { return (nil, []) }
            phase = .closed
            downReason = "closed"
            let link = self.link
            self.link = nil
            return (link, endCalls())
        }
        if let gone { detach(gone) }
        for call in finished { resume(call) }
    }

    /// Ends all calls, and forgets who is to be told of what. The caller holds the lock, and resumes what is returned.
    ///
    /// - Parameter last: calls that go on.
    func endCalls(butFor last: UInt16? = nil) -> [PendingCall] {
        var finished: [PendingCall] = []
        for call in calls.inOrder where call.code != last {
            if complete(call, .failure(CallError(.badHandle, "the connection to \(name) was closed"))) {
                finished.append(call)
            }
        }
        pushHandler = nil
        established = nil
        lost = nil
        polledJobs = []
        for push in pushes { for descriptor in push.descriptors { IO.close(descriptor) } }
        pushes = []
        return finished
    }
}

/// Who provides a functional address now: the seam through which the name table comes in, so that IOC knows no clmd.
///
/// Called on the connecting thread; it may block until `deadline`. Nil: nobody does.
public typealias AddressResolver = @Sendable (_ address: Address, _ deadline: Instant) -> Endpoint?

/// What a caller sleeps on: its bell and the socket's hang-up.
final class Sleeper {
    private let poller: Poller

    init(link: Link) throws(OSError) {
        poller = try Poller()
        // As long as it is so, not once: whoever is woken may have his answer, and leave a hang-up to the next.
        try poller.add(link.socket.raw, interest: .read, token: 1)
        try poller.add(link.callerBell.raw, interest: [.read, .edgeTriggered], token: 2)
    }

    /// True when something happened on the socket.
    func sleep(atMost limit: Duration) -> Bool {
        (try? poller.wait(for: 1, timeout: limit)) ?? true
    }
}
