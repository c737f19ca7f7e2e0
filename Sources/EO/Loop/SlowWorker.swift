import EngineKit
import OSAL

/// One thread that runs blocking calls in order; started with the first of them.
final class SlowWorker: Sendable {
    private struct Queue {
        var jobs: [@Sendable () -> Void] = []
        var isStopped = false
        var hasThread = false
    }

    private let queue = Monitor(Queue())
    private let name: String
    private let limit: Int

    init(name: String, limit: Int) {
        self.name = name
        self.limit = limit
    }

    /// False when the queue is full or there is no thread to be had.
    func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
        let (isTaken, needsThread) = queue.update { queue -> (Bool, Bool) in
            guard queue.jobs.count < limit else { return (false, false) }
            queue.jobs.append(job)
            defer { queue.hasThread = true }
            return (true, !queue.hasThread)
        }
        guard needsThread else { return isTaken }
        let queue = self.queue
        do throws(OSError) {
            _ = try OSThread.spawn(name: name) { Self.serve(queue) }
        } catch {
            queue.update { queue in
                queue.hasThread = false
                queue.jobs.removeLast()
            }
            return false
        }
        return isTaken
    }

    /// What is queued is still done; then the thread ends.
    func stop() { queue.update { $0.isStopped = true } }

    private static func serve(_ queue: Monitor<Queue>) {
        while true {
            let job: (@Sendable () -> Void)?? = queue.wait(until: nil) { queue in
                if !queue.jobs.isEmpty { return .some(queue.jobs.removeFirst()) }
                return queue.isStopped ? .some(nil) : nil
            }
            guard case .some(.some(let run)) = job else { return }
            run()
        }
    }
}
