import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

/// One open of a checkpoint: what saCkptCheckpointOpen() makes. Thread-safe.
final class OpenCheckpoint: HandleObject, @unchecked Sendable {
    let checkpoint: Checkpoint
    let client: Client
    private let state = Lock(State())

    private struct State {
        var iterations = Numbered<Iteration>()
        var updates: UpdateSource?
        var replicas: ReplicaSource?
        /// What was overwritten by differences, in the order of the sections' ids.
        var mirrors: [SectionMirror] = []
        var isClosed = false

        /// Where the section's mirror is, or would be.
        func place(of section: SectionID) -> (index: Int, isThere: Bool) {
            var (low, high) = (0, mirrors.count)
            while low < high {
                let middle = (low + high) / 2
                if mirrors[middle].section < section { low = middle + 1 } else { high = middle }
            }
            return (low, low < mirrors.count && mirrors[low].section == section)
        }
    }

    init(_ checkpoint: Checkpoint, _ client: Client) {
        self.checkpoint = checkpoint
        self.client = client
        super.init(kind: HandleKind.checkpoint.rawValue)
    }

    /// Throws `.unavailable` when it can only be closed any more.
    @inline(never)
    static func usable(_ handle: SaCkptCheckpointHandleT) throws(AisError) -> OpenCheckpoint {
        let open = try HandleTable.checkpoint(handle)
        guard open.client.isUsable else { throw .unavailable }
        return open
    }

    /// The error as the program may see it.
    @inline(never)
    func seen(_ error: AisError) -> AisError { client.seen(error) }

    // MARK: Iterations

    func begin(_ iteration: Iteration) throws(AisError) {
        try HandleTable.shared.add(iteration)
        let isTaken = state.withLock { state in
            if !state.isClosed { state.iterations[iteration.handle] = iteration }
            return !state.isClosed
        }
        if isTaken { return }
        HandleTable.shared.remove(iteration)
        throw .badHandle
    }

    func end(_ iteration: Iteration) -> Bool {
        state.withLock { _ = $0.iterations.remove(iteration.handle) }
        return HandleTable.shared.remove(iteration)
    }

    // MARK: Updates

    /// The one source of this open's updates, made when it is first needed; nil once closed.
    private func source(_ change: (UpdateSource) -> Void) -> UpdateSource? {
        state.withLock { state in
            if state.isClosed { return nil }
            let source = state.updates ?? UpdateSource(self)
            change(source)
            state.updates = source.isWanted ? source : nil
            return source
        }
    }

    func follow(_ callback: SafCkptUpdatesCallbackT?, _ cookie: UnsafeMutableRawPointer?) throws(AisError) {
        guard let callback else { throw .invalidParam }
        guard checkpoint.mayRead else { throw .access }
        var wasThere = false
        let source = source { source in
            wasThere = source.follower != nil
            if !wasThere { source.follower = (callback, cookie) }
        }
        guard let source else { throw .badHandle }
        if wasThere { throw .exist }
        source.start(again: true)
    }

    func endFollowing() throws(AisError) {
        var wasThere = false
        let source = source { source in
            wasThere = source.follower != nil
            source.follower = nil
        }
        guard let source else { throw .badHandle }
        guard wasThere else { throw .notExist }
        if !source.isWanted { source.stop() }
    }

    /// Who is to be told, now.
    func wanted(
        _ source: UpdateSource
    ) -> (follower: (callback: SafCkptUpdatesCallbackT, cookie: UnsafeMutableRawPointer?)?, tracks: Bool) {
        state.withLock { _ in (source.follower, source.isTracked || source.isTrackedAsAll) }
    }

    /// - Parameter asAll: for saCkptTrack(), not for saCkptCheckpointTrack().
    func track(asAll: Bool) {
        guard checkpoint.mayRead else { return }
        source { if asAll { $0.isTrackedAsAll = true } else { $0.isTracked = true } }?.start(again: false)
    }

    @discardableResult
    func endTracking(asAll: Bool) -> Bool {
        var wasThere = false
        let source = source { source in
            wasThere = asAll ? source.isTrackedAsAll : source.isTracked
            if asAll { source.isTrackedAsAll = false } else { source.isTracked = false }
        }
        if let source, !source.isWanted { source.stop() }
        return wasThere
    }

    // MARK: Replicas

    func watchReplicas(
        _ callback: @escaping SafCkptReplicaChangesCallbackT, _ cookie: UnsafeMutableRawPointer?
    ) throws(AisError) {
        let (source, isClosed) = state.withLock { state -> (ReplicaSource?, Bool) in
            guard !state.isClosed, state.replicas == nil else { return (nil, state.isClosed) }
            let source = ReplicaSource(self, callback, cookie)
            state.replicas = source
            return (source, false)
        }
        guard let source else { throw isClosed ? .badHandle : .exist }
        source.start()
    }

    func endWatchingReplicas() throws(AisError) {
        let source = state.withLock { state in
            defer { state.replicas = nil }
            return state.replicas
        }
        guard let source else { throw .notExist }
        source.stop()
    }

    // MARK: Differences

    /// What keeps a section's data as it was last written through it; nil once closed.
    func mirror(of section: SectionID) -> SectionMirror? {
        state.withLock { state in
            if state.isClosed { return nil }
            let (index, isThere) = state.place(of: section)
            if isThere { return state.mirrors[index] }
            let mirror = checkpoint.mirror(section, creates: false)
            state.mirrors.insert(mirror, at: index)
            return mirror
        }
    }

    func forgetMirror(of section: SectionID) {
        state.withLock { state in
            let (index, isThere) = state.place(of: section)
            if isThere { state.mirrors.remove(at: index) }
        }
    }

    // MARK: The end

    /// Takes the handle and all that were made with it away; false when that was done already.
    @discardableResult
    func drop() -> Bool {
        guard HandleTable.shared.remove(self) else { return false }
        let (iterations, updates, replicas) = state.withLock { state -> ([Iteration], UpdateSource?, ReplicaSource?) in
            state.isClosed = true
            let iterations = state.iterations.inOrder
            state.iterations = Numbered()
            defer { (state.updates, state.replicas, state.mirrors) = (nil, nil, []) }
            return (iterations, state.updates, state.replicas)
        }
        for iteration in iterations { HandleTable.shared.remove(iteration) }
        updates?.stop()
        replicas?.stop()
        client.forget(self)
        return true
    }
}
