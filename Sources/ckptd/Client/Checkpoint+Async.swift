public import CkptProtocol
import IOC
public import SAFTypes

/// The same for tasks: nobody's thread waits.
///
/// A task that is cancelled does not wait any longer: every call throws `.interrupt` then. What it has sent may be done
/// all the same; a checkpoint that is opened too late is closed again.
extension Checkpoint {
    /// Opens a checkpoint, creating it when `creating` is given and there is none of this name.
    ///
    /// - Throws: `.notExist` unknown and no `creating`; `.exist` known with other attributes (the retention duration is
    ///   not compared); `.invalidParam` attributes that contradict each other; `.badFlags`; `.noResources` a limit of
    /// the
    ///   service; `.noSpace` the RAM files are full.
    /// - Source: saCkptCheckpointOpen().
    public static func open(
        _ name: SaName, _ flags: OpenFlags = [.read, .write], creating attributes: CreationAttributes? = nil,
        timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) -> Checkpoint {
        service.keepConnected()
        let body = openBody(name, flags, attributes)
        let reply = try await service.call(.open, timeout: timeout, body: body, late: service.closeLate) {
            reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        return Checkpoint(name, flags, attributes, reply, service)
    }

    /// As ``open(_:_:creating:timeout:in:)``, for a name that is text.
    ///
    /// - Throws: also `.invalidParam` when it is no name: 1 to 256 octets.
    public static func open(
        _ name: String, _ flags: OpenFlags = [.read, .write], creating attributes: CreationAttributes? = nil,
        timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) -> Checkpoint {
        guard let name = SaName(name) else { throw .invalidParam }
        return try await open(name, flags, creating: attributes, timeout: timeout, in: service)
    }

    /// Closes; the last close of all starts the retention duration. Afterwards every call fails with `.badHandle`.
    ///
    /// - Throws: `.tryAgain`, `.timeout` ckptd was not there in time: it closes it when it is back, unasked.
    public func close(timeout: Duration = .seconds(5)) async throws(AisError) {
        try markClosed()
        do throws(AisError) {
            try await service.call(.close, timeout: timeout, body: CkptRequest.close(handle).body) { _ in }
        } catch {
            throw closedLater(error)
        }
    }

    /// The name is free at once; whoever has the checkpoint open keeps it until the last close.
    ///
    /// - Throws: `.notExist`. Source: saCkptCheckpointUnlink().
    public static func unlink(
        _ name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) {
        try await service.call(.unlink, timeout: timeout, body: CkptRequest.unlink(name).body) { _ in }
    }

    /// As above, with text for a name. Throws also `.invalidParam` when it is no name: 1 to 256 octets.
    public static func unlink(
        _ name: String, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) {
        guard let name = SaName(name) else { throw .invalidParam }
        try await unlink(name, timeout: timeout, in: service)
    }

    func perform<Value>(
        _ code: CkptCode, _ timeout: Duration, async request: (HandleID, inout ByteWriter) -> Void,
        _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) async throws(AisError) -> Value {
        let handle = try openHandle()
        var writer = ByteWriter(reserving: 256)
        request(handle, &writer)
        do throws(AisError) {
            return try await service.call(code, timeout: timeout, body: writer.bytes, decode)
        } catch {
            guard error == .badHandle, !isClosed.load(ordering: .acquiring) else { throw error }
        }
        let body = Self.openBody(name, flags, attributes)
        let reply = try await service.call(.open, timeout: timeout, body: body, late: service.closeLate) {
            reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        let fresh = adopt(reply, instead: handle)
        writer.removeAll()
        request(fresh, &writer)
        return try await service.call(code, timeout: timeout, body: writer.bytes, decode)
    }

    /// Does several operations as one: all or none, to every reader and across every crash.
    ///
    /// - Parameter change: when given, nothing is done (`.badOperation`) unless it is the checkpoint's present change
    ///   number. So a writer that lost its active assignment without knowing it cannot overwrite what its successor
    /// wrote.
    /// - Returns: the change number, and the ids of sections created without one.
    /// - Throws: what its operations would; `.access` not opened for writing; `.notExist` no such section, or no active
    ///   replica; `.exist` section exists; `.noSpace` no room in the RAM files, or a limit of the checkpoint;
    ///   `.invalidParam` an offset, size, id or time the checkpoint does not allow.
    @discardableResult
    public func write(
        ifChangeIs change: UInt64? = nil, timeout: Duration = .seconds(5), _ build: (inout UpdateBatch) -> Void
    ) async throws(AisError) -> UpdateReply {
        var batch = UpdateBatch()
        build(&batch)
        try beginUpdate(of: batch.count)
        defer { endUpdate() }
        let code: CkptCode = change == nil ? .update : .updateIf
        return try await perform(code, timeout, async: { Self.encode(batch, change, $0, &$1) }) {
            reader throws(DecodeError) in
            try reader.value()
        }
    }

    /// Writes at an offset; grows the section, fills a gap with zero bytes. Returns the change number.
    ///
    /// Source: saCkptCheckpointWrite().
    @discardableResult
    public func write(
        _ section: SectionID = .defaultSection, at offset: Int, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) async throws(AisError) -> UInt64 {
        try await write(timeout: timeout) { $0.write(section, at: offset, data) }.change
    }

    /// Replaces a section's data, its size included. Source: saCkptSectionOverwrite().
    @discardableResult
    public func overwrite(
        _ section: SectionID, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) async throws(AisError) -> UInt64 {
        try await write(timeout: timeout) { $0.overwrite(section, data) }.change
    }

    /// Creates a section and returns its id, which the service chooses if there is none. Source: saCkptSectionCreate().
    @discardableResult
    public func createSection(
        _ section: SectionID? = nil, _ data: [UInt8] = [], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> SectionID {
        let reply = try await write(timeout: timeout) { $0.create(section, data, expires: expires) }
        return reply.generated.first ?? section ?? .defaultSection
    }

    /// Source: saCkptSectionDelete().
    public func deleteSection(_ section: SectionID, timeout: Duration = .seconds(5)) async throws(AisError) {
        try await write(timeout: timeout) { $0.delete(section) }
    }

    /// Source: saCkptSectionExpirationTimeSet(). Nanoseconds since 1970 UTC.
    public func setExpiration(_ section: SectionID, _ time: SaTime, timeout: Duration = .seconds(5))
        async throws(AisError)
    {
        try await write(timeout: timeout) { $0.setExpiration(section, time) }
    }

    /// Reads parts of several sections as they are after one and the same update.
    ///
    /// - Throws: `.notExist`; `.invalidParam` an offset beyond the section's end; `.access` not opened for reading;
    ///   `.library` corrupted. A count beyond the end is cut. Source: saCkptCheckpointRead().
    public func read(_ ranges: [ReadRange], timeout: Duration = .seconds(5)) async throws(AisError) -> ReadReply {
        _ = try openHandle()
        if let reply = readMappedAlready(ranges) { return reply }
        return try await perform(.read, timeout, async: { CkptRequest.read($0, ranges).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    public func read(
        _ section: SectionID = .defaultSection, at offset: Int = 0, count: Int = .max, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> [UInt8] {
        let range = ReadRange(
            id: section, offset: UInt64(bitPattern: Int64(offset)),
            count: count < 0 ? ReadRange.toTheEnd - 1 : UInt64(count))
        return try await read([range], timeout: timeout).parts.first ?? []
    }

    /// All sections with their data, as they are after one and the same update.
    public func readAll(timeout: Duration = .seconds(10)) async throws(AisError) -> SnapshotReply {
        try await perform(.snapshot, timeout, async: { CkptRequest.snapshot($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    /// The sections that `chosen` selects: each one that exists from the start to the end of the call exactly once.
    ///
    /// - Parameter time: for the two cases of `chosen` that compare expiration times.
    /// - Source: saCkptSectionIterationInitialize(), saCkptSectionIterationNext().
    public func sections(
        _ chosen: SectionsChosen = .any, time: SaTime = 0, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> [SectionDescriptor] {
        var all: [SectionDescriptor] = []
        while true {
            let after = all.last?.serial ?? 0
            let page: ListReply = try await perform(
                .list, timeout,
                async: {
                    CkptRequest.list($0, after: after, limit: CkptProtocolLimits.pageMax, chosen: chosen, time: time)
                        .encode(to: &$1)
                }, { reader throws(DecodeError) in try reader.value() })
            all += page.sections
            if !page.hasMore || page.sections.isEmpty { return all }
        }
    }

    /// Source: saCkptCheckpointStatusGet().
    public func status(timeout: Duration = .seconds(5)) async throws(AisError) -> CheckpointDescriptor {
        try await perform(.status, timeout, async: { CkptRequest.status($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    /// How long the checkpoint outlives its last close. Throws `.badOperation` after an unlink, `.invalidParam`
    /// negative.
    /// Source: saCkptCheckpointRetentionDurationSet().
    public func setRetentionDuration(_ duration: SaTime, timeout: Duration = .seconds(5)) async throws(AisError) {
        try await perform(.setRetention, timeout, async: { CkptRequest.setRetention($0, duration).encode(to: &$1) }) {
            _ in
        }
    }

    /// Makes this node's replica of a collocated checkpoint the active one. Source: saCkptActiveReplicaSet().
    public func setActiveReplica(timeout: Duration = .seconds(5)) async throws(AisError) {
        try await perform(.setActiveReplica, timeout, async: { CkptRequest.setActiveReplica($0).encode(to: &$1) }) {
            _ in
        }
    }

    /// Returns when every replica has what was written before. Source: saCkptCheckpointSynchronize().
    public func synchronize(timeout: Duration = .seconds(5)) async throws(AisError) {
        try await perform(.synchronize, timeout, async: { CkptRequest.synchronize($0).encode(to: &$1) }) { _ in }
    }

    /// Hot standby: first a snapshot, then every update, in order, without a gap and without a repeat, also across
    /// restarts of ckptd. A new snapshot comes only when updates were missed that ckptd no longer has.
    ///
    /// One consumer per open checkpoint: a second sequence ends the first. The sequence ends when the checkpoint is
    /// closed or gone, was not opened for reading, or the task is cancelled.
    public var updates: CheckpointUpdates {
        let follower = Follower(self)
        service.keepConnected()
        service.follow(handle, follower)
        follower.subscribe()
        return CheckpointUpdates(follower)
    }
}
