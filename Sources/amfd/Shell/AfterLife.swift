import EOLoop
import OSAL

/// What is to be done for the dead, off the hot path: ends what has left their process groups, and gives back the
/// permits of named semaphores that they held. On the loop's worker; loop thread only.
final class AfterLife {
    var onNote: (ShellNote) -> Void = { _ in }

    private let loop: Loop
    private let places: Places
    /// The marks of those that ended and are not looked for yet.
    private var marks: Set<UInt64> = []
    /// Those that the worker looks for.
    private var sought: Set<UInt64> = []
    private var isWaiting = false

    static let variable = "SAF_INSTANTIATION"
    /// A process may fork while it is looked for; one that outruns this many looks is told, not chased for ever.
    static let looksMax = 20

    init(loop: Loop, places: Places) {
        self.loop = loop
        self.places = places
    }

    /// Every process that carries the mark is ended; permits of the dead are given back, whose ever they were.
    func clear(_ mark: UInt64) {
        marks.insert(mark)
        guard !isWaiting else { return }
        isWaiting = true
        // After everything that a death brings about; several deaths are one look.
        loop.enqueue(.low) { [weak self] in self?.begin() }
    }

    /// At the very end of amfd: what is still to be done, now.
    func finish() { _ = Self.end(marks.union(sought)) }

    private func begin() {
        isWaiting = false
        let (marks, places) = (marks, places)
        self.marks = []
        sought.formUnion(marks)
        let isTaken = loop.runSlow {
            RobustSemaphore.reclaimDead(in: places)
            return Self.end(marks)
        } then: { [weak self] ended in
            self?.sought.subtract(marks)
            for pid in ended { self?.onNote(.endedStray(pid: pid)) }
        }
        if !isTaken { self.marks.formUnion(marks) }  // a thousand wait: with the next death
    }

    /// Kills whatever carries one of the marks, until a look finds nothing; returns who was there.
    static func end(_ marks: Set<UInt64>) -> [Int32] {
        var ended: Set<Int32> = []
        for _ in 0..<looksMax {
            let found = living(with: marks)
            guard !found.isEmpty else { break }
            for pid in found { _ = try? Process.kill(pid, .kill) }  // gone in between is as good
            ended.formUnion(found)
        }
        return ended.sorted()
    }

    private static func living(with marks: Set<UInt64>) -> [Int32] {
        let prefix = "\(variable)="
        // Without /proc nothing can be found, and nothing could have been adopted.
        return ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            guard pid != Environment.processID, let text = try? File.readText("/proc/\(pid)/environ", limit: 1 << 20),
                let mark = text.split(separator: "\0").first(where: { $0.hasPrefix(prefix) }),
                let number = UInt64(mark.dropFirst(prefix.count)), marks.contains(number)
            else { return false }
            return !Process.isExiting(pid)
        }
    }
}
