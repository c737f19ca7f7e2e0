import EngineKit

/// Names one started timer; stale once it has fired or was cancelled, and then never names another one.
public struct TimerHandle: Hashable, Sendable {
    let index: UInt32
    let generation: UInt32
}

/// Many timers at once: O(1) start and cancel, no allocation once it has grown to the number of live timers.
///
/// A pure value: it reads no clock. Ticks of one millisecond; a timer never fires before its deadline and is due with
/// the first whole millisecond after it. Timers fire in the order of their ticks, within a tick in the order of their
/// start.
///
/// Four wheels of 256 slots. A timer lies in the wheel of the highest byte in which its tick differs from the current
/// one, so all timers of a tick always share a slot, and nothing ever lies behind the hand of its wheel. Beyond 2³² ms
/// (49 days) timers wait in a list of their own. Source of the idea: Varghese, Lauck: Hashed and Hierarchical Timing
/// Wheels, SOSP 1987.
public struct TimingWheel<Payload> {
    static var tickNanoseconds: UInt64 { 1_000_000 }
    private static var slotCount: Int { 1025 }  // 4 × 256, and the far list
    private static var farSlot: Int { 1024 }

    /// A link of a circular list; the first `slotCount` nodes are the heads of the slots.
    private struct Node {
        var next: UInt32
        var previous: UInt32
        var generation: UInt32
        var isLive: Bool
        var tick: UInt64
    }

    private var nodes: [Node]
    private var payloads: [Payload?]
    private var firstFree: UInt32 = 0  // 0, a head, means none
    private var occupied: [16 of UInt64] = .init(repeating: 0)
    /// Every tick before this one has been fired.
    private var current: UInt64
    /// The earliest tick a new timer may get, so that one started by a callback waits for the next turn.
    private var earliest: UInt64
    /// Timers that are started and neither fired nor cancelled.
    public private(set) var count = 0

    /// - Parameter capacity: timers for which memory is taken at once.
    public init(now: Instant, capacity: Int = 64) {
        current = now.nanoseconds / Self.tickNanoseconds
        earliest = current
        nodes = []
        nodes.reserveCapacity(Self.slotCount + capacity)
        for index in 0..<UInt32(Self.slotCount) {
            nodes.append(Node(next: index, previous: index, generation: 0, isLive: false, tick: 0))
        }
        payloads = Array(repeating: nil, count: Self.slotCount)
        payloads.reserveCapacity(Self.slotCount + capacity)
    }

    /// Starts a timer. A deadline that has passed is due with the next tick.
    public mutating func start(at deadline: Instant, _ payload: Payload) -> TimerHandle {
        let (whole, rest) = deadline.nanoseconds.quotientAndRemainder(dividingBy: Self.tickNanoseconds)
        let index: UInt32
        if firstFree != 0 {
            index = firstFree
            firstFree = nodes[Int(index)].next
        } else {
            index = UInt32(nodes.count)
            nodes.append(Node(next: 0, previous: 0, generation: 0, isLive: false, tick: 0))
            payloads.append(nil)
        }
        nodes[Int(index)].isLive = true
        nodes[Int(index)].tick = max(whole + (rest == 0 ? 0 : 1), earliest)
        payloads[Int(index)] = payload
        link(index)
        count += 1
        return TimerHandle(index: index, generation: nodes[Int(index)].generation)
    }

    /// Stops a timer; false when it has fired or was cancelled before.
    @discardableResult
    public mutating func cancel(_ handle: TimerHandle) -> Bool {
        guard isRunning(handle) else { return false }
        unlink(handle.index)
        _ = free(handle.index)
        return true
    }

    public func isRunning(_ handle: TimerHandle) -> Bool {
        let index = Int(handle.index)
        return index >= Self.slotCount && index < nodes.count && nodes[index].isLive
            && nodes[index].generation == handle.generation
    }

    /// Takes the next timer that is due at `now`, or nil. Call it until nil; timers may be started and cancelled
    /// between.
    public mutating func popDue(at now: Instant) -> Payload? {
        let target = max(now.nanoseconds / Self.tickNanoseconds, earliest == 0 ? 0 : earliest - 1)
        earliest = max(earliest, target + 1)
        while let (slot, start) = nextSlot() {
            if start > target {
                // The hand may go up to the slot, but where it would enter a coarse one that has to be spread first.
                if slot < 256 || start > target + 1 {
                    current = max(current, target + 1)
                    return nil
                }
            }
            current = start
            if slot < 256 {
                let index = nodes[slot].next
                unlink(index)
                return free(index)
            }
            spread(slot)
        }
        current = max(current, target + 1)
        return nil
    }

