public import CkptProtocol
import EngineKit
import IOC
import OSAL
public import SAFTypes
import Synchronization

/// An open checkpoint: named state that outlives the process that writes it. Thread-safe.
///
/// It stays open across a restart of ckptd; a call made meanwhile waits inside its timeout. Every function comes in two
/// forms: `async`, and `…Blocking` for threads that may wait (no allocation on the warm path but for what is returned).
///
/// Errors that every call can have: `.tryAgain` not done, ckptd is not there or too much is under way; `.timeout` sent,
/// the outcome is unknown; `.badHandle` closed; `.library` an answer that cannot be read, or corrupted data.
/// ``CheckpointService/lastRefusal`` has the words. Source: SAI-AIS-CKPT-B.01.01 and B.02.02.
public final class Checkpoint: Sendable {
    public let name: SaName
    let service: CheckpointService
    private let flags: OpenFlags
    private let attributes: CreationAttributes?
    private let handleWord: Atomic<UInt64>
    private let isClosed = Atomic(false)
    private let underWay = Atomic(0)
    /// Did this open create the checkpoint?
    public let isCreated: Bool

    /// Updates under way at a time, over all threads and tasks: what ckptd remembers to answer a retransmission.
    public static let updatesUnderWayMax = OpenerRecord.executedMax - 4

    var handle: HandleID { HandleID(rawValue: handleWord.load(ordering: .acquiring)) }

    private init(
        _ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?, _ reply: OpenReply,
        _ service: CheckpointService
    ) {
        self.name = name
        self.flags = flags
        self.attributes = attributes
        self.service = service
        isCreated = reply.isCreated
        handleWord = Atomic(reply.handle.rawValue)
    }

    deinit {
        if isClosed.load(ordering: .acquiring) { return }
        var writer = ByteWriter()
        CkptRequest.close(handle).encode(to: &writer)
        service.connection.callAsync(CkptCode.close.rawValue, writer.bytes, timeout: .seconds(5)) { _ in }
    }

    // MARK: Open, close, unlink

