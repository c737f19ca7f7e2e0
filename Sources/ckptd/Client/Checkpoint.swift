public import CkptProtocol
import EngineKit
import IOC
public import SAFTypes
import OSAL
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
    let flags: OpenFlags
    let attributes: CreationAttributes?
    private let handleWord: Atomic<UInt64>
    let isClosed = Atomic(false)
    private let underWay = Atomic(0)
    let mapped = Lock(ReplicaSlot())
    let directHope = DirectHope()
    let directLanes = DirectLanes()
    /// Did this open create the checkpoint?
    public let isCreated: Bool

    /// Updates under way at a time, over all threads and tasks: what ckptd remembers to answer a retransmission.
    public static let updatesUnderWayMax = CkptProtocolLimits.executedMax - 4

    var isOpen: Bool { !isClosed.load(ordering: .acquiring) }
    var isReadable: Bool { flags.contains(.read) }

    var handle: HandleID { HandleID(rawValue: handleWord.load(ordering: .acquiring)) }

    init(
        _ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?, _ reply: OpenReply,
        _ service: CheckpointService
    ) {
        self.name = name
        self.flags = flags
        self.attributes = attributes
        self.service = service
        isCreated = reply.isCreated
        handleWord = Atomic(reply.handle.rawValue)
        if !flags.contains([.read, .write]) { directHope.end() }
    }

    deinit {
        if isClosed.load(ordering: .acquiring) { return }
        service.closeSoon(handle)
    }

    // MARK: Open, close, unlink

    static func openBody(_ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?) -> [UInt8] {
        var writer = ByteWriter()
        CkptRequest.open(name, flags: attributes == nil ? flags : flags.union(.create), attributes: attributes).encode(
            to: &writer)
        return writer.bytes
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

    /// As ``close(timeout:)``.
    public func closeBlocking(timeout: Duration = .seconds(5)) throws(AisError) {
        try markClosed()
        do throws(AisError) {
            try service.call(.close, timeout: timeout, { CkptRequest.close(handle).encode(to: &$0) }) { _ in }
        } catch {
            throw closedLater(error)
        }
    }

    /// It is closed here in any case.
    func closedLater(_ error: AisError) -> AisError {
        if error == .tryAgain || error == .timeout || error == .interrupt { service.closeSoon(handle) }
        return error
    }

    func markClosed() throws(AisError) {
        if isClosed.exchange(true, ordering: .acquiringAndReleasing) { throw .badHandle }
        unmap(isClosed: true)
        service.endFollowing(handle)
        service.endWatching(handle)
    }

    public static func unlinkBlocking(
        _ name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) throws(AisError) {
        try service.call(.unlink, timeout: timeout, { CkptRequest.unlink(name).encode(to: &$0) }) { _ in }
    }

    // MARK: The way of every call

    func openHandle() throws(AisError) -> HandleID {
        if isClosed.load(ordering: .acquiring) { throw .badHandle }
        return handle
    }

    func perform<Value>(
        _ code: CkptCode, _ timeout: Duration, _ request: (HandleID, inout ByteWriter) -> Void,
        _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) throws(AisError) -> Value {
        try CheckpointService.decoded(try ask(code, timeout, request), decode)
    }

    @inline(never)
    private func ask(
        _ code: CkptCode, _ timeout: Duration, _ request: (HandleID, inout ByteWriter) -> Void
    ) throws(AisError) -> Reply {
        let handle = try openHandle()
        do throws(AisError) {
            return try service.ask(code, timeout: timeout) { request(handle, &$0) }
        } catch {
            guard error == .badHandle, !isClosed.load(ordering: .acquiring) else { throw error }
        }
        let body = Self.openBody(name, flags, attributes)
        let reply = try service.call(.open, timeout: timeout, { $0.raw(body) }) { reader throws(DecodeError) in
            try reader.value(OpenReply.self)
        }
        let fresh = adopt(reply, instead: handle)
        return try service.ask(code, timeout: timeout) { request(fresh, &$0) }
    }

    /// ckptd had closed our handle (it had not heard from this process for too long); the new open takes its place.
    func adopt(_ reply: OpenReply, instead old: HandleID) -> HandleID {
        let (isFirst, current) = handleWord.compareExchange(
            expected: old.rawValue, desired: reply.handle.rawValue, ordering: .acquiringAndReleasing)
        if isFirst {
            unmap(isClosed: false)
            if flags.contains([.read, .write]) { directHope.begin() }
            service.moved(from: old, to: reply.handle)
            service.movedWatcher(from: old, to: reply.handle)
            return reply.handle
        }
        // Another thread was faster; ours is one open too many.
        service.closeSoon(reply.handle)
        return HandleID(rawValue: current)
    }

    /// For the follower: never blocks.
    func reopenSoon(_ done: @escaping @Sendable (Bool) -> Void) {
        guard let old = try? openHandle() else { return done(false) }  // closed: nothing to open again
        let body = Self.openBody(name, flags, attributes)
        service.callSoon(.open, body, timeout: .seconds(30)) { [self] result in
            guard case .success(let answer) = result, let reply = try? OpenReply(decoding: answer.body) else {
                return done(false)  // the checkpoint is gone; the sequence ends
            }
            _ = adopt(reply, instead: old)
            done(true)
        }
    }

    func beginUpdate(of operations: UInt32 = 1) throws(AisError) {
        if operations > CkptProtocolLimits.operationsMax { throw .noResources }
        if underWay.wrappingAdd(1, ordering: .relaxed).newValue > Self.updatesUnderWayMax {
            underWay.wrappingSubtract(1, ordering: .relaxed)
            throw .tryAgain
        }
    }

    func endUpdate() { underWay.wrappingSubtract(1, ordering: .relaxed) }

    // MARK: Updates

    @discardableResult
    public func writeBlocking(
        ifChangeIs change: UInt64? = nil, timeout: Duration = .seconds(5), _ build: (inout UpdateBatch) -> Void
    ) throws(AisError) -> UpdateReply {
        var batch = UpdateBatch()
        build(&batch)
        try beginUpdate(of: batch.count)
        defer { endUpdate() }
        return try perform(change == nil ? .update : .updateIf, timeout, { Self.encode(batch, change, $0, &$1) }) {
            reader throws(DecodeError) in
            try reader.value()
        }
    }

    static func encode(
        _ batch: UpdateBatch, _ change: UInt64?, _ handle: HandleID, _ writer: inout ByteWriter
    ) {
        if let change { writer.integer(change) }
        writer.integer(handle.rawValue)
        writer.integer(batch.count)
        writer.raw(batch.writer.bytes)
    }

    /// As above, and the hot path: nothing is allocated before the answer.
    @discardableResult
    public func writeBlocking(
        _ section: SectionID = .defaultSection, at offset: Int, _ data: UnsafeRawBufferPointer,
        timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        if isOpen,
            let change = section.bytes.withUnsafeBytes({ writeDirect($0, at: offset, data, replaces: false) })
        {
            return change
        }
        return try updateOne(.write, section, UInt64(bitPattern: Int64(offset)), data, timeout)
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

    @discardableResult
    public func overwriteBlocking(
        _ section: SectionID, _ data: [UInt8], timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        var outcome: Result<UInt64, AisError> = .failure(.library)
        data.withUnsafeBytes { bytes in
            do throws(AisError) {
                outcome = .success(try overwriteBlocking(section, bytes, timeout: timeout))
            } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    /// As above, and the hot path: nothing is allocated before the answer.
    @discardableResult
    public func overwriteBlocking(
        _ section: SectionID, _ data: UnsafeRawBufferPointer, timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        if isOpen, let change = section.bytes.withUnsafeBytes({ writeDirect($0, at: 0, data, replaces: true) }) {
            return change
        }
        return try updateOne(.overwrite, section, 0, data, timeout)
    }

    @discardableResult
    public func createSectionBlocking(
        _ section: SectionID? = nil, _ data: [UInt8] = [], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) throws(AisError) -> SectionID {
        let reply = try writeBlocking(timeout: timeout) { $0.create(section, data, expires: expires) }
        return reply.generated.first ?? section ?? .defaultSection
    }

    public func deleteSectionBlocking(_ section: SectionID, timeout: Duration = .seconds(5)) throws(AisError) {
        try writeBlocking(timeout: timeout) { $0.delete(section) }
    }

    // MARK: Reads

    public func readBlocking(_ ranges: [ReadRange], timeout: Duration = .seconds(5)) throws(AisError) -> ReadReply {
        _ = try openHandle()
        if let reply = readMapped(ranges) { return reply }
        return try ask(ranges, timeout)
    }

    private func ask(_ ranges: [ReadRange], _ timeout: Duration) throws(AisError) -> ReadReply {
        try perform(.read, timeout, { CkptRequest.read($0, ranges).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
        }
    }

    public func readBlocking(
        _ section: SectionID = .defaultSection, at offset: Int = 0, count: Int = .max, timeout: Duration = .seconds(5)
    ) throws(AisError) -> [UInt8] {
        _ = try openHandle()
        let offset = UInt64(bitPattern: Int64(offset))
        // A negative count becomes one that no section has: the service refuses it.
        let count = count < 0 ? ReadRange.toTheEnd - 1 : UInt64(count)
        if let data = section.bytes.withUnsafeBytes({ readMapped($0, offset, count) }) { return data }
        return try ask([ReadRange(id: section, offset: offset, count: count)], timeout).parts.first ?? []
    }

    /// Reads to where `buffer` says, and returns the number of bytes: nothing is allocated as long as the replica of
    /// this node can be read.
    ///
    /// - Parameter buffer: a place for so many bytes; nil: there is none (`.noMemory`). It may be asked more than once;
    ///   the last place counts.
    public func readBlocking(
        _ section: UnsafeRawBufferPointer, at offset: UInt64, count: UInt64, timeout: Duration = .seconds(5),
        into buffer: (Int) -> UnsafeMutableRawBufferPointer?
    ) throws(AisError) -> Int {
        _ = try openHandle()
        var isOutOfMemory = false
        let copied = readMapped(section, offset, count) { size in
            let place = buffer(size)
            isOutOfMemory = place == nil
            return place
        }
        if let copied { return copied }
        // To ask would take as much again, of our own.
        if isOutOfMemory { throw .noMemory }
        var size = 0
        try askForParts([ReadRange(id: SectionID(Array(section)), offset: offset, count: count)], timeout) { _, part in
            size = part.count
            guard let target = buffer(size), target.count >= size else { return false }
            if size > 0 { target.copyMemory(from: part) }
            return true
        }
        return size
    }

    /// Asks for the data and hands it over where the answer lies, part after part; valid during `take` only, which says
    /// whether it found the memory for it.
    func askForParts(
        _ ranges: [ReadRange], _ timeout: Duration, _ take: (Int, UnsafeRawBufferPointer) -> Bool
    ) throws(AisError) {
        let isTaken = try perform(.read, timeout, { CkptRequest.read($0, ranges).encode(to: &$1) }) {
            reader throws(DecodeError) in
            var isTaken = true
            var count = 0
            _ = try ReadReply.visit(&reader) { index, part in
                count += 1
                if isTaken, index < ranges.count { isTaken = take(index, part) }
            }
            guard count == ranges.count else { throw .badValue("\(count) parts") }
            return isTaken
        }
        guard isTaken else { throw .noMemory }
    }

    public func readAllBlocking(timeout: Duration = .seconds(10)) throws(AisError) -> SnapshotReply {
        try perform(.snapshot, timeout, { CkptRequest.snapshot($0).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
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

    public func statusBlocking(timeout: Duration = .seconds(5)) throws(AisError) -> CheckpointDescriptor {
        try perform(.status, timeout, { CkptRequest.status($0).encode(to: &$1) }) { reader throws(DecodeError) in
            try reader.value()
        }
    }
}

extension CkptRequest {
    var body: [UInt8] {
        var writer = ByteWriter()
        encode(to: &writer)
        return writer.bytes
    }
}