    /// Fires everything due at `now`. Where callbacks start or cancel timers, use ``popDue(at:)``.
    public mutating func advance(to now: Instant, fire: (Payload) -> Void) {
        while let payload = popDue(at: now) { fire(payload) }
    }

    /// When to look again: when the next timer is due, so that nobody wakes for nothing; nil without timers.
    ///
    /// Earlier, but never later, where more than ``scannedMax`` timers share the next coarse slot: it has to be spread
    /// first, and among so many one more wake-up does not count.
    public var nextDeadline: Instant? {
        guard let (slot, start) = nextSlot() else { return nil }
        let tick = slot < 256 ? start : firstTick(slot, start)
        let (nanoseconds, overflow) = tick.multipliedReportingOverflow(by: Self.tickNanoseconds)
        return overflow ? .distantFuture : Instant(nanoseconds: nanoseconds)
    }

    static var scannedMax: Int { 16 }

    /// The earliest tick in a coarse slot, or its start when there are too many to look at.
    private func firstTick(_ slot: Int, _ start: UInt64) -> UInt64 {
        var earliest = UInt64.max
        var index = nodes[slot].next
        for _ in 0..<Self.scannedMax {
            if index == UInt32(slot) { return max(start, earliest) }
            earliest = min(earliest, nodes[Int(index)].tick)
            index = nodes[Int(index)].next
        }
        return index == UInt32(slot) ? max(start, earliest) : start
    }

    /// The first slot with timers, and its first tick.
    private func nextSlot() -> (slot: Int, start: UInt64)? {
        if count == 0 { return nil }
        for word in 0..<16 where occupied[word] != 0 {
            let slot = word * 64 + occupied[word].trailingZeroBitCount
            let shift = UInt64(slot >> 8) * 8
            let base = (current >> (shift + 8)) << (shift + 8)
            return (slot, base | UInt64(slot & 255) << shift)
        }
        return (Self.farSlot, ((current >> 32) + 1) << 32)
    }

    private func slot(of tick: UInt64) -> Int {
        let difference = tick ^ current
        if difference >> 32 != 0 { return Self.farSlot }
        let level = difference == 0 ? 0 : (63 - difference.leadingZeroBitCount) >> 3
        return level << 8 | Int(tick >> UInt64(level * 8)) & 255
    }

    private mutating func link(_ index: UInt32) {
        let slot = slot(of: nodes[Int(index)].tick)
        let last = nodes[slot].previous
        nodes[Int(index)].next = UInt32(slot)
        nodes[Int(index)].previous = last
        nodes[Int(last)].next = index
        nodes[slot].previous = index
        if slot != Self.farSlot { occupied[slot >> 6] |= 1 << UInt64(slot & 63) }
    }

    private mutating func unlink(_ index: UInt32) {
        let (next, previous) = (nodes[Int(index)].next, nodes[Int(index)].previous)
        nodes[Int(previous)].next = next
        nodes[Int(next)].previous = previous
        if next == previous && next < 1024 { occupied[Int(next) >> 6] &= ~(1 << UInt64(next & 63)) }
    }

    private mutating func free(_ index: UInt32) -> Payload? {
        let payload = payloads[Int(index)]
        payloads[Int(index)] = nil
        nodes[Int(index)].isLive = false
        nodes[Int(index)].generation &+= 1
        nodes[Int(index)].next = firstFree
        firstFree = index
        count -= 1
        return payload
    }

    /// Moves the timers of a coarse slot, which the hand has reached, to finer ones, in their order.
    private mutating func spread(_ slot: Int) {
        var index = nodes[slot].next
        nodes[slot].next = UInt32(slot)
        nodes[slot].previous = UInt32(slot)
        if slot != Self.farSlot { occupied[slot >> 6] &= ~(1 << UInt64(slot & 63)) }
        while index != UInt32(slot) {
            let next = nodes[Int(index)].next
            link(index)
            index = next
        }
    }
}

extension TimingWheel: Sendable where Payload: Sendable {}
