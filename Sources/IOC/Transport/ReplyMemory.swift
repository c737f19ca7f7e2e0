import OSAL
import SAFTypes

/// What one session has asked and been answered: the memory behind at-most-once. Bounded, and allocates nothing once
/// warm. Decides only; the server sends.
///
/// A request's number is known from its arrival until the client says that it needs no answer up to that number any
/// more. As long as it is known, a second arrival does not execute again.
struct ReplyMemory {
    enum Verdict: Equatable {
        /// Not seen before.
        case execute
        /// Being executed: the answer goes out when it is there.
        case inProgress
        /// Executed: send the answer at this index again.
        case answered(Int)
        /// Executed, but the answer had to make room for newer ones.
        case forgotten
        /// More requests outstanding than the limit.
        case overloaded
    }

    struct Limits: Equatable, Sendable {
        /// Requests of one session whose answers the client has not acknowledged.
        var requestsMax = 1024
        /// Bytes of answers kept for a retransmission after they were sent.
        var bytesMax = 1 << 20
        /// Bytes of answers that the client does not take; beyond, it is dropped.
        var unsentBytesMax = 8 << 20
    }

    struct Entry {
        enum State: Equatable { case free, inProgress, answered, forgotten }
        var state = State.free
        var number: UInt64 = 0
        var kind = FrameKind.reply
        var lane = Lane.normal
        var code: UInt16 = 0
        var status: UInt32 = 0
        var body: [UInt8] = []
        var descriptors: [SharedDescriptor] = []
        var isSent = false
    }

    let limits: Limits
    private(set) var entries: [Entry] = []
    private(set) var bytes = 0
    private(set) var unsentCount = 0
    private(set) var unsentBytes = 0
    private var acknowledged: UInt64 = 0

    init(limits: Limits = Limits()) { self.limits = limits }

    /// Entries in use.
    var count: Int { entries.reduce(0) { $0 + ($1.state == .free ? 0 : 1) } }

    /// A request arrived; `acknowledged` is what its client needs no more.
    mutating func begin(_ number: UInt64, acknowledged: UInt64, lane: Lane, code: UInt16) -> Verdict {
        let newlyAcknowledged = min(acknowledged, number &- 1)
        if newlyAcknowledged > self.acknowledged { self.acknowledged = newlyAcknowledged }
        var unused: Int?
        for index in entries.indices {
            if entries[index].state != .free, entries[index].state != .inProgress,
                entries[index].number <= self.acknowledged
            {
                release(index)
            }
            switch entries[index].state {
            case .free: unused = unused ?? index
            case .inProgress: if entries[index].number == number { return .inProgress }
            case .answered: if entries[index].number == number { return .answered(index) }
            case .forgotten: if entries[index].number == number { return .forgotten }
            }
        }
        if number <= self.acknowledged { return .forgotten }
        let index: Int
        if let unused {
            index = unused
        } else {
            guard entries.count < limits.requestsMax else { return .overloaded }
            index = entries.count
            entries.append(Entry())
        }
        entries[index].state = .inProgress
        entries[index].number = number
        entries[index].lane = lane
        entries[index].code = code
        return .execute
    }

    /// The answer to a request in progress: its index, or nil when there is no such request (any more).
    mutating func finish(
        _ number: UInt64, kind: FrameKind, status: UInt32, body: UnsafeRawBufferPointer, descriptors: [SharedDescriptor]
    ) -> Int? {
        guard let index = entries.firstIndex(where: { $0.state == .inProgress && $0.number == number }) else {
            return nil
        }
        entries[index].state = .answered
        entries[index].kind = kind
        entries[index].status = status
        entries[index].body.removeAll(keepingCapacity: true)
        entries[index].body.append(contentsOf: body)
        entries[index].descriptors = descriptors
        entries[index].isSent = false
        bytes += body.count
        unsentCount += 1
        unsentBytes += body.count
        return index
    }

    mutating func markSent(_ index: Int) {
        guard entries[index].state == .answered, !entries[index].isSent else { return }
        entries[index].isSent = true
        unsentCount -= 1
        unsentBytes -= entries[index].body.count
        if bytes > limits.bytesMax { makeRoom(keeping: index) }
    }

    /// The oldest answer of `lane` that was not sent, if any.
    func nextUnsent(_ lane: Lane) -> Int? {
        guard unsentCount > 0 else { return nil }
        var best: Int?
        for index in entries.indices
        where entries[index].state == .answered && !entries[index].isSent && entries[index].lane == lane {
            if let known = best, entries[known].number <= entries[index].number { continue }
            best = index
        }
        return best
    }

    var isOverfull: Bool { unsentBytes > limits.unsentBytesMax }

    /// After a hang-up nothing is on its way any more: the answers wait to be asked for again.
    mutating func connectionLost() {
        for index in entries.indices where entries[index].state == .answered && !entries[index].isSent {
            markSent(index)
        }
    }

    /// Forgets answers that were sent, oldest first, until the rest fits; the fact of execution stays known.
    private mutating func makeRoom(keeping kept: Int) {
        while bytes > limits.bytesMax {
            var oldest: Int?
            for index in entries.indices
            where index != kept && entries[index].state == .answered && entries[index].isSent
                && !entries[index].body.isEmpty
            {
                if let known = oldest, entries[known].number <= entries[index].number { continue }
                oldest = index
            }
            guard let oldest else { return }
            bytes -= entries[oldest].body.count
            entries[oldest].body = []
            entries[oldest].descriptors = []
            entries[oldest].state = .forgotten
        }
    }

    private mutating func release(_ index: Int) {
        bytes -= entries[index].body.count
        if entries[index].state == .answered, !entries[index].isSent {
            unsentCount -= 1
            unsentBytes -= entries[index].body.count
        }
        if entries[index].body.capacity > 64 << 10 { entries[index].body = [] }
        entries[index].body.removeAll(keepingCapacity: true)
        entries[index].descriptors = []
        entries[index].state = .free
    }
}
