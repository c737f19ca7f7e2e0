import EngineKit
import OSAL
import Testing

@testable import AmfShell

/// What the watcher said, for tests to wait for.
private final class Findings: Sendable {
    private let found = Monitor<[UInt64: LifeWatcher.Finding]>([:])
    func add(_ token: UInt64, _ finding: LifeWatcher.Finding) { found.update { $0[token] = finding } }
    func wait(_ token: UInt64, within limit: Duration = .seconds(10)) -> LifeWatcher.Finding? {
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
        guard try IO.waitUntil(ears.first.raw, readable: true, deadline: MonotonicClock.now() + .seconds(20)) else { return "" }
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
