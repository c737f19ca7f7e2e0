import CkptLayout
import CkptProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Synchronization

/// What this process has mapped of its node's replicas, beside the replicas themselves.
final class ReplicaMappings: Sendable {
    private struct State {
        var lease: Mapping?
        /// The connection the lease page came over.
        var connection: UInt64 = 0
    }

    private let state = Lock(State())
    private let connections = Atomic<UInt64>(1)

    /// Which connection with ckptd this is; what came over an earlier one is not looked at any more.
    var connection: UInt64 { connections.load(ordering: .relaxed) }

    /// There is a new connection, perhaps with another ckptd.
    func renew() { connections.wrappingAdd(1, ordering: .relaxed) }

    /// Maps what came with an answer; nil when there is nothing, or it cannot be mapped. No descriptor is kept.
    ///
    /// - Parameter isStrict: as of ``MappedReplica``.
    func take(_ reply: Reply, isStrict: Bool) -> MappedReplica? {
        defer { for descriptor in reply.descriptors { IO.close(descriptor) } }
        guard var answer = try? MapReply(decoding: reply.body), answer.hasReplica,  // none, or not our protocol
            reply.descriptors.count >= 2
        else { return nil }
        let connection = self.connection
        guard let lease = lease(reply.descriptors[1], connection) else { return nil }
        guard let mapping = Self.map(reply.descriptors[0]) else { return nil }
        let direct =
            answer.hasDirect && reply.descriptors.count >= 3
            ? Self.map(reply.descriptors[2], writable: answer.owner != 0) : nil
        // What cannot be mapped now is asked for again.
        if answer.hasDirect, direct == nil { answer.directGeneration = .max }
        return MappedReplica(mapping, lease: lease, direct: direct, answer, connection: connection, isStrict: isStrict)
    }

    private func lease(_ descriptor: Int32, _ connection: UInt64) -> Mapping? {
        state.withLock { state in
            if let lease = state.lease, state.connection == connection { return lease }
            guard let mapping = Self.map(descriptor), LeasePage.isSound(UnsafeRawBufferPointer(mapping.bytes)) else {
                return nil
            }
            (state.lease, state.connection) = (mapping, connection)
            return mapping
        }
    }

    /// An answer whose descriptors cannot be taken would cost the connection.
    static var canTakeDescriptors: Bool {
        do throws(OSError) {
            let one = try File.open("/")
            let two = try one.duplicate()
            let three = try two.duplicate()
            return one.raw >= 0 && two.raw >= 0 && three.raw >= 0  // all of them open at a time
        } catch {
            return false
        }
    }

    /// A file of ckptd never becomes shorter.
    private static func map(_ descriptor: Int32, writable: Bool = false) -> Mapping? {
        do throws(OSError) {
            let size = try File.stat(descriptor: descriptor).size
            guard size > 0 else { return nil }
            return try Mapping.map(descriptor, count: size, writable: writable)
        } catch {
            return nil  // too many mappings, as a rule: it is asked as before
        }
    }
}
