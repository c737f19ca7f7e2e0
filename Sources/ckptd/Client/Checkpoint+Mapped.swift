import CkptLayout
import CkptProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes

// Reads that make no system call: of this node's replica, as long as it is as good as asking. See the README beside
// Layout.
extension Checkpoint {
    /// A replica that was not to be had is not asked for again before.
    private static let mappingPause = Duration.milliseconds(100)
    private static let mappingTimeout = Duration.seconds(1)

    /// Part of a section, or nil when ckptd must be asked.
    func readMapped(_ id: UnsafeRawBufferPointer, _ offset: UInt64, _ count: UInt64) -> [UInt8]? {
        withMapped { replica in
            let outcome = replica.read(id) { bytes in
                replica.part(of: bytes.count, offset, count).map { [UInt8](bytes[$0]) }
            }
            if case .direct(let place) = outcome { return replica.readDirect(place, offset, count) }
            return outcome
        }
    }

    /// Copies part of a section to where `buffer` says; the number of bytes, or nil when ckptd must be asked.
    ///
    /// - Parameter buffer: a place for so many bytes; nil: none. It may be asked again, with another number, if the
    ///   section is changed meanwhile; the last place counts.
    func readMapped(
        _ id: UnsafeRawBufferPointer, _ offset: UInt64, _ count: UInt64,
        into buffer: (Int) -> UnsafeMutableRawBufferPointer?
    ) -> Int? {
        withMapped { replica in
            let outcome = replica.read(id) { bytes -> Int? in
                guard let place = replica.part(of: bytes.count, offset, count) else { return nil }
                guard let target = buffer(place.count), target.count >= place.count else { return nil }
                if place.count > 0 { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[place])) }
                return place.count
            }
            if case .direct(let place) = outcome { return replica.readDirect(place, offset, count, into: buffer) }
            return outcome
        }
    }

    func readMapped(
        _ ranges: [ReadRange], ask: (Checkpoint) -> MappedReplica? = { $0.askForReplica() }
    ) -> ReadReply? {
        var parts: [[UInt8]] = []
        let change = withMapped(ask: ask) { replica in
            replica.read(ranges) { index, part in
                if index == 0 { parts = [] }
                parts.append(Array(part))
                return true
            }
        }
        return change.map { ReadReply(change: $0, parts: parts) }
    }

    /// - Parameter ask: gets a replica, or begins to and has none yet.
    func withMapped<Value>(
        ask: (Checkpoint) -> MappedReplica? = { $0.askForReplica() },
        _ body: (MappedReplica) -> MappedReplica.Outcome<Value>
    ) -> Value? {
        var replica = mappedReplica(instead: nil, isGrown: false, ask)
        for _ in 0..<2 {
            guard let present = replica else { return nil }
            switch body(present) {
            case .done(let value): return value
            case .ask, .direct: return nil
            case .grown: replica = mappedReplica(instead: present, isGrown: true, ask)
            case .replaced: replica = mappedReplica(instead: present, isGrown: false, ask)
            }
        }
        return nil
    }

    /// The mapped replica, which the first who needs one asks for; nil when there is none (now).
    ///
    /// - Parameter old: one that is not good any more.
    private func mappedReplica(
        instead old: MappedReplica?, isGrown: Bool, _ ask: (Checkpoint) -> MappedReplica?
    ) -> MappedReplica? {
        let connection = service.mappings.connection
        let (present, mustAsk) = mapped.withLock { slot -> (MappedReplica?, Bool) in
            if let replica = slot.replica, replica !== old, replica.connection == connection { return (replica, false) }
            slot.replica = nil
            guard isReadable, !slot.isAsking, slot.restsUntil == 0 || slot.restsUntil <= Self.now else {
                return (nil, false)
            }
            slot.isAsking = true
            // A file that is no longer than before has nothing new: what it says of its length is wrong.
            slot.bytesMin = isGrown ? (old?.bytes ?? 0) + 1 : 0
            return (nil, true)
        }
        guard mustAsk else { return present }
        return ReplicaMappings.canTakeDescriptors ? ask(self) : keep(nil)
    }

    private static var now: UInt64 { MonotonicClock.now().nanoseconds }

    private func askForReplica() -> MappedReplica? {
        let handle = self.handle
        do throws(CallError) {
            let reply = try service.connection.call(service.frameCode(.map), timeout: Self.mappingTimeout) {
                $0.integer(handle.rawValue)
            }
            return keep(service.mappings.take(reply, isStrict: service.requiresMembership))
        } catch {
            return keep(nil)  // whatever it is, the read itself will meet it
        }
    }

    /// What came of asking.
    @discardableResult
    func keep(_ fresh: MappedReplica?) -> MappedReplica? {
        mapped.withLock { slot in
            slot.isAsking = false
            guard !slot.isClosed else { return nil }
            slot.replica = (fresh?.bytes ?? 0) >= slot.bytesMin ? fresh : nil
            slot.restsUntil = slot.replica == nil ? Self.now + UInt64(Self.mappingPause.nanoseconds) : 0
            return slot.replica
        }
    }

    /// Its memory is not looked at any more.
    func unmap(isClosed: Bool) {
        mapped.withLock { slot in
            slot.replica = nil
            if isClosed { (slot.isClosed, slot.restsUntil) = (true, .max) }
        }
    }
}
