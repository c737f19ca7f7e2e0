import CSAF
import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFHandles
import SAFTypes
import Synchronization

/// What a program wants to be called for.
struct Callbacks {
    var open: SaCkptCheckpointOpenCallbackT?
    var synchronize: SaCkptCheckpointSynchronizeCallbackT?
    var track: SaCkptCheckpointTrackCallbackT?
}

/// Something that has to be told in a thread that dispatches.
enum Work {
    case opened(SaInvocationT, Checkpoint?, AisError)
    case synchronized(SaInvocationT, AisError?)
    /// It has something to tell; it stands in the queue once.
    case source(Source)
}

/// One use of the service by the program: what saCkptInitialize() makes. Thread-safe.
///
/// Each has a connection of its own, so that its callbacks and its end concern nobody else.
final class Client: HandleObject, @unchecked Sendable {
    let version: InterfaceVersion
    let callbacks: Callbacks
    let service: CheckpointService
    private let state = Lock(State())
    /// The node has left the cluster since the handle was made: only the end is left (B.02).
    private let isStale = Atomic(false)

    private struct State {
        var queue: [Work] = []
        var next = 0
        var isFinal = false
        var isTracking = false
        var opens = Numbered<OpenCheckpoint>()

        var isEmpty: Bool { next == queue.count }
    }

    init(_ version: InterfaceVersion, _ callbacks: Callbacks) {
        self.version = version
        self.callbacks = callbacks
        service = CheckpointService(places: .fromEnvironment())
        service.requiresMembership = version == .b02
        super.init(kind: HandleKind.client.rawValue)
    }

    var isFinal: Bool { state.withLock { $0.isFinal } }

    /// Throws `.unavailable` when this handle can only be ended any more.
    @inline(never)
    static func usable(_ handle: SaCkptHandleT) throws(AisError) -> Client {
        let client = try HandleTable.client(handle)
        guard client.isUsable else { throw .unavailable }
        return client
    }

    var isUsable: Bool { !isStale.load(ordering: .relaxed) }

    /// The error as the program may see it.
    @inline(never)
    func seen(_ error: AisError) -> AisError {
        if error == .unavailable, version == .b02 { isStale.store(true, ordering: .relaxed) }
        return version.seen(error)
    }

    func code(_ error: AisError) -> SaAisErrorT { SaAisErrorT(rawValue: seen(error).rawValue) }

    // MARK: What waits to be told

    func add(_ work: Work) {
        state.withLock { state in
            guard !state.isFinal else { return }
            if state.isEmpty { service.alert(true) }
            state.queue.append(work)
        }
    }

    private func take() -> Work? {
        state.withLock { state in
            guard !state.isFinal, !state.isEmpty else { return nil }
            let work = state.queue[state.next]
            state.next += 1
            if state.isEmpty {
                state.queue.removeAll(keepingCapacity: true)
                state.next = 0
                service.alert(false)
            }
            return work
        }
    }

    /// Tells one; false when there is none.
    private func tellNext() -> Bool {
        guard let work = take() else { return false }
        switch work {
        case .opened(let invocation, let checkpoint, let error): tellOpened(invocation, checkpoint, error)
        case .synchronized(let invocation, let error):
            callbacks.synchronize?(invocation, error.map { code($0) } ?? SA_AIS_OK)
        case .source(let source): source.tell()
        }
        return true
    }

    private func tellOpened(_ invocation: SaInvocationT, _ checkpoint: Checkpoint?, _ error: AisError) {
        guard let checkpoint else { return callbacks.open.map { $0(invocation, 0, code(error)) } ?? () }
        do throws(AisError) {
            let open = try adopt(checkpoint)
            callbacks.open?(invocation, open.handle, SA_AIS_OK)
        } catch {
            callbacks.open?(invocation, 0, code(error))
        }
    }

    func dispatch(_ flags: SaDispatchFlagsT) throws(AisError) {
        guard flags == SA_DISPATCH_ONE || flags == SA_DISPATCH_ALL || flags == SA_DISPATCH_BLOCKING else {
            throw .invalidParam
        }
        let descriptor = service.descriptor
        guard descriptor >= 0 else { throw .noResources }
        repeat {
            service.poll()
            while tellNext(), flags != SA_DISPATCH_ONE {}
            if flags != SA_DISPATCH_BLOCKING || isFinal { return }
            // Whatever it says, we look.
            _ = try? IO.waitUntil(descriptor, readable: true, deadline: nil)
        } while !isFinal
    }

    // MARK: Checkpoints

    /// Makes a handle of an open checkpoint; closes it again when this one is at its end.
    func adopt(_ checkpoint: Checkpoint) throws(AisError) -> OpenCheckpoint {
        let open = OpenCheckpoint(checkpoint, self)
        try HandleTable.shared.add(open)
        let (isTaken, isTracking) = state.withLock { state -> (Bool, Bool) in
            guard !state.isFinal else { return (false, false) }
            state.opens[open.handle] = open
            return (true, state.isTracking)
        }
        guard isTaken else {
            HandleTable.shared.remove(open)
            throw .badHandle
        }
        if isTracking { open.track(asAll: true) }
        return open
    }

    func forget(_ open: OpenCheckpoint) { state.withLock { _ = $0.opens.remove(open.handle) } }

    // MARK: Tracking

    func track() throws(AisError) {
        guard callbacks.track != nil else { throw .initialization }
        for open in setTracking(true).opens { open.track(asAll: true) }
    }

    func endTracking() throws(AisError) {
        let (wasTracking, opens) = setTracking(false)
        guard wasTracking else { throw .notExist }
        for open in opens { open.endTracking(asAll: true) }
    }

    private func setTracking(_ on: Bool) -> (wasTracking: Bool, opens: [OpenCheckpoint]) {
        state.withLock { state in
            let wasTracking = state.isTracking
            state.isTracking = on
            return (wasTracking, state.opens.inOrder)
        }
    }

    // MARK: The end

    /// How long the service is told, at most, that everything is closed; it finds out by itself when that fails.
    private static var farewell: Duration { .seconds(2) }

    /// False when it was done already.
    func end() -> Bool {
        guard HandleTable.shared.remove(self) else { return false }
        let opens = state.withLock { state -> [OpenCheckpoint] in
            state.isFinal = true
            state.queue = []
            state.next = 0
            let opens = state.opens.inOrder
            state.opens = Numbered()
            return opens
        }
        service.alert(true)  // for those who dispatch, and for good
        for open in opens { open.drop() }
        // Outside the cluster nobody answers; the service closes what it is told, and what it misses, by itself.
        let patience = isUsable ? Self.farewell : .zero
        Checkpoint.closeAll(opens.map { $0.checkpoint }, within: patience, in: service)
        return true
    }
}
