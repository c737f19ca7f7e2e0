import Containers
import EOLoop
import IOC
import SAFTypes

/// One call on its way to a node.
struct OutgoingCall {
    /// Where it is, which decides what a loss means for it.
    enum State: Equatable {
        /// Not given to a connection: surely not executed.
        case waiting
        /// Given to the connection there is; its first byte stands at this position of its lane.
        case queued(position: UInt64)
        /// A byte of it may have left on a connection that broke.
        case unknown
    }

    let code: UInt16
    let lane: Lane
    let body: [UInt8]
    let timer: LoopTimer
    let then: (Result<UnsafeRawBufferPointer, CallError>) -> Void
    var state = State.waiting
    /// Sent before on a connection that broke.
    var isRetransmission = false
}

/// The calls to one node, by number; constant time for all that happens often.
struct CallTable {
    /// The number of the first slot.
    private var base: UInt64 = 1
    private var slots = RingQueue<OutgoingCall?>(capacity: RequestWindow.spanMax)
    private(set) var count = 0
    private(set) var bytes = 0

    /// No answer up to this number is wanted any more.
    var acknowledged: UInt64 { base - 1 }
    var isFull: Bool { slots.isFull }
    var nextNumber: UInt64 { base + UInt64(slots.count) }

    /// To be called with room only.
    mutating func add(_ call: OutgoingCall) -> UInt64 {
        let number = nextNumber
        slots.append(call)
        count += 1
        bytes += call.body.count
        return number
    }

    subscript(number: UInt64) -> OutgoingCall? {
        get { index(number).flatMap { slots[$0] } }
        set { if let index = index(number) { slots[index] = newValue } }
    }

    mutating func remove(_ number: UInt64) -> OutgoingCall? {
        guard let index = index(number), let call = slots[index] else { return nil }
        slots[index] = nil
        count -= 1
        bytes -= call.body.count
        while let first = slots.first, first == nil {
            _ = slots.popFirst()
            base += 1
        }
        return call
    }

    /// Numbers of all calls, in order.
    var numbers: [UInt64] { (0..<slots.count).filter { slots[$0] != nil }.map { base + UInt64($0) } }

    private func index(_ number: UInt64) -> Int? {
        number >= base && number - base < UInt64(slots.count) ? Int(number - base) : nil
    }
}
