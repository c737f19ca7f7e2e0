import EOLoop
import EngineKit
import LogEngine
import LogProtocol
import OSAL

/// Lines on their way to the files: collected per stream, written in batches by the worker, one at a time.
///
/// Loop thread only. A batch is kept until it is written; when the files cannot be written it is tried again every
/// second, and nothing more is taken from the rings meanwhile.
final class LogFiles {
    struct Counts {
        var records: UInt64 = 0
        var bytes: UInt64 = 0
        var dropped: UInt64 = 0
        var errors: UInt64 = 0
    }

    /// Beyond it nothing is taken from the rings.
    static let batchBytesMax = 512 * 1024
    /// Beyond it captured output is dropped.
    static let pendingBytesMax = 4 << 20
    static let retryInterval: Duration = .seconds(1)

    /// The batch is in the files: what it took may be given back. Then its lines, by stream.
    var onWritten: (BatchPlan) -> Void = { _ in }
    /// What of the spool a batch takes with it.
    var spooled: () -> SpoolMark? = { nil }
    var onLines: (_ system: [UInt8], _ application: [UInt8]) -> Void = { _, _ in }

    private(set) var series: [LogStream: FileSeries] = [:]
    private(set) var counts: [LogStream: Counts] = [.system: Counts(), .application: Counts()]
    private(set) var lastError = ""
    let directory: String

    private let loop: Loop
    private let journal: BatchJournal
    private let say: (LogSeverity, String) -> Void
    private var pending: [LogStream: [UInt8]] = [.system: [], .application: []]
    private var format = LineFormat()
    private var flight: BatchWriter?
    private let landing = Monitor<BatchWriter.Outcome?>(nil)
    private var failingSince: Instant?
    private var droppedWhileFailing: UInt64 = 0
    private var replans = 0
    private var retryTimer: LoopTimer?

    init(
        loop: Loop, directory: String, journal: BatchJournal, limits: RotationLimits,
        say: @escaping (LogSeverity, String) -> Void
    ) {
        (self.loop, self.directory, self.journal, self.say) = (loop, directory, journal, say)
        for stream in LogStream.local {
            series[stream] = FileSeries(stream: stream, limits: limits, found: Self.found(in: directory))
        }
    }

    /// The files there are; none when the directory cannot be read: writing will say why.
    private static func found(in directory: String) -> [(name: String, bytes: UInt64)] {
        ((try? File.list(directory)) ?? []).compactMap { name in
            guard name.hasSuffix(".log"), let status = try? File.stat(directory + "/" + name, followLinks: false),
                status.kind == .file
            else { return nil }
            return (name, UInt64(status.size))
        }
    }

    var isInFlight: Bool { flight != nil }
    var pendingBytes: Int { (pending[.system]?.count ?? 0) + (pending[.application]?.count ?? 0) }

    func setLimits(_ limits: RotationLimits, of stream: LogStream) { series[stream]?.limits = limits }

    /// Adds one line.
    /// - Returns: its bytes.
    @discardableResult
    func add(_ stream: LogStream, _ write: (inout LineFormat, inout [UInt8]) -> Void) -> Int {
        guard pendingBytes < Self.pendingBytesMax else {
            counts[stream]?.dropped += 1
            droppedWhileFailing += 1
            return 0
        }
        let before = pendingBytes
        // In place: a copy for each line would cost more than the line.
        write(&format, &pending[stream, default: []])
        counts[stream]?.records += 1
        return pendingBytes - before
    }

    /// Begins a batch of all that waits, if none is on its way; `taken` says what it takes from the rings.
    func startIfIdle(_ taken: () -> [BatchPlan.Taken]) {
        guard flight == nil else { return }
        let taken = taken()
        guard pendingBytes > 0 || !taken.isEmpty else { return }
        var batch = BatchWriter(
            directory: directory, plan: BatchPlan(pieces: [], taken: taken, spooled: spooled()),
            system: pending[.system] ?? [], application: pending[.application] ?? [])
        pending = [.system: [], .application: []]
        plan(&batch)
        flight = batch
        submit()
    }

