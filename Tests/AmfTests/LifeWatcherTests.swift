import EngineKit
import OSAL
import Testing

@testable import AmfShell

/// What the watcher said, for tests to wait for.
private final class Findings: Sendable {
    private let found = Monitor<[UInt64: LifeWatcher.Finding]>([:])
    func add(_ token: UInt64, _ finding: LifeWatcher.Finding) { found.update { $0[token] = finding } }
    func wait(_ token: UInt64, within limit: Duration = .seconds(30)) -> LifeWatcher.Finding? {
        found.wait(until: MonotonicClock.now() + limit) { $0[token] }
    }
}

/// testcomponent with a life page on descriptor 3 and a pipe to hear it on.
private final class Holder {
    let pid: Int32
    private let pidfd: SharedDescriptor
    private let ears: DescriptorPair

    init(_ mode: String, _ argument: String = "0", page: LifePage) throws {
        ears = try makePipe(nonBlocking: true)
        let directory = File.parent(of: try #require(Environment.executablePath))
        var options = SpawnOptions(path: directory + "/testcomponent")
        options.arguments = ["testcomponent", mode, argument]
        options.descriptors = [DescriptorMapping(page.raw, as: 3), DescriptorMapping(ears.second.raw, as: 4)]
        let process = try Process.spawn(options)
        pid = process.pid
        pidfd = SharedDescriptor(process.takePidfd())
    }

    func hear() throws -> String {
        guard try IO.waitUntil(ears.first.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30)) else {
            return ""
        }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = try bytes.withUnsafeMutableBytes { try IO.read(ears.first.raw, into: $0) } ?? 0
        return String(decoding: bytes[0..<count], as: UTF8.self)
    }

    func kill() throws { try Process.kill(pid, .kill) }

    deinit {
        _ = try? Process.kill(pid, .kill)
        _ = try? IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10))
        _ = Process.reap(pid)
    }
}

@Suite("Life watcher", .serialized)
struct LifeWatcherTests {
    @Test("A killed process is known to be dead", arguments: [0, 64])
    func death(mebibytes: Int) throws {
        let findings = Findings()
        let watcher = LifeWatcher { findings.add($0, $1) }
        defer { watcher.stop() }
        let page = try LifePage()
        let holder = try Holder("hold", String(mebibytes), page: page)
        try watcher.watch(1, page: page, pid: holder.pid)
        #expect(try holder.hear() == "held")
        try holder.kill()
        #expect(findings.wait(1) == .dead)
    }

    @Test("The end of the thread that held the lock is no death")
    func threadEnds() throws {
        let findings = Findings()
        let watcher = LifeWatcher { findings.add($0, $1) }
        defer { watcher.stop() }
        let page = try LifePage()
        let holder = try Holder("thread", page: page)
        try watcher.watch(1, page: page, pid: holder.pid)
        #expect(try holder.hear() == "held")
        #expect(findings.wait(1) == .unreliable)
    }

    @Test("Nonsense in one page gives up that watch only")
    func nonsense() throws {
        let findings = Findings()
        let watcher = LifeWatcher { findings.add($0, $1) }
        defer { watcher.stop() }
        let (bad, good) = (try LifePage(), try LifePage())
        let holder = try Holder("hold", page: good)
        try watcher.watch(1, page: bad, pid: Environment.processID)
        try watcher.watch(2, page: good, pid: holder.pid)
        #expect(try holder.hear() == "held")
        let word = bad.lock.word
        for value in 1...1_000 as ClosedRange<UInt32> where findings.wait(1, within: .zero) == nil {
            word.pointee = value
            Futex.wake(UnsafePointer(word))
            OSThread.yield()
        }
        #expect(findings.wait(1) == .unreliable)
        try holder.kill()
        #expect(findings.wait(2) == .dead)
    }

    @Test("More components than one thread can watch")
    func many() throws {
        let findings = Findings()
        let watcher = LifeWatcher { findings.add($0, $1) }
        defer { watcher.stop() }
        var pages: [LifePage] = []
        for token in 0..<300 as Range<UInt64> {
            let page = try LifePage()
            try watcher.watch(token, page: page, pid: Environment.processID)
            pages.append(page)
        }
        for token in stride(from: 0, to: 300, by: 2) as StrideTo<UInt64> { watcher.unwatch(token) }
        let holder = try Holder("hold", page: pages[299])
        #expect(try holder.hear() == "held")
        watcher.unwatch(299)
        try watcher.watch(999, page: pages[299], pid: holder.pid)
        try holder.kill()
        #expect(findings.wait(999) == .dead)
    }
}

@Suite("Exit probe")
struct ExitProbeTests {
    /// /proc/PID/stat with these fields.
    private func stat(name: String = "x", state: String = "S", flags: UInt64 = 4_194_304, pending: UInt64 = 0) -> String
    {
        let middle = (10...30).map { _ in "7" }.joined(separator: " ")
        return "1234 (\(name)) \(state) 1 2 3 4 -1 \(flags) \(middle) \(pending) 0 0 0\n"
    }

    private func isExiting(_ text: String) -> Bool { Array(text.utf8).withUnsafeBytes { ExitProbe.isExiting($0) } }

    @Test("State, flags and pending signals are found, whatever the program is called")
    func fields() {
        #expect(!isExiting(stat()))
        #expect(!isExiting(stat(name: "a) Z 4 4 4")))
        #expect(isExiting(stat(state: "Z")))
        #expect(isExiting(stat(flags: 4_194_308)))
        #expect(isExiting(stat(pending: 256)))
        #expect(!isExiting(stat(pending: 128)))
    }

    @Test("No text traps")
    func garbage() {
        let text = stat(flags: 4, pending: 256)
        for length in 0..<text.utf8.count { _ = isExiting(String(text.prefix(length))) }
        #expect(!isExiting("no parenthesis"))
    }

    @Test("It agrees with the kernel about a living and a dead process")
    func living() throws {
        #expect(!ExitProbe(pid: Environment.processID).isExiting)
        let process = try Process.spawn(SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "100"]))
        let probe = ExitProbe(pid: process.pid)
        #expect(!probe.isExiting)
        try Process.kill(process.pid, .kill)
        #expect(try IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
        #expect(probe.isExiting)
        _ = Process.reap(process.pid)
        #expect(probe.isExiting)
        #expect(ExitProbe(pid: process.pid).isExiting)
    }
}
