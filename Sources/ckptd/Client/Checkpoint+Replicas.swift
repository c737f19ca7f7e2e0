extension Checkpoint {
    /// Where the replicas are and which is active: the state now, then every other one. Who is slow sees the newest
    /// and not each one between. (SAFplus: replica change callback.)
    ///
    /// One consumer per open checkpoint: a second sequence ends the first. The sequence ends when the checkpoint is
    /// closed or gone, or the task is cancelled.
    public var replicaChanges: ReplicaChanges {
        let watcher = ReplicaWatcher(self)
        service.keepConnected()
        service.watch(handle, watcher)
        watcher.subscribe()
        return ReplicaChanges(watcher)
    }
}
