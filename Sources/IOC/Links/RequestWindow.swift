import Containers
import SAFTypes

/// What one life of a peer has asked and been answered: the memory behind at-most-once. A pure value; every operation
/// takes constant time, but for forgetting answers, which takes one step per answer.
struct RequestWindow {
    enum Verdict: Equatable {
        /// Not seen before.
        case execute
        /// Being executed: the answer goes out when it is there.
        case inProgress
        /// Executed: here is the answer again.
        case answered(kind: LinkFrameKind, status: UInt32, body: [UInt8])
        /// Executed, but the answer had to make room for newer ones.
        case forgotten
        /// Further ahead of the oldest open request than ``spanMax``.
        case overloaded
    }

    /// How far a request's number may be ahead of the oldest whose answer is still wanted.
    static let spanMax = 4096

    private enum Entry {
        case unseen
        case inProgress
        case answered(kind: LinkFrameKind, status: UInt32, body: [UInt8])
        case forgotten
    }

    private let bytesMax: Int
    /// No answer up to this number is wanted any more.
    private var acknowledged: UInt64 = 0
    /// The requests after `acknowledged`, one after the other.
    private var entries = RingQueue<Entry>(capacity: RequestWindow.spanMax)
    private(set) var bytes = 0

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    mutating func begin(_ number: UInt64, acknowledged: UInt64) -> Verdict {
        // A peer that needs no answer to what it only asks now makes no sense; its word is not taken.
        forget(upTo: min(acknowledged, number &- 1))
        guard number > self.acknowledged else { return .forgotten }
        let distance = number - self.acknowledged - 1
        guard distance < UInt64(Self.spanMax) else { return .overloaded }
        let index = Int(distance)
        while entries.count <= index { entries.append(.unseen) }
        switch entries[index] {
        case .unseen:
            entries[index] = .inProgress
            return .execute
        case .inProgress: return .inProgress
        case .answered(let kind, let status, let body): return .answered(kind: kind, status: status, body: body)
        case .forgotten: return .forgotten
        }
    }

    /// Remembers the answer; false when the request is not being executed (answered already, or nobody wants it).
    mutating func finish(_ number: UInt64, kind: LinkFrameKind, status: UInt32, body: [UInt8]) -> Bool {
        guard number > acknowledged, number - acknowledged <= UInt64(entries.count) else { return false }
        let index = Int(number - acknowledged - 1)
        guard case .inProgress = entries[index] else { return false }
        guard body.count <= bytesMax else {
            entries[index] = .forgotten
            return true
        }
        entries[index] = .answered(kind: kind, status: status, body: body)
        bytes += body.count
        var oldest = 0
        while bytes > bytesMax, oldest < entries.count {
            if oldest != index, case .answered(_, _, let body) = entries[oldest] {
                bytes -= body.count
                entries[oldest] = .forgotten
            }
            oldest += 1
        }
        return true
    }

    private mutating func forget(upTo number: UInt64) {
        while acknowledged < number {
            guard let entry = entries.popFirst() else {
                acknowledged = number
                return
            }
            if case .answered(_, _, let body) = entry { bytes -= body.count }
            acknowledged += 1
        }
    }
}
