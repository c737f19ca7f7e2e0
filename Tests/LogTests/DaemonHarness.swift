import EngineKit
import LogClient
import LogEngine
import LogProtocol
import OSAL
import Synchronization
import Testing

/// A real logd in directories of its own; killed and removed with the harness.
final class DaemonHarness: @unchecked Sendable {
    let root: String
    let places: Places
    private let binaries: String
    private let children = Lock<[Int32]>([])
    private let daemon = Lock<Int32>(0)
    private let environment: [String]

    init(_ environment: [String] = [], starting: Bool = true) throws {
        root = try File.makeTemporaryDirectory("/dev/shm/logd-test-")
        places = Places(
            runDirectory: "\(root)/run", shmDirectory: "\(root)/shm", stateDirectory: "\(root)/state",
            logDirectory: "\(root)/log", configDirectory: "\(root)/etc", nodeName: "test")
        binaries = File.parent(of: try #require(Environment.executablePath))
        self.environment =
            Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("SA_") && !$0.hasPrefix("CL_") }
            + places.environment + environment
        if starting { try start() }
    }

    deinit {
        kill()
        for pid in children.withLock({ $0 }) { end(pid) }
        try? File.removeTree(root)
    }

    private func spawn(_ program: String, _ arguments: [String], output: Int32? = nil) throws -> Int32 {
        var options = SpawnOptions(
            path: binaries + "/" + program, arguments: [program] + arguments, environment: environment)
        options.deathSignal = .kill
        if let output { options.descriptors = [DescriptorMapping(output, as: 1)] }
        return try Process.spawn(options).pid
    }

    func start() throws {
        let pid = try spawn("logd", [])
        daemon.withLock { $0 = pid }
    }

    var pid: Int32 { daemon.withLock { $0 } }

    private func end(_ pid: Int32, _ signal: SignalNumber = .kill) {
        _ = try? Process.kill(pid, signal)
        while Process.reap(pid) == nil { OSThread.yield() }
    }

    /// Ends logd, and waits until it is gone.
    func kill(_ signal: SignalNumber = .kill) {
        let pid = daemon.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        if pid > 0 { end(pid, signal) }
    }

    /// The helper program that writes records, or prints without end.
    final class Writer {
        let pid: Int32
        private let counter: SharedFile
        fileprivate init(pid: Int32, counter: SharedFile) { (self.pid, self.counter) = (pid, counter) }
        var committed: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
    }

    func write(_ count: Int) throws -> Writer {
        let path = "\(root)/counter\(children.withLock { $0.count })"
        let counter = try SharedFile.create(path, size: 4096, mode: 0o600)
        let pid = try spawn("logwriter", [path, "\(count)"])
        children.withLock { $0.append(pid) }
        return Writer(pid: pid, counter: counter)
    }

    func printEndlessly(_ lineBytes: Int, to output: Int32) throws -> Int32 {
        let pid = try spawn("logwriter", ["-", "0", "\(lineBytes)"], output: output)
        children.withLock { $0.append(pid) }
        return pid
    }

    func kill(child pid: Int32) {
        children.withLock { $0.removeAll { $0 == pid } }
        end(pid)
    }

    /// Waits for a child's own end.
    func wait(child pid: Int32) throws {
        try eventually("the end of \(pid)") { Process.reap(pid) != nil }
        children.withLock { $0.removeAll { $0 == pid } }
    }

    /// All lines of a stream, oldest first.
    func lines(_ stream: LogStream) -> [String] {
        let names = (try? File.list(places.logDirectory)) ?? []
        let series = FileSeries(stream: stream, limits: RotationLimits(), found: names.map { ($0, 0) })
        return series.newestFirst.reversed().flatMap { name in
            ((try? File.readText(places.logDirectory + "/" + name)) ?? "").split(separator: "\n").map(String.init)
        }
    }

    /// The numbers of a process's records, in the order of the file; fails on a line that is not whole.
    func records(of pid: Int32) -> [UInt64] {
        let padding = String(repeating: "abcdefghij", count: 40)
        return lines(.application).compactMap { line in
            guard line.contains("(test.\(pid) : logwriter.TST.CTX.") else { return nil }
            guard let start = line.firstRange(of: ") record ")?.upperBound else {
                Issue.record("a torn line: \(line)")
                return nil
            }
            let parts = line[start...].split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
            guard let number = UInt64(parts[0]), parts.count == 2,
                parts[1] == padding.prefix(Int(number * 37 % 400)) + "|"
            else {
                Issue.record("a torn line: \(line)")
                return nil
            }
            return number
        }
    }

    func count(of text: String, _ stream: LogStream = .application) -> Int { lines(stream).count { $0.contains(text) } }

    func eventually(_ what: String, within limit: Duration = .seconds(30), _ condition: () throws -> Bool) throws {
        let deadline = MonotonicClock.now() + limit
        while try !condition() {
            try #require(MonotonicClock.now() < deadline, "\(what): not within \(limit)")
            _ = try? IO.waitUntil(-1, deadline: MonotonicClock.now() + .milliseconds(2))
        }
    }
}
