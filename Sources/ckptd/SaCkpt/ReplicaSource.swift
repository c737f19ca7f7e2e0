import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

/// Tells a program where the replicas of one open checkpoint are: now, and whenever that changes.
final class ReplicaSource: Source, @unchecked Sendable {
    private let callback: SafCkptReplicaChangesCallbackT
    private let cookie: UnsafeMutableRawPointer?
    private let watching = Lock<ReplicaWatcher?>(nil)

    init(
        _ open: OpenCheckpoint, _ callback: @escaping SafCkptReplicaChangesCallbackT,
        _ cookie: UnsafeMutableRawPointer?
    ) {
        self.callback = callback
        self.cookie = cookie
        super.init(open)
    }

    func start() {
        let watcher = open.checkpoint.watchReplicas { [self] in ready() }
        watching.withLock { $0 = watcher }
        ready()  // it may have had something to tell before it was known
    }

    func stop() {
        let watcher = watching.withLock { watching in
            defer { watching = nil }
            return watching
        }
        watcher?.finish()
    }

    override func tellOne() -> Bool {
        guard let set = watching.withLock({ $0?.takeNext() }) else { return false }
        let replicas = set.replicas.map { replica in
            SafCkptReplicaT(
                nodeId: replica.node.rawValue, state: SafCkptReplicaStateT(rawValue: UInt32(replica.state.rawValue)),
                isActive: replica.node == set.active ? SA_TRUE : SA_FALSE)
        }
        replicas.withUnsafeBufferPointer {
            callback(open.handle, set.epoch, $0.isEmpty ? nil : $0.baseAddress, UInt32($0.count), cookie)
        }
        return true
    }
}

@c @implementation
public func safCkptReplicaChangesStart(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ callback: SafCkptReplicaChangesCallbackT!,
    _ cookie: UnsafeMutableRawPointer!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let callback else { throw .invalidParam }
        try open.watchReplicas(callback, cookie)
    }
}

@c @implementation
public func safCkptReplicaChangesStop(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in try open.endWatchingReplicas() }
}
