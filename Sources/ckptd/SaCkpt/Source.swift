import OSAL

/// Something that tells the program again and again, one thing after the other, however many threads dispatch.
class Source: @unchecked Sendable {
    let open: OpenCheckpoint
    private let turn = Lock(Turn.idle)

    private enum Turn {
        case idle
        /// In the queue, or telling.
        case busy
        /// And there is more since.
        case busyWithMore
    }

    init(_ open: OpenCheckpoint) { self.open = open }

    /// There is something to tell. Any thread; it may hold locks.
    final func ready() {
        let isFirst = turn.withLock { turn in
            defer { turn = turn == .idle ? .busy : .busyWithMore }
            return turn == .idle
        }
        if isFirst { open.client.add(.source(self)) }
    }

    /// In a thread that dispatches: tells one thing, and stands in the queue again if there may be more.
    final func tell() {
        let isTold = tellOne()
        let hasMore = turn.withLock { turn in
            defer { turn = isTold || turn == .busyWithMore ? .busy : .idle }
            return isTold || turn == .busyWithMore
        }
        if hasMore { open.client.add(.source(self)) }
    }

    /// False when there is nothing. Overridden.
    func tellOne() -> Bool { false }
}