    private static func openBody(_ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?) -> [UInt8] {
        var writer = ByteWriter()
        CkptRequest.open(name, flags: attributes == nil ? flags : flags.union(.create), attributes: attributes).encode(
            to: &writer)
        return writer.bytes
    }

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
        let reply = try await service.call(.open, timeout: timeout, body: body) { reader throws(DecodeError) in
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

    /// As ``open(_:_:creating:timeout:in:)``.
    public static func openBlocking(
        _ name: SaName, _ flags: OpenFlags = [.read, .write], creating attributes: CreationAttributes? = nil,
        timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) throws(AisError) -> Checkpoint {
        service.keepConnected()
        let body = openBody(name, flags, attributes)
        let reply = try service.call(.open, timeout: timeout, { $0.raw(body) }) { reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        return Checkpoint(name, flags, attributes, reply, service)
    }

    /// Closes; the last close of all starts the retention duration. Afterwards every call fails with `.badHandle`.
    public func close(timeout: Duration = .seconds(5)) async throws(AisError) {
        try markClosed()
        try await service.call(.close, timeout: timeout, body: CkptRequest.close(handle).body) { _ in }
    }

    public func closeBlocking(timeout: Duration = .seconds(5)) throws(AisError) {
        try markClosed()
        try service.call(.close, timeout: timeout, { CkptRequest.close(handle).encode(to: &$0) }) { _ in }
    }

    private func markClosed() throws(AisError) {
        if isClosed.exchange(true, ordering: .acquiringAndReleasing) { throw .badHandle }
        service.endFollowing(handle)
    }

    /// The name is free at once; whoever has the checkpoint open keeps it until the last close.
    ///
    /// - Throws: `.notExist`. Source: saCkptCheckpointUnlink().
    public static func unlink(
        _ name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) {
        try await service.call(.unlink, timeout: timeout, body: CkptRequest.unlink(name).body) { _ in }
    }

    public static func unlinkBlocking(
        _ name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) throws(AisError) {
        try service.call(.unlink, timeout: timeout, { CkptRequest.unlink(name).encode(to: &$0) }) { _ in }
    }

    // MARK: The way of every call

    private func openHandle() throws(AisError) -> HandleID {
        if isClosed.load(ordering: .acquiring) { throw .badHandle }
        return handle
    }

    private func perform<Value>(
        _ code: CkptCode, _ timeout: Duration, _ request: (HandleID, inout ByteWriter) -> Void,
        _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) throws(AisError) -> Value {
        let handle = try openHandle()
        do throws(AisError) {
            return try service.call(code, timeout: timeout, { request(handle, &$0) }, decode)
        } catch {
            guard error == .badHandle, !isClosed.load(ordering: .acquiring) else { throw error }
        }
        let body = Self.openBody(name, flags, attributes)
        let reply = try service.call(.open, timeout: timeout, { $0.raw(body) }) { reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        let fresh = adopt(reply, instead: handle)
        return try service.call(code, timeout: timeout, { request(fresh, &$0) }, decode)
    }

    private func perform<Value>(
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
        let reply = try await service.call(.open, timeout: timeout, body: body) { reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        let fresh = adopt(reply, instead: handle)
        writer.removeAll()
        request(fresh, &writer)
        return try await service.call(code, timeout: timeout, body: writer.bytes, decode)
    }

    /// ckptd had closed our handle (it had not heard from this process for too long); the new open takes its place.
    private func adopt(_ reply: OpenReply, instead old: HandleID) -> HandleID {
        let (isFirst, current) = handleWord.compareExchange(
            expected: old.rawValue, desired: reply.handle.rawValue, ordering: .acquiringAndReleasing)
        if isFirst {
            service.moved(from: old, to: reply.handle)
            return reply.handle
        }
        // Another thread was faster; ours is one open too many.
        service.connection.callAsync(
            CkptCode.close.rawValue, CkptRequest.close(reply.handle).body, timeout: .seconds(5)
        ) { _ in }
        return HandleID(rawValue: current)
    }

    /// For the follower: never blocks.
    func reopenSoon(_ done: @escaping @Sendable (Bool) -> Void) {
        guard let old = try? openHandle() else { return done(false) }  // closed: nothing to open again
        let body = Self.openBody(name, flags, attributes)
        service.connection.callAsync(CkptCode.open.rawValue, body, timeout: .seconds(30)) { [self] result in
            guard case .success(let answer) = result, let reply = try? OpenReply(decoding: answer.body) else {
                return done(false)  // the checkpoint is gone; the sequence ends
            }
            _ = adopt(reply, instead: old)
            done(true)
        }
    }

    private func beginUpdate() throws(AisError) {
        if underWay.wrappingAdd(1, ordering: .relaxed).newValue > Self.updatesUnderWayMax {
            underWay.wrappingSubtract(1, ordering: .relaxed)
            throw .tryAgain
        }
    }

    private func endUpdate() { underWay.wrappingSubtract(1, ordering: .relaxed) }

    // MARK: Updates

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
        try beginUpdate()
        defer { endUpdate() }
        let code: CkptCode = change == nil ? .update : .updateIf
        return try await perform(code, timeout, async: { Self.encode(batch, change, $0, &$1) }) {
            reader throws(DecodeError) in
            try reader.value()
        }
    }

    @discardableResult
    public func writeBlocking(
        ifChangeIs change: UInt64? = nil, timeout: Duration = .seconds(5), _ build: (inout UpdateBatch) -> Void
    ) throws(AisError) -> UpdateReply {
        var batch = UpdateBatch()
        build(&batch)
        try beginUpdate()
        defer { endUpdate() }
        return try perform(change == nil ? .update : .updateIf, timeout, { Self.encode(batch, change, $0, &$1) }) {
            reader throws(DecodeError) in
            try reader.value()
        }
    }

    private static func encode(
        _ batch: UpdateBatch, _ change: UInt64?, _ handle: HandleID, _ writer: inout ByteWriter
    ) {
        if let change { writer.integer(change) }
        writer.integer(handle.rawValue)
        writer.integer(batch.count)
        writer.raw(batch.writer.bytes)
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

    /// As above, and the hot path: nothing is allocated before the answer.
    @discardableResult
    public func writeBlocking(
        _ section: SectionID = .defaultSection, at offset: Int, _ data: UnsafeRawBufferPointer,
        timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        try updateOne(.write, section, UInt64(bitPattern: Int64(offset)), data, timeout)
    }

    @discardableResult
    public func writeBlocking(
        _ section: SectionID = .defaultSection, at offset: Int, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        var outcome: Result<UInt64, AisError> = .failure(.library)
        data.withUnsafeBytes { bytes in
            do throws(AisError) {
                outcome = .success(try writeBlocking(section, at: offset, bytes, timeout: timeout))
            } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    private func updateOne(
        _ kind: SectionOperation.Kind, _ section: SectionID, _ offset: UInt64, _ data: UnsafeRawBufferPointer,
        _ timeout: Duration
    ) throws(AisError) -> UInt64 {
        try beginUpdate()
        defer { endUpdate() }
        return try perform(
            .update, timeout,
            { handle, writer in
                writer.integer(handle.rawValue)
                writer.integer(UInt32(1))
                section.bytes.withUnsafeBytes {
                    SectionOperation.encode(kind, id: $0, offset: offset, expiration: 0, data: data, to: &writer)
                }
            },
            { reader throws(DecodeError) in
                let change = try reader.integer(UInt64.self)
                _ = try reader.integer(UInt32.self)
                return change
            })
    }

    /// Replaces a section's data, its size included. Source: saCkptSectionOverwrite().
    @discardableResult
    public func overwrite(
        _ section: SectionID, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) async throws(AisError) -> UInt64 {
        try await write(timeout: timeout) { $0.overwrite(section, data) }.change
    }

    @discardableResult
    public func overwriteBlocking(
        _ section: SectionID, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        try writeBlocking(timeout: timeout) { $0.overwrite(section, data) }.change
    }

    /// Creates a section and returns its id, which the service chooses if there is none. Source: saCkptSectionCreate().
    @discardableResult
    public func createSection(
        _ section: SectionID? = nil, _ data: [UInt8] = [], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> SectionID {
        let reply = try await write(timeout: timeout) { $0.create(section, data, expires: expires) }
        return reply.generated.first ?? section ?? .defaultSection
    }

    @discardableResult
    public func createSectionBlocking(
        _ section: SectionID? = nil, _ data: [UInt8] = [], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) throws(AisError) -> SectionID {
        let reply = try writeBlocking(timeout: timeout) { $0.create(section, data, expires: expires) }
        return reply.generated.first ?? section ?? .defaultSection
    }

    /// Source: saCkptSectionDelete().
    public func deleteSection(_ section: SectionID, timeout: Duration = .seconds(5)) async throws(AisError) {
        try await write(timeout: timeout) { $0.delete(section) }
    }

    public func deleteSectionBlocking(_ section: SectionID, timeout: Duration = .seconds(5)) throws(AisError) {
        try writeBlocking(timeout: timeout) { $0.delete(section) }
    }

    /// Source: saCkptSectionExpirationTimeSet(). Nanoseconds since 1970 UTC.
    public func setExpiration(_ section: SectionID, _ time: SaTime, timeout: Duration = .seconds(5))
        async throws(AisError)
    {
        try await write(timeout: timeout) { $0.setExpiration(section, time) }
    }

    // MARK: Reads

    /// Reads parts of several sections as they are after one and the same update.
    ///
    /// - Throws: `.notExist`; `.invalidParam` an offset beyond the section's end; `.access` not opened for reading;
    ///   `.library` corrupted. A count beyond the end is cut. Source: saCkptCheckpointRead().
    public func read(_ ranges: [ReadRange], timeout: Duration = .seconds(5)) async throws(AisError) -> ReadReply {
        try await perform(.read, timeout, async: { CkptRequest.read($0, ranges).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    public func readBlocking(_ ranges: [ReadRange], timeout: Duration = .seconds(5)) throws(AisError) -> ReadReply {
        try perform(.read, timeout, { CkptRequest.read($0, ranges).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
        }
    }

    public func read(
        _ section: SectionID = .defaultSection, at offset: Int = 0, count: Int = .max, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> [UInt8] {
        let range = ReadRange(id: section, offset: UInt64(bitPattern: Int64(offset)), count: UInt64(clamping: count))
        return try await read([range], timeout: timeout).parts.first ?? []
    }

    public func readBlocking(
        _ section: SectionID = .defaultSection, at offset: Int = 0, count: Int = .max, timeout: Duration = .seconds(5)
    ) throws(AisError) -> [UInt8] {
        let range = ReadRange(id: section, offset: UInt64(bitPattern: Int64(offset)), count: UInt64(clamping: count))
        return try readBlocking([range], timeout: timeout).parts.first ?? []
    }

    /// All sections with their data, as they are after one and the same update.
    public func readAll(timeout: Duration = .seconds(10)) async throws(AisError) -> SnapshotReply {
        try await perform(.snapshot, timeout, async: { CkptRequest.snapshot($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    public func readAllBlocking(timeout: Duration = .seconds(10)) throws(AisError) -> SnapshotReply {
        try perform(.snapshot, timeout, { CkptRequest.snapshot($0).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
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

    public func sectionsBlocking(
        _ chosen: SectionsChosen = .any, time: SaTime = 0, timeout: Duration = .seconds(5)
    ) throws(AisError) -> [SectionDescriptor] {
        var all: [SectionDescriptor] = []
        while true {
            let after = all.last?.serial ?? 0
            let page: ListReply = try perform(
                .list, timeout,
                {
                    CkptRequest.list($0, after: after, limit: CkptProtocolLimits.pageMax, chosen: chosen, time: time)
                        .encode(to: &$1)
                }, { reader throws(DecodeError) in try reader.value() })
            all += page.sections
            if !page.hasMore || page.sections.isEmpty { return all }
        }
    }

    // MARK: The checkpoint itself

    /// Source: saCkptCheckpointStatusGet().
    public func status(timeout: Duration = .seconds(5)) async throws(AisError) -> CheckpointDescriptor {
        try await perform(.status, timeout, async: { CkptRequest.status($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    public func statusBlocking(timeout: Duration = .seconds(5)) throws(AisError) -> CheckpointDescriptor {
        try perform(.status, timeout, { CkptRequest.status($0).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
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

extension CkptRequest {
    fileprivate var body: [UInt8] {
        var writer = ByteWriter()
        encode(to: &writer)
        return writer.bytes
    }
}
