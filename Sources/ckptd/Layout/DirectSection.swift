public import SAFTypes

/// A section that its writers write themselves, in memory shared with whoever has the checkpoint open.
///
/// Any thread, any process. Nothing that stands in the memory can make a call fail otherwise than by refusing.
public struct DirectSection: @unchecked Sendable {
    private let region: DirectRegion<MappedRegion>
    private let file: UnsafeMutableRawPointer
    /// Others are to be told what is written here.
    public let isTold: Bool

    /// Nil when the place does not lie in `file`, the whole direct file as it is mapped.
    @inline(__always)
    public init?(_ place: DirectPlace, in file: UnsafeMutableRawBufferPointer) {
        guard let base = file.baseAddress, place.offset >= DirectLayout.headerBytes, place.limit > 0,
            place.limit <= DirectLayout.limitMax, place.offset % 64 == 0, place.offset <= file.count,
            place.bytes <= file.count - place.offset
        else { return nil }
        self.file = base
        isTold = place.isTold
        region = DirectRegion(
            memory: MappedRegion(base: base + place.offset), limit: place.limit, grant: place.grant)
    }

    public var lock: DirectLock { region.lock }

    /// After a write here: which sleep of ckptd is to be ended by a call; 0: none, it will look by itself.
    @inline(__always)
    public var call: UInt64 { isTold ? DirectBell(file).call : 0 }

    /// Writes at an offset; grows the section up to its limit, fills a gap with zero bytes.
    ///
    /// - Parameters:
    ///   - owner: ``DirectLock/owner(process:start:)``.
    ///   - time: nanoseconds since 1970 UTC.
    /// - Returns: The change number; if others are told, that of the update they are told, or an earlier one.
    public func write(
        at offset: Int, _ data: UnsafeRawBufferPointer, by owner: UInt32, time: SaTime,
        patience: Duration = DirectLock.patience
    ) throws(DirectRefusal) -> UInt64 {
        try locked(.init(replaces: false, offset: offset, data: data, time: time), owner, patience)
    }

    /// Replaces the data, the size included.
    public func overwrite(
        _ data: UnsafeRawBufferPointer, by owner: UInt32, time: SaTime, patience: Duration = DirectLock.patience
    ) throws(DirectRefusal) -> UInt64 {
        try locked(.init(replaces: true, offset: 0, data: data, time: time), owner, patience)
    }

    // Once for both: the C library is small.
    @inline(never)
    private func locked(
        _ change: DirectRegion<MappedRegion>.Change, _ owner: UInt32, _ patience: Duration
    ) throws(DirectRefusal) -> UInt64 {
        if isTold, !DirectBell(file).pass(patience) { throw .busy }
        guard lock.acquire(owner, patience: patience) else { throw .busy }
        defer { lock.release() }
        return try region.write(change, counting: file + DirectLayout.changesOffset, isTold: isTold)
    }

    /// Copies as much as there is from `offset` on and fits. The memory may be mapped for reading only.
    public func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) throws(DirectRefusal) -> DirectView {
        try region.read(at: offset, into: target)
    }

    // MARK: For ckptd

    /// Makes the memory the section's; the lock is ``DirectLock/service``'s.
    public func prepare(_ data: UnsafeRawBufferPointer, lastUpdate: SaTime, change: UInt64) {
        region.prepare(data, .init(size: data.count, lastUpdate: lastUpdate, change: change))
    }

    /// What holds now: another word after every write, and no other way.
    public var published: UInt64 { region.published }

    /// From now on nobody can publish here. Waits for nobody; ``readFrozen(at:into:)`` has what holds for good.
    public func close() { region.close() }

    public func readFrozen(
        at offset: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(DirectRefusal) -> DirectView {
        try region.read(at: offset, into: target, frozen: true)
    }
}
