import EngineKit
import OSAL

/// What a program printed and how it ended.
public struct ProgramResult: Equatable, Sendable {
    public var status: ExitStatus
    /// Standard output.
    public var output: String
    /// Standard error.
    public var complaints: String

    public var isSuccess: Bool { status == .exited(code: 0) }
}

/// Running programs and waiting for them.
enum Tool {
    /// What is read of one program's output at most; more is thrown away.
    static let outputBytesMax = 1 << 20

    /// The file of a program: a path as it is, a name looked up in `folders`, PATH and the administrator's folders.
    static func find(_ program: String, in folders: [String] = []) throws(LabError) -> String {
        if program.contains("/") {
            return program.hasPrefix("/") ? program : Environment.workingDirectory + "/" + program
        }
        let path = (Environment.get("PATH") ?? "").split(separator: ":").map(String.init)
        for folder in folders + path + ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
            if File.isExecutable(folder + "/" + program) { return folder + "/" + program }
        }
        throw LabError("\(program) was not found; `make prepare` installs what the lab needs")
    }

    /// Runs a program to its end; SIGKILL for its process group when that takes longer than `timeout`.
    static func run(_ options: SpawnOptions, timeout: Duration) throws -> ProgramResult {
        let deadline = MonotonicClock.now() + timeout
        let running = try start(options)
        let pid = running.process.pid
        let pidfd = running.process.rawPidfd
        let texts = try collect(from: [running.output.raw, running.complaints.raw], until: pidfd, deadline)
        guard try IO.waitUntil(pidfd, readable: true, deadline: deadline) else {
            try Process.killGroup(pid)
            _ = try IO.waitUntil(pidfd, readable: true, deadline: MonotonicClock.now() + .seconds(5))
            _ = Process.reap(pid)
            throw LabError("\(options.arguments.joined(separator: " ")): not done within \(timeout)")
        }
        return ProgramResult(status: Process.reap(pid) ?? .unknown, output: texts[0], complaints: texts[1])
    }

    /// A child, and where to read what it prints.
    private struct Running: ~Copyable {
        let process: SpawnedProcess
        let output: Descriptor
        let complaints: Descriptor
    }

    /// The writing ends are only the child's when this returns.
    private static func start(_ options: SpawnOptions) throws -> Running {
        let output = try makePipe()
        let complaints = try makePipe()
        var options = options
        options.descriptors += [
            DescriptorMapping(output.second.raw, as: 1), DescriptorMapping(complaints.second.raw, as: 2),
        ]
        let outputReader = try output.first.duplicate()
        let complaintsReader = try complaints.first.duplicate()
        return Running(process: try Process.spawn(options), output: outputReader, complaints: complaintsReader)
    }

    /// Reads both until the process has ended and nothing is left to read (a daemon it started may keep them open), or
    /// the deadline.
    private static func collect(from readers: [Int32], until pidfd: Int32, _ deadline: Instant) throws -> [String] {
        let poller = try Poller()
        for (index, reader) in readers.enumerated() {
            try poller.add(reader, interest: .read, token: UInt64(index))
        }
        let ended = UInt64(readers.count)
        try poller.add(pidfd, interest: .read, token: ended)
        var texts = readers.map { _ in [UInt8]() }
        var open = readers.count
        var events: [PollEvent] = []
        var hasEnded = false
        while open > 0 {
            let rest = hasEnded ? .zero : deadline - MonotonicClock.now()
            guard rest >= .zero, try poller.wait(into: &events, timeout: rest) > 0 || !hasEnded else { break }
            for event in events {
                if event.token == ended {
                    hasEnded = true
                    try poller.remove(pidfd)
                } else if try !read(readers[Int(event.token)], into: &texts[Int(event.token)]) {
                    open -= 1
                    try poller.remove(readers[Int(event.token)])
                }
            }
        }
        return texts.map { String(decoding: $0, as: UTF8.self) }
    }

    /// Appends what is there; false at the end.
    private static func read(_ fd: Int32, into text: inout [UInt8]) throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        guard let count = try chunk.withUnsafeMutableBytes({ try IO.read(fd, into: $0) }) else { return true }
        if text.count < outputBytesMax { text += chunk[0..<count] }
        return count > 0
    }
}
