import CkptProtocol
import CkptStore
import IOC
import SAFTypes

/// Tells subscribers every update after the one they start from, each once and in order. Who is slow is caught up from
/// the store's log as soon as there is room; who is too slow for the log is told to subscribe anew.
final class Subscriptions {
    private struct Subscription {
        let checkpoint: CheckpointID
        let peer: Peer
        /// The last update that is on its way.
        var sent: UInt64
        /// It has to be told that it missed updates for good.
        var isOverrun = false
    }

    private let files: CheckpointFiles
    private var subscriptions: [HandleID: Subscription] = [:]
    private var handles: [CheckpointID: [HandleID]] = [:]
    private var writer = ByteWriter(reserving: 4096)

    /// An opener that wants to know where the replicas are.
    private struct Watch {
        let checkpoint: CheckpointID
        let peer: Peer
        /// What it has heard last.
        var told: ReplicaSet
        /// Not told yet, for want of room; a newer one takes its place.
        var pending: ReplicaSet?
    }
    private var watches: [HandleID: Watch] = [:]

    init(files: CheckpointFiles) { self.files = files }

    func start(_ handle: HandleID, of checkpoint: CheckpointID, peer: Peer, after change: UInt64) {
        end(handle)
        subscriptions[handle] = Subscription(checkpoint: checkpoint, peer: peer, sent: change)
        handles[checkpoint, default: []].append(handle)
        files.keepMoreUpdates(checkpoint)
        catchUp(handle)
    }

    func end(_ handle: HandleID) {
        guard let old = subscriptions.removeValue(forKey: handle) else { return }
        handles[old.checkpoint]?.removeAll { $0 == handle }
        if handles[old.checkpoint]?.isEmpty == true { handles[old.checkpoint] = nil }
    }

    /// Other data takes the place of what there was, which may not have happened: everybody begins anew.
    func startAnew(_ checkpoint: CheckpointID) {
        for handle in handles[checkpoint] ?? [] {
            if let subscription = subscriptions[handle] { overrun(handle, subscription) }
        }
    }

    func hasAny(_ checkpoint: CheckpointID) -> Bool { handles[checkpoint] != nil }

    /// There is a new update; `transaction` and `payload` are it.
    func publish(_ checkpoint: CheckpointID, _ transaction: Transaction?, payload: UnsafeRawBufferPointer) {
        guard let interested = handles[checkpoint] else { return }
        for handle in interested {
            guard let subscription = subscriptions[handle] else { continue }
            guard let transaction, transaction.state.change == subscription.sent + 1 else {
                catchUp(handle)
                continue
            }
            writer.removeAll()
            UpdatePush.encodeHead(
                handle: handle, change: transaction.state.change, time: transaction.time,
                count: transaction.steps.count,
                to: &writer)
            for step in transaction.steps {
                let operation = step.operation
                let data = operation.data
                operation.id.bytes.withUnsafeBytes { id in
                    SectionOperation.encode(
                        operation.kind, id: id, offset: operation.offset, expiration: operation.expiration,
                        data: UnsafeRawBufferPointer(rebasing: payload[data.offset..<(data.offset + data.count)]),
                        to: &writer)
                }
            }
            if subscription.peer.push(CkptPush.update, writer.bytes) == .queued {
                subscriptions[handle]?.sent = transaction.state.change
            } else {
                awaitRoom(subscription.peer)
            }
        }
    }

    private func catchUp(_ handle: HandleID) {
        guard let subscription = subscriptions[handle] else { return }
        guard !subscription.isOverrun,
            let positions = files.positions(subscription.checkpoint, after: subscription.sent)
        else {
            return overrun(handle, subscription)
        }
        var sent = subscription.sent
        for position in positions {
            writer.removeAll()
            guard files.encodeUpdate(subscription.checkpoint, at: position, handle: handle, to: &writer) else {
                subscriptions[handle]?.sent = sent
                return overrun(handle, subscription)
            }
            guard subscription.peer.push(CkptPush.update, writer.bytes) == .queued else {
                awaitRoom(subscription.peer)
                break
            }
            sent += 1
        }
        subscriptions[handle]?.sent = sent
    }

    private func overrun(_ handle: HandleID, _ subscription: Subscription) {
        writer.removeAll()
        writer.integer(handle.rawValue)
        if subscription.peer.push(CkptPush.overrun, writer.bytes) == .queued {
            end(handle)
        } else {
            subscriptions[handle]?.isOverrun = true
            awaitRoom(subscription.peer)
        }
    }

    private func awaitRoom(_ peer: Peer) {
        peer.onWritable = { [weak self, weak peer] in
            guard let self, let peer else { return }
            for handle in subscriptions.keys.sorted() where subscriptions[handle]?.peer == peer { catchUp(handle) }
            for handle in watches.keys.sorted() where watches[handle]?.peer == peer { tellPending(handle) }
        }
    }

    // MARK: Where the replicas are

    func watch(_ handle: HandleID, of checkpoint: CheckpointID, peer: Peer, told: ReplicaSet) {
        watches[handle] = Watch(checkpoint: checkpoint, peer: peer, told: told)
    }

    func endWatch(_ handle: HandleID) { watches[handle] = nil }

    /// A process that comes back asks anew.
    func left(_ peer: Peer) {
        for handle in watches.keys.sorted() where watches[handle]?.peer == peer { watches[handle] = nil }
    }

    func isWatched(_ checkpoint: CheckpointID) -> Bool { watches.contains { $0.value.checkpoint == checkpoint } }

    func tell(_ checkpoint: CheckpointID, _ set: ReplicaSet) {
        for handle in watches.keys.sorted() where watches[handle]?.checkpoint == checkpoint {
            watches[handle]?.pending = set
            tellPending(handle)
        }
    }

    private func tellPending(_ handle: HandleID) {
        guard let watch = watches[handle], let set = watch.pending else { return }
        watches[handle]?.pending = nil
        if set == watch.told { return }
        writer.removeAll()
        writer.integer(handle.rawValue)
        writer.value(set)
        if watch.peer.push(CkptPush.replicas, writer.bytes) == .queued {
            watches[handle]?.told = set
        } else {
            watches[handle]?.pending = set
            awaitRoom(watch.peer)
        }
    }
}
