public import CkptProtocol
import IOC
import OSAL
public import SAFTypes

/// What callers with bytes of their own use, the C library before all: nothing is copied on the way to the request.
extension Checkpoint {
    /// Was it opened for reading?
    public var mayRead: Bool { isReadable }

    /// One operation on one section; data of a kind that has none is ignored by nobody: it is refused.
    public func updateBlocking(
        _ kind: SectionOperation.Kind, id: UnsafeRawBufferPointer, offset: UInt64 = 0, expiration: SaTime = 0,
        data: UnsafeRawBufferPointer, timeout: Duration
    ) throws(AisError) -> UpdateReply {
        guard id.count <= SectionID.sizeMax, data.count <= Int(UInt32.max) else { throw .invalidParam }
        if let change = updateDirect(kind, id, offset, data) { return UpdateReply(change: change, generated: []) }
        guard ForeignMemory.canAllocate(data.count) else { throw .noMemory }
        try beginUpdate()
        defer { endUpdate() }
        return try perform(
            .update, timeout,
            { handle, writer in
                writer.integer(handle.rawValue)
                writer.integer(UInt32(1))
                SectionOperation.encode(kind, id: id, offset: offset, expiration: expiration, data: data, to: &writer)
            }, { reader throws(DecodeError) in try reader.value() })
    }

    /// Does what the batch says, as ``writeBlocking(ifChangeIs:timeout:_:)``.
    @discardableResult
    public func writeBlocking(_ batch: UpdateBatch, timeout: Duration) throws(AisError) -> UpdateReply {
        guard ForeignMemory.canAllocate(batch.byteCount) else { throw .noMemory }
        try beginUpdate()
        defer { endUpdate() }
        return try perform(.update, timeout, { Self.encode(batch, nil, $0, &$1) }) { reader throws(DecodeError) in
            try reader.value()
        }
    }

    /// Reads several parts as of one and the same change, without memory of our own for them.
    ///
    /// - Parameter take: copies the parts, one after the other, valid meanwhile; they may come again, all of them. The
    ///   last time counts. False: there is no memory (`.noMemory`).
    public func readBlocking(
        _ ranges: [ReadRange], timeout: Duration, _ take: (Int, UnsafeRawBufferPointer) -> Bool
    ) throws(AisError) {
        _ = try openHandle()
        var isOutOfMemory = false
        let change = withMapped { replica in
            replica.read(ranges) { index, part in
                isOutOfMemory = !take(index, part)
                return !isOutOfMemory
            }
        }
        if change != nil { return }
        if isOutOfMemory { throw .noMemory }
        try askForParts(ranges, timeout, take)
    }

    /// All sections as of one and the same change, where the answer lies: `take` decodes them from behind the head of a
    /// ``SnapshotReply`` to the end, and says whether it found the memory for them. Returns the change.
    public func readAllBlocking(
        timeout: Duration, _ take: (Int, inout ByteReader) throws(DecodeError) -> Bool
    ) throws(AisError) -> UInt64 {
        var change: UInt64 = 0
        let isTaken = try perform(.snapshot, timeout, { CkptRequest.snapshot($0).encode(to: &$1) }) {
            reader throws(DecodeError) in
            let head = try SnapshotReply.head(&reader)
            change = head.change
            return try take(head.count, &reader)
        }
        guard isTaken else { throw .noMemory }
        return change
    }

    /// As ``openBlocking(_:_:creating:timeout:in:)``, without waiting: `then` is called once, and must not block.
    public static func openSoon(
        _ name: SaName, _ flags: OpenFlags, creating attributes: CreationAttributes?, timeout: Duration,
        in service: CheckpointService, then: @escaping @Sendable (Result<Checkpoint, AisError>) -> Void
    ) {
        service.keepConnected()
        service.callSoon(.open, openBody(name, flags, attributes), timeout: timeout) { result in
            switch result {
            case .failure(let error): then(.failure(service.failure(error)))
            case .success(let reply):
                do throws(AisError) {
                    let open = try CheckpointService.decoded(reply) { reader throws(DecodeError) in
                        try reader.value(OpenReply.self)
                    }
                    then(.success(Checkpoint(name, flags, attributes, open, service)))
                } catch {
                    then(.failure(error))
                }
            }
        }
    }

    /// As `synchronizeBlocking`, without waiting: `then` is called once, with nil when it is done, and must not block.
    public func synchronizeSoon(
        timeout: Duration, then: @escaping @Sendable (AisError?) -> Void
    ) throws(AisError) {
        let body = CkptRequest.synchronize(try openHandle()).body
        service.callSoon(.synchronize, body, timeout: timeout) { [service] result in
            switch result {
            case .success: then(nil)
            case .failure(let error): then(service.failure(error))
            }
        }
    }

    /// Its updates, from a snapshot on; `onReady` is called when there may be something to take, perhaps under locks:
    /// it must not call back.
    public func follow(onReady: @escaping @Sendable () -> Void) -> Follower {
        let follower = Follower(self, onReady: onReady)
        service.follow(handle, follower)
        follower.subscribe()
        return follower
    }
}

extension UpdateBatch {
    public mutating func add(
        _ kind: SectionOperation.Kind, id: UnsafeRawBufferPointer, offset: UInt64 = 0, expiration: SaTime = 0,
        data: UnsafeRawBufferPointer
    ) {
        SectionOperation.encode(kind, id: id, offset: offset, expiration: expiration, data: data, to: &writer)
        count += 1
    }
}
