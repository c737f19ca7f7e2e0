import EngineKit
import OSAL

/// The timing wheel beside a binary heap, both with ten thousand timers running.
enum TimerBenches {
    static let running = 10_000

    static func all() -> [Comparison] {
        [
            Comparison(
                name: "osal.timer.start-cancel", subject: Work("start and cancel", wheelCancels()),
                peer: Work("binary heap", heapCancels())),
            Comparison(
                name: "osal.timer.start-fire", subject: Work("start and fire", wheelFires()),
                peer: Work("binary heap", heapFires())),
        ]
    }

    /// Between one millisecond and a minute from `now`.
    private static func deadline(_ random: inout SeededRandom, after now: Instant) -> Instant {
        now + .microseconds(Int64(1_000 + random.next() % 60_000_000))
    }

    private static func filledWheel(_ random: inout SeededRandom) -> TimingWheel<UInt32> {
        var wheel = TimingWheel<UInt32>(now: .start, capacity: running + 1)
        for number in 0..<UInt32(running) { _ = wheel.start(at: deadline(&random, after: .start), number) }
        return wheel
    }

    private static func filledHeap(_ random: inout SeededRandom) -> TimerHeap {
        var heap = TimerHeap(capacity: running + 1)
        for _ in 0..<running { _ = heap.start(at: deadline(&random, after: .start)) }
        return heap
    }

    private static func wheelCancels() -> (Int) -> Void {
        let random = kept(SeededRandom(seed: 1))
        let wheel = kept(filledWheel(&random.pointee))
        return { count in
            for _ in 0..<count {
                wheel.pointee.cancel(wheel.pointee.start(at: deadline(&random.pointee, after: .start), 7))
            }
        }
    }

    private static func heapCancels() -> (Int) -> Void {
        let random = kept(SeededRandom(seed: 1))
        let heap = kept(filledHeap(&random.pointee))
        return { count in
            for _ in 0..<count { heap.pointee.cancel(heap.pointee.start(at: deadline(&random.pointee, after: .start))) }
        }
    }

    /// Time moves on by 3 ms for each timer, the time after which one of so many is due.
    private static func wheelFires() -> (Int) -> Void {
        let random = kept(SeededRandom(seed: 2))
        let wheel = kept(filledWheel(&random.pointee))
        let now = kept(Instant.start)
        return { count in
            for _ in 0..<count {
                now.pointee = now.pointee + .milliseconds(3)
                while let number = wheel.pointee.popDue(at: now.pointee) { keep(number) }
                _ = wheel.pointee.start(at: deadline(&random.pointee, after: now.pointee), 7)
            }
        }
    }

    private static func heapFires() -> (Int) -> Void {
        let random = kept(SeededRandom(seed: 2))
        let heap = kept(filledHeap(&random.pointee))
        let now = kept(Instant.start)
        return { count in
            for _ in 0..<count {
                now.pointee = now.pointee + .milliseconds(3)
                while let number = heap.pointee.popDue(at: now.pointee) { keep(number) }
                _ = heap.pointee.start(at: deadline(&random.pointee, after: now.pointee))
            }
        }
    }
}

/// Timers in a binary heap that knows where each of them lies, so that one can be cancelled: O(log n) for everything.
struct TimerHeap {
    private var heap: [(deadline: Instant, number: Int32)] = []
    /// Where each timer lies in the heap; a free number holds the next free one.
    private var places: [Int32] = []
    private var firstFree: Int32 = -1

    init(capacity: Int) {
        heap.reserveCapacity(capacity)
        places.reserveCapacity(capacity)
    }

    mutating func start(at deadline: Instant) -> Int32 {
        let number: Int32
        if firstFree >= 0 {
            number = firstFree
            firstFree = places[Int(number)]
        } else {
            number = Int32(places.count)
            places.append(0)
        }
        heap.append((deadline, number))
        rise(heap.count - 1)
        return number
    }

    mutating func cancel(_ number: Int32) { remove(at: Int(places[Int(number)])) }

    mutating func popDue(at now: Instant) -> Int32? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        remove(at: 0)
        return first.number
    }

    private mutating func remove(at place: Int) {
        let number = heap[place].number
        let last = heap.removeLast()
        if place < heap.count {
            heap[place] = last
            places[Int(last.number)] = Int32(place)
            rise(place)
            sink(Int(places[Int(last.number)]))
        }
        places[Int(number)] = firstFree
        firstFree = number
    }

    private mutating func rise(_ start: Int) {
        var place = start
        let entry = heap[place]
        while place > 0, entry.deadline < heap[(place - 1) / 2].deadline {
            put(heap[(place - 1) / 2], at: place)
            place = (place - 1) / 2
        }
        put(entry, at: place)
    }

    private mutating func sink(_ start: Int) {
        var place = start
        let entry = heap[place]
        while 2 * place + 1 < heap.count {
            var child = 2 * place + 1
            if child + 1 < heap.count, heap[child + 1].deadline < heap[child].deadline { child += 1 }
            guard heap[child].deadline < entry.deadline else { break }
            put(heap[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    private mutating func put(_ entry: (deadline: Instant, number: Int32), at place: Int) {
        heap[place] = entry
        places[Int(entry.number)] = Int32(place)
    }
}