    private func plan(_ batch: inout BatchWriter) {
        let seconds = MonotonicClock.wallNanoseconds() / 1_000_000_000
        batch.plan.pieces = LogStream.local.flatMap { stream -> [BatchPlan.Piece] in
            let lines = stream == .system ? batch.system : batch.application
            return (series[stream]?.place(lines, at: seconds) ?? []).map {
                BatchPlan.Piece(stream: stream, segment: $0)
            }
        }
        journal.begin(batch.plan)
    }

    private func submit() {
        guard let batch = flight else { return }
        let landing = landing
        let isTaken = loop.runSlow(
            {
                let outcome = batch.run()
                landing.update { $0 = outcome }
                return ()
            }, then: { [weak self] in self?.land() })
        if !isTaken { retry() }
    }

    private func retry() {
        retryTimer = loop.schedule(after: Self.retryInterval) { [weak self] in
            self?.retryTimer = nil
            self?.submit()
        }
    }

    /// The worker has done what it could.
    private func land() {
        let outcome = landing.update { outcome -> BatchWriter.Outcome? in
            defer { outcome = nil }
            return outcome
        }
        guard let outcome, flight != nil else { return }
        switch outcome {
        case .written: finish()
        case .failed(let error):
            failed(error)
            retry()
        case .filesChanged:
            replans += 1
            replan()
            if replans > 3 { retry() } else { submit() }
        }
    }

    private func replan() {
        guard var batch = flight else { return }
        journal.end()
        for stream in LogStream.local {
            let limits = series[stream]?.limits ?? RotationLimits()
            series[stream] = FileSeries(stream: stream, limits: limits, found: Self.found(in: directory))
        }
        plan(&batch)
        flight = batch
    }

    private func failed(_ error: OSError) {
        for stream in Set(flight?.plan.pieces.map(\.stream) ?? []) { counts[stream]?.errors += 1 }
        lastError = "\(error)"
        guard failingSince == nil else { return }
        failingSince = loop.now
        droppedWhileFailing = 0
        StandardError.write("logd: log files in \(directory) cannot be written, tried again every second: \(error)\n")
    }

    private func finish() {
        guard let batch = flight else { return }
        onWritten(batch.plan)
        journal.end()
        flight = nil
        replans = 0
        for piece in batch.plan.pieces { counts[piece.stream]?.bytes += UInt64(piece.segment.range.count) }
        if let since = failingSince {
            failingSince = nil
            say(
                .error,
                "log files could not be written for \((loop.now - since).components.seconds) s (\(lastError)); "
                    + "\(droppedWhileFailing) lines of captured output were lost")
            lastError = ""
        }
        onLines(batch.system, batch.application)
    }

    /// Writes the batch that is on its way, and what waits, now; for the end, when the loop does not turn any more.
    ///
    /// - Returns: false when the files cannot be written; the records then stay in the rings.
    func writeNow(_ taken: () -> [BatchPlan.Taken], until deadline: Instant) -> Bool {
        retryTimer.map { loop.cancel($0) }
        if flight != nil, retryTimer == nil {
            // The worker still has it.
            guard landing.wait(until: deadline, { $0 == nil ? nil : true }) != nil else { return false }
            let outcome = landing.update { outcome -> BatchWriter.Outcome? in
                defer { outcome = nil }
                return outcome
            }
            if case .written? = outcome { finish() }
        }
        retryTimer = nil
        if flight == nil {
            let taken = taken()
            guard pendingBytes > 0 || !taken.isEmpty else { return true }
            var batch = BatchWriter(
                directory: directory, plan: BatchPlan(pieces: [], taken: taken, spooled: spooled()),
                system: pending[.system] ?? [], application: pending[.application] ?? [])
            pending = [.system: [], .application: []]
            plan(&batch)
            flight = batch
        }
        for _ in 0..<3 {
            switch flight?.run() {
            case .written?:
                finish()
                return true
            case .filesChanged?: replan()
            default: return false
            }
        }
        return false
    }
}
