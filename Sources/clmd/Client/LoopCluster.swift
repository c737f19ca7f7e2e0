public import ClmProtocol
public import EOLoop
import IOC
public import OSAL
public import SAFTypes

/// The name table and the membership for daemons: never blocks; what was bound and subscribed is set up again by itself
/// when clmd was restarted. Loop thread only.
public final class LoopCluster {
    private let connection: LoopConnection
    private var bindings: Set<NameBinding> = []
    private var subscriptions = TopologySubscriptions<(TopologyEvent) -> Void>()
    private var viewHandler: ((ClusterView) -> Void)?
    private static let timeout: Duration = .seconds(10)

    public init(loop: Loop, places: Places) {
        connection = LoopConnection(loop: loop, to: .wellKnown(.clmd), places: places)
        connection.onUp = { [unowned self] _ in setUp() }
        connection.onPush = { [unowned self] code, body, descriptors in
            for descriptor in descriptors { IO.close(descriptor) }
            heard(code, body)
        }
    }

    public func close() { connection.close() }

    /// Keeps `binding` in the name table until ``unbind(_:)`` or the end of this process.
    public func bind(_ binding: NameBinding) {
        if bindings.insert(binding).inserted, connection.isUp { ask(.bind, binding.encoded) }
    }

    public func unbind(_ binding: NameBinding) {
        if bindings.remove(binding) != nil, connection.isUp { ask(.withdraw, binding.encoded) }
    }

    /// Calls `handler` for everything bound in `range` now and for every change. What ``unsubscribe(_:)`` wants.
    @discardableResult
    public func subscribe(_ range: ServiceRange, _ handler: @escaping (TopologyEvent) -> Void) -> UInt32 {
        let number = subscriptions.add(range, handler)
        if connection.isUp, let request = subscriptions.renew(number) { ask(.subscribe, request.encoded) }
        return number
    }

    public func unsubscribe(_ number: UInt32) {
        if let wireNumber = subscriptions.remove(number), connection.isUp { forget(wireNumber) }
    }

    /// Calls `handler` with the present view and every later one, with all nodes.
    public func track(_ handler: @escaping (ClusterView) -> Void) {
        viewHandler = handler
        if connection.isUp { trackViews() }
    }

    /// Who provides `instance` of `type`, the nearest first; fails with `.notExist` when nobody does.
    public func lookup(
        type: UInt32, instance: UInt32, timeout: Duration, then: @escaping (Result<[PortAddress], AisError>) -> Void
    ) {
        let request = LookupRequest(type: type, instance: instance)
        connection.call(ClmRequestCode.lookup.rawValue, request.encoded, timeout: timeout) { result in
            switch result {
            case .failure(let error): then(.failure(error.code))
            case .success(let reply):
                let found = try? LookupReply(decoding: reply.body)
                then(found.map { .success($0.addresses) } ?? .failure(.library))
            }
        }
    }

    private func setUp() {
        for binding in bindings.sorted() { ask(.bind, binding.encoded) }
        for request in subscriptions.renewAll() { ask(.subscribe, request.encoded) }
        if viewHandler != nil { trackViews() }
    }

    private func ask(_ code: ClmRequestCode, _ body: [UInt8]) {
        // What fails because the connection is lost is asked again on the next one.
        connection.call(code.rawValue, body, timeout: Self.timeout) { _ in }
    }

    private func forget(_ wireNumber: UInt32) {
        var writer = ByteWriter()
        writer.integer(wireNumber)
        ask(.unsubscribe, writer.bytes)
    }

    private func trackViews() {
        let flags: TrackFlags = [.current, .changes]
        connection.call(ClmRequestCode.track.rawValue, flags.encoded, timeout: Self.timeout) { [weak self] result in
            guard case .success(let reply) = result, let view = try? ClusterView(decoding: reply.body) else { return }
            self?.viewHandler?(view)
        }
    }

    private func heard(_ code: UInt16, _ body: UnsafeRawBufferPointer) {
        switch ClmPushCode(rawValue: code) {
        case .topology:
            guard let notice = try? TopologyNotice(decoding: body) else { return }
            switch subscriptions.heard(notice) {
            case .events(let events, let handler): for event in events { handler(event) }
            case .lost(let number, let wireNumber):
                forget(wireNumber)
                if let request = subscriptions.renew(number) { ask(.subscribe, request.encoded) }
            case .nothing: break
            }
        case .membership:
            if let view = try? ClusterView(decoding: body) { viewHandler?(view) }
        case nil: break
        }
    }
}
