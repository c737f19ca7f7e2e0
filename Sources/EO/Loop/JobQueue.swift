/// A bounded first-in first-out queue of jobs; allocates nothing once it has grown to its working size.
struct JobQueue {
    typealias Job = () -> Void

    let limit: Int
    private var slots: [Job?] = []
    private var head = 0
    private(set) var count = 0

    init(limit: Int) { self.limit = limit }

    var isEmpty: Bool { count == 0 }

    /// False when the queue is full; the job was not taken.
    mutating func push(_ job: @escaping Job) -> Bool {
        guard count < limit else { return false }
        if count == slots.count { grow() }
        slots[(head + count) % slots.count] = job
        count += 1
        return true
    }

    mutating func pop() -> Job? {
        guard count > 0 else { return nil }
        let job = slots[head]
        slots[head] = nil
        head = (head + 1) % slots.count
        count -= 1
        return job
    }

    private mutating func grow() {
        var larger = [Job?](repeating: nil, count: max(16, min(limit, slots.count * 2)))
        for index in 0..<count { larger[index] = slots[(head + index) % slots.count] }
        slots = larger
        head = 0
    }
}
