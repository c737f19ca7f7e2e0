public import CkptProtocol
public import SAFTypes

/// An iteration over a checkpoint's sections, for threads that may wait. One thread at a time.
///
/// Every section that existed when it was begun and is not deleted before its end is returned exactly once; others may
/// or may not be. It holds nothing in the service: it may be left at any time.
/// Source: saCkptSectionIterationInitialize(), saCkptSectionIterationNext().
public struct SectionIteration {
    private let checkpoint: Checkpoint
    private let chosen: SectionsChosen
    private let time: SaTime
    private var page: [SectionDescriptor] = []
    private var next = 0
    private var hasMore = true

    /// Sections that are asked for at a time.
    private static let pageSize: UInt32 = 256

    init(_ checkpoint: Checkpoint, _ chosen: SectionsChosen, _ time: SaTime) {
        self.checkpoint = checkpoint
        self.chosen = chosen
        self.time = time
    }

    /// Begins at once, so that whoever begins hears what prevents it.
    ///
    /// - Throws: `.notExist` there is no active replica.
    public init(
        _ checkpoint: Checkpoint, _ chosen: SectionsChosen, _ time: SaTime, timeout: Duration
    ) throws(AisError) {
        self.init(checkpoint, chosen, time)
        try fetch(timeout)
    }

    private mutating func fetch(_ timeout: Duration) throws(AisError) {
        let after = page.last?.serial ?? 0
        let fresh = try checkpoint.pageBlocking(after: after, limit: Self.pageSize, chosen, time, timeout: timeout)
        (page, next) = (fresh.sections, 0)
        hasMore = fresh.hasMore && !fresh.sections.isEmpty
    }

    /// The next section; nil when there are no more (SA_AIS_ERR_NO_SECTIONS), also if asked again.
    ///
    /// - Throws: `.notExist` there is no active replica any more; it may be tried again.
    public mutating func next(timeout: Duration = .seconds(5)) throws(AisError) -> SectionDescriptor? {
        if next == page.count, hasMore { try fetch(timeout) }
        guard next < page.count else { return nil }
        defer { next += 1 }
        return page[next]
    }
}

extension Checkpoint {
    func pageBlocking(
        after serial: UInt64, limit: UInt32, _ chosen: SectionsChosen, _ time: SaTime, timeout: Duration
    ) throws(AisError) -> ListReply {
        try perform(
            .list, timeout,
            { CkptRequest.list($0, after: serial, limit: limit, chosen: chosen, time: time).encode(to: &$1) },
            { reader throws(DecodeError) in try reader.value() })
    }
}
