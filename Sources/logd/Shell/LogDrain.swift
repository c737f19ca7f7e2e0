import EOLoop
import EngineKit
import LogClient
import LogEngine
import LogProtocol
import OSAL

/// Takes records out of all rings into the files, and decides when to look again.
///
/// Woken by a writer it drains, lingers (a look every 10 ms while records come), and after a few empty looks sleeps
/// until the doorbell rings. Loop thread only.
final class LogDrain {
    private enum Yield {
        case nothing, records
        /// A bound was reached: there is more.
        case more
    }

    static let lingerInterval: Duration = .milliseconds(10)
    /// Empty looks before it sleeps.
    static let emptyLooksMax = 3
    /// Bytes taken from one ring before it is the next one's turn.
    static let ringBytesPerTurn = 128 * 1024

    let rings: RingTable
    private let loop: Loop
    private let files: LogFiles
    private let global: GlobalLog
    private var bell: BellThread?
    private let page: SharedFile
    private var seenRings: UInt32?
    private var emptyLooks = 0
    private var timer: LoopTimer?
    private var isHeldUp = false
    private var isAsleep = false
    private var firstRing = 0
    private var isLookingAgain = false

    init(
        loop: Loop, directory: LogDirectory, files: LogFiles, global: GlobalLog, note: @escaping (String) -> Void
    ) throws(OSError) {
        self.loop = loop
        self.files = files
        self.global = global
        page = try directory.openDoorbell()
        var died: () -> Void = {}
        rings = RingTable(loop: loop, directory: directory.path, note: note) { died() }
        died = { [weak self] in self?.look() }
        files.onWritten = { [weak self] plan in self?.written(plan) }
        files.spooled = { [weak global] in global?.mark }
    }

    func start() throws(OSError) {
        // The closures only carry a weak reference to the loop's thread, where it is used.
        nonisolated(unsafe) weak let drain = self
        let loop = loop
        let bell = BellThread(page: page) { loop.post(.high) { drain?.look() } }
        self.bell = bell
        try bell.start()
    }

    /// Gives back what the last batch of a former life took, which it wrote but did not live to give back.
    func recover(_ written: BatchPlan) {
        _ = rings.scan()
        if let mark = written.spooled { global.recover(mark) }
        consume(written)
    }

    // MARK: Looking

    /// Drains what is there, and decides when to look again.
    func look() {
        bell?.answer()
        timer.map { loop.cancel($0) }
        timer = nil
        isHeldUp = false
        let yield = drain()
        write()
        if yield != .nothing { isLookingAgain = false }
        switch yield {
        case .more:
            emptyLooks = 0
            wait(for: Bell.awake)
            // The batch on its way calls again when it has landed.
            isHeldUp = files.isInFlight && isFull
            if !isHeldUp { loop.enqueue(.normal) { [weak self] in self?.look() } }
        case .records:
            emptyLooks = 0
            linger()
        case .nothing:
            emptyLooks += 1
            if emptyLooks < Self.emptyLooksMax { linger() } else { sleep() }
        }
    }

    private func wait(for state: UInt32) {
        isAsleep = state == Bell.asleep
        bell?.set(state)
    }

    private func linger() {
        wait(for: Bell.lingering)
        timer = loop.schedule(after: Self.lingerInterval) { [weak self] in
            self?.timer = nil
            self?.look()
        }
    }

    private func sleep() {
        wait(for: Bell.asleep)
        // Written between the last look and the word, or being written: a store may be on its way in its CPU only.
        let hasNews =
            seenRings != bell?.ringCount
            || rings.entries.contains { entry in
                !entry.isSetAside && (try? entry.reader.hasNews()) == true
            }
        guard hasNews else {
            isLookingAgain = false
            return
        }
        // One more look is enough: who commits after it sees the word and rings.
        if isLookingAgain {
            isLookingAgain = false
            return
        }
        isLookingAgain = true
        timer = loop.schedule(after: Self.lingerInterval) { [weak self] in
            self?.timer = nil
            self?.look()
        }
    }

    // MARK: Draining

    private func drain() -> Yield {
        let ringCount = bell?.ringCount
        if ringCount != seenRings {
            seenRings = ringCount
            _ = rings.scan()
        }
        var yield = Yield.nothing
        let entries = rings.entries
        for index in entries.indices {
            let entry = entries[(index + firstRing) % entries.count]
            if entry.isSetAside { continue }
            guard !isFull else {
                firstRing = (index + firstRing) % entries.count
                return .more
            }
            let before = entry.reader.recordCount
            do throws(RingError) {
                let stop = try entry.reader.read(
                    bytesMax: Self.ringBytesPerTurn, writerIsDead: entry.isWriterDead
                ) { item in take(item, from: entry.reader.origin) }
                if stop == .more { yield = .more }
            } catch {
                rings.setAside(entry, error)
            }
            if yield == .nothing, entry.reader.recordCount != before { yield = .records }
        }
        bury()
        return yield
    }

    private var isFull: Bool { files.pendingBytes + global.uncommittedBytes >= LogFiles.batchBytesMax }

    private func take(_ item: RingReader.Item, from origin: LineFormat.Origin) {
        switch item {
        case .record(let record) where record.stream.isGlobal: global.take(record, of: origin)
        case .record(let record):
            files.add(record.stream) { format, out in format.append(record, of: origin, to: &out) }
        case .lost(let count): report(lost: count, of: origin)
        }
    }

    private func report(lost count: UInt32, of origin: LineFormat.Origin) {
        files.add(.system) { format, out in
            format.append(
                "\(count) record\(count == 1 ? "" : "s") lost: the log ring was full", of: origin,
                time: MonotonicClock.wallNanoseconds(), area: "LOG", context: "LOST", number: 0, severity: .warning,
                to: &out)
        }
    }

    /// Removes the rings of the dead, when nothing of them is wanted any more.
    private func bury() {
        for entry in rings.entries where entry.isWriterDead {
            if !entry.isSetAside {
                guard (try? entry.reader.hasNews()) != true, entry.reader.position == entry.reader.consumed else {
                    continue
                }
                let lost = entry.reader.takeLost()
                if lost > 0 { report(lost: lost, of: entry.reader.origin) }
            }
            rings.remove(entry)
        }
    }

    /// Brings what was added to the files.
    func write() { files.startIfIdle { taken() } }

    private func taken() -> [BatchPlan.Taken] {
        rings.entries.compactMap { entry in
            let reader = entry.reader
            guard reader.position != reader.consumed else { return nil }
            return BatchPlan.Taken(
                process: reader.process, startTime: reader.startTime, inode: reader.inode, end: reader.position)
        }
    }

    /// What is in the spool may be given back, as what is in the files.
    private func consume(_ plan: BatchPlan) {
        for taken in plan.taken {
            rings.entries.first { $0.reader.process == taken.process && $0.reader.inode == taken.inode }?
                .reader.consume(to: taken.end)
        }
    }

    private func written(_ plan: BatchPlan) {
        if let mark = plan.spooled { global.committed(mark) }
        consume(plan)
        loop.enqueue(.normal) { [weak self] in self?.goOn() }
    }

    private func goOn() {
        bury()
        if isHeldUp { look() } else { write() }
    }

    /// Drains and writes everything, at the end.
    func finish(until deadline: Instant) -> Bool {
        bell?.stop()
        timer.map { loop.cancel($0) }
        _ = rings.scan()
        while true {
            let yield = drain()
            guard files.writeNow({ taken() }, until: deadline) else { return false }
            if yield == .nothing || MonotonicClock.now() >= deadline { break }
        }
        bury()
        rings.close()
        return true
    }
}
