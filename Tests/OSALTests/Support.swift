import EngineKit
import OSAL
import Testing

/// Half a minute from now: the time a test waits for what must come.
var soon: Instant { MonotonicClock.now() + .seconds(30) }

/// A directory of the test's own, removed with it.
final class Scratch: Sendable {
    let path: String

    init(_ parent: String = "/tmp") throws { path = try File.makeTemporaryDirectory(parent + "/osal-test-") }

    deinit { try? File.removeTree(path) }

    func callAsFunction(_ name: String) -> String { path + "/" + name }
}

/// Waits until a condition holds, looking again every millisecond.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = soon
    while MonotonicClock.now() < deadline {
        if try condition() { return true }
        var never: UInt32 = 0
        _ = try? Futex.wait(&never, expected: 0, deadline: MonotonicClock.now() + .milliseconds(1))
    }
    return false
}

/// One run of the test helper, killed with this object when it still runs.
final class Helper {
    let pid: Int32
    private let pidfd: Descriptor
    private let output: Descriptor
    private let input: Descriptor
    private var pending: [UInt8] = []
    private var isReaped = false

    static var program: String {
        File.parent(of: Environment.executablePath ?? "") + "/oshelper"
    }

    init(_ arguments: String..., change: (inout SpawnOptions) -> Void = { _ in }) throws {
        let toChild = try makePipe()
        let fromChild = try makePipe()
        var options = SpawnOptions(path: Helper.program, arguments: ["oshelper"] + arguments)
        options.descriptors = [
            DescriptorMapping(toChild.first.raw, as: 0), DescriptorMapping(fromChild.second.raw, as: 1),
            DescriptorMapping(2, as: 2),
        ]
        change(&options)
        let child = try Process.spawn(options)
        pid = child.pid
        pidfd = child.takePidfd()
        output = fromChild.first
        input = toChild.second
        IO.close(toChild.first.release())
        IO.close(fromChild.second.release())
    }

    deinit {
        if !isReaped {
            try? Process.pidfdSendSignal(pidfd.raw, .kill)
            _ = end()
        }
    }

    /// The next line it prints; nil when it has ended or says nothing for half a minute.
    func line() throws -> String? {
        let deadline = soon
        while true {
            if let end = pending.firstIndex(of: 10) {
                defer { pending.removeSubrange(...end) }
                return String(decoding: pending[..<end], as: UTF8.self)
            }
            guard try IO.waitUntil(output.raw, readable: true, deadline: deadline) else { return nil }
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = try chunk.withUnsafeMutableBytes { try IO.read(output.raw, into: $0) } ?? 0
            if count == 0 { return nil }
            pending += chunk[0..<count]
        }
    }

    func send(_ signal: SignalNumber) throws { try Process.pidfdSendSignal(pidfd.raw, signal) }

    /// Tells it to end in order.
    func closeInput() throws {
        let null = try File.open("/dev/null")
        try replace(input.raw, by: null.raw)
    }

    /// Kills it and waits until it is gone.
    @discardableResult
    func kill() throws -> OSAL.ExitStatus? {
        try send(.kill)
        return end()
    }

    /// Waits for its end.
    func end() -> OSAL.ExitStatus? {
        guard (try? IO.waitUntil(pidfd.raw, readable: true, deadline: soon)) == true else { return nil }
        isReaped = true
        return Process.reap(pid)
    }
}

/// Puts another open file under a descriptor number.
func replace(_ number: Int32, by other: Int32) throws { try IO.replace(number, by: other) }

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Array where Element == UInt8 {
    var text: String { String(decoding: self, as: UTF8.self) }
}
