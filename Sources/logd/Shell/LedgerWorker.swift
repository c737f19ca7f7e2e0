import EOLoop
import EngineKit
import LogEngine
import LogProtocol
import OSAL
import SAFTypes

/// Ledger and files on the loop's worker: one job after the other, each until it succeeds. Loop thread only.
final class LedgerWorker {
    enum Job: Sendable {
        case store([LedgerEntry])
        case truncate(to: UInt64)
        case reset(LedgerState)
        case load(for: NodeID, from: UInt64)
        case publish([LedgerEntry])
        /// These streams there are, by the beginning of their files' names, and what stands beside the files.
        case configure([String: String])
    }

    /// What a job needs to know of the registry.
    struct Context: Sendable {
        var names: [NodeID: [UInt8]] = [:]
        var definitions: [StreamID: StreamFiles.Definition] = [:]
    }

    struct Outcome: Sendable {
        var event: GlobalLogEngine.Event?
        var lines: [(stream: StreamID, lines: [UInt8])] = []
    }

    /// Only the worker's thread touches it, once it was handed over.
    private final class Disk: @unchecked Sendable {
        let ledger: LedgerFiles
        let files: GlobalFiles
        init(_ ledger: LedgerFiles, _ files: GlobalFiles) { (self.ledger, self.files) = (ledger, files) }

        func perform(_ job: Job, _ context: Context) throws(OSError) -> Outcome {
            switch job {
            case .store(let entries):
                try ledger.append(entries, published: files.written)
                return Outcome(event: .stored(through: ledger.state.number, firstKept: ledger.firstKept))
            case .truncate(let number):
                try ledger.truncate(to: number)
                if files.written > number { try files.goOn(from: ledger.state) }
                return Outcome(event: .truncated(ledger.state, firstKept: ledger.firstKept))
            case .reset(let state):
                try ledger.reset(state)
                try files.goOn(from: state)
                return Outcome(event: .truncated(ledger.state, firstKept: ledger.firstKept))
            case .load(let target, let from):
                let (entries, base) = try ledger.load(from: from)
                return Outcome(event: .loaded(for: target, from: from, entries, base: base))
            case .publish(let entries):
                let lines = try files.write(entries, names: context.names, definitions: context.definitions)
                return Outcome(event: .published(through: files.written), lines: lines)
            case .configure(let wanted):
                try files.configure(wanted, at: MonotonicClock.wallNanoseconds() / 1_000_000_000)
                return Outcome()
            }
        }
    }

    static let retryInterval: Duration = .seconds(1)
    private static let storeBytesMax = 1 << 20

    var context: () -> Context = { Context() }
    var done: (Outcome) -> Void = { _ in }
    /// Why the disk does not take it now; empty while it does.
    private(set) var lastError = ""
    /// As they were found at the start.
    let found: LedgerState
    let firstKept: UInt64
    let published: UInt64
    let store: UInt64
    let damage: [String]
    private let loop: Loop
    private let disk: Disk
    private let note: (_ isError: Bool, String) -> Void
    private var jobs: [Job] = []
    /// The first job is to be submitted, or is with the worker.
    private var isBusy = false
    private var isFlying = false
    private var isStopped = false
    private let landing = Monitor<Result<Outcome, OSError>?>(nil)

    init(
        loop: Loop, places: Places, retainedBytes: Int, newStore: UInt64, note: @escaping (Bool, String) -> Void
    ) throws(OSError) {
        let directory = places.stateDirectory + "/log"
        let ledger = try LedgerFiles(directory: directory, retainedBytes: retainedBytes, newStore: newStore)
        let files = try GlobalFiles(directory: places.logDirectory, stateDirectory: directory)
        (self.loop, self.note) = (loop, note)
        disk = Disk(ledger, files)
        (found, firstKept, store) = (ledger.state, ledger.firstKept, ledger.store)
        published = min(files.written, ledger.state.number)
        damage = ledger.damage + files.damage
    }

    func add(_ job: Job) {
        if case .store(let entries) = job, case .store(let waiting)? = jobs.last, jobs.count > 1 || !isFlying {
            if waiting.reduce(0, { $0 + $1.bytes }) < Self.storeBytesMax {
                jobs[jobs.count - 1] = .store(waiting + entries)
                return
            }
        }
        jobs.append(job)
        // Not at once: what belongs together is stored together.
        if !isBusy {
            isBusy = true
            loop.enqueue(.normal) { [weak self] in self?.submit() }
        }
    }

    /// The first job stays at the head until it is done.
    private func submit() {
        guard !isStopped, let job = jobs.first else {
            isBusy = false
            return
        }
        let (disk, context, landing) = (disk, context(), landing)
        isFlying = true
        let isTaken = loop.runSlow(
            {
                var result: Result<Outcome, OSError>
                do throws(OSError) {
                    result = .success(try disk.perform(job, context))
                } catch {
                    result = .failure(error)
                }
                landing.update { $0 = result }
            }, then: { [weak self] in self?.land() })
        if !isTaken { retry() }
    }

    private func land() {
        isFlying = false
        let result = landing.update { result -> Result<Outcome, OSError>? in
            defer { result = nil }
            return result
        }
        guard !isStopped, let result else { return }
        switch result {
        case .success(let outcome):
            if !lastError.isEmpty {
                lastError = ""
                note(false, "ledger and files of the global streams can be written again")
            }
            jobs.removeFirst()
            done(outcome)
            submit()
        case .failure(let error):
            if lastError.isEmpty {
                note(true, "ledger and files of the global streams cannot be written, tried again: \(error)")
            }
            lastError = "\(error)"
            retry()
        }
    }

    private func retry() {
        isFlying = false
        loop.schedule(after: Self.retryInterval) { [weak self] in self?.submit() }
    }

    /// What is on its way to the disk is waited for; nothing more is begun.
    func stop(until deadline: Instant) {
        guard !isStopped else { return }
        isStopped = true
        if isFlying { _ = landing.wait(until: deadline) { $0 == nil ? nil : true } }
    }
}
