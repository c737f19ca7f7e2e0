internal import COSAL
internal import Glibc

/// How a process ended.
public enum ExitStatus: Equatable, Sendable, CustomStringConvertible {
    case exited(code: Int32)
    case signaled(SignalNumber)
    /// It has ended, but not as our child, so nobody can tell us how.
    case unknown

    public var description: String {
        switch self {
        case .exited(let code): "exited with code \(code)"
        case .signaled(let signal): "killed by \(signal)"
        case .unknown: "ended"
        }
    }

    init(waitStatus status: Int32) {
        if cosal_exited(status) {
            self = .exited(code: cosal_exit_code(status))
        } else if cosal_signaled(status) {
            self = .signaled(SignalNumber(rawValue: cosal_term_signal(status)))
        } else {
            self = .unknown
        }
    }
}

/// One entry of /proc/PID/stat. Source: proc(5).
public struct ProcessInformation: Equatable, Sendable {
    public let pid: Int32
    /// Name of the program, at most 15 bytes.
    public let name: String
    /// R, S, D, T (stopped), Z (zombie), X.
    public let state: Character
    public let parent: Int32
    public let group: Int32
    public let session: Int32
    let flags: UInt32
    public let threadCount: Int
    /// Clock ticks after boot. With the pid it names a process for as long as the system runs.
    public let startTime: UInt64
    public let residentBytes: Int

    /// Dead to the world: a zombie, or already in exit (PF_EXITING).
    public var isExiting: Bool { state == "Z" || state == "X" || flags & 0x4 != 0 }
    public var isStopped: Bool { state == "T" }

    /// Reads the text of /proc/PID/stat; nil when it is not that. The name may hold anything, also ") Z 1".
    public init?(stat text: String) {
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")"), open < close else { return nil }
        let fields = text[text.index(after: close)...].split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard fields.count >= 22, let pid = Int32(text[..<open].split(separator: " ").first ?? ""),
            let state = fields[0].first, let parent = Int32(fields[1]), let group = Int32(fields[2]),
            let session = Int32(fields[3]), let flags = UInt32(fields[6]), let threadCount = Int(fields[17]),
            let startTime = UInt64(fields[19]), let pages = Int(fields[21])
        else { return nil }
        self.pid = pid
        name = String(text[text.index(after: open)..<close])
        (self.state, self.parent, self.group, self.session) = (state, parent, group, session)
        (self.flags, self.threadCount, self.startTime) = (flags, threadCount, startTime)
        residentBytes = pages.multipliedReportingOverflow(by: Mapping.pageBytes).partialValue
    }
}

/// Starting, watching and ending processes.
public enum Process {
    /// A descriptor that becomes readable when `pid` has ended (every thread, memory freed).
    ///
    /// Race-free for a child that is not reaped yet; else compare ``startTime(of:)`` after it. ESRCH when it is gone.
    /// Source: pidfd_open(2).
    public static func pidfdOpen(_ pid: Int32) throws(OSError) -> Descriptor {
        Descriptor(owning: try retrying("pidfd_open", "process \(pid)") { cosal_pidfd_open(pid, 0) })
    }

    /// Sends a signal to exactly this process; ESRCH when it is gone. Source: pidfd_send_signal(2).
    public static func pidfdSendSignal(_ pidfd: Int32, _ signal: SignalNumber) throws(OSError) {
        try retrying("pidfd_send_signal", "\(signal)") { cosal_pidfd_send_signal(pidfd, signal.rawValue) }
    }

    /// Sends a signal; false when there is no such process. Only for a child that is not reaped yet: a pid may be
    /// reused.
    @discardableResult
    public static func kill(_ pid: Int32, _ signal: SignalNumber) throws(OSError) -> Bool {
        guard pid > 0 else { throw OSError(code: EINVAL, call: "kill", subject: "process \(pid)") }
        return try send(pid, signal)
    }

    /// Sends a signal to every process of the group that `leader` leads; false when none is left (one that
    /// has ended counts until it is reaped).
    @discardableResult
    public static func killGroup(_ leader: Int32, _ signal: SignalNumber = .kill) throws(OSError) -> Bool {
        guard leader > 1 else { throw OSError(code: EINVAL, call: "kill", subject: "process group \(leader)") }
        return try send(-leader, signal)
    }

    private static func send(_ target: Int32, _ signal: SignalNumber) throws(OSError) -> Bool {
        if Glibc.kill(target, signal.rawValue) == 0 { return true }
        if errno == ESRCH { return false }
        throw OSError.last("kill", "\(target) \(signal)")
    }

    /// Takes the exit status of a child that has ended; nil while it runs, `.unknown` when it is not (any more) our
    /// child.
    public static func reap(_ pid: Int32) -> ExitStatus? {
        var status: Int32 = 0
        while true {
            let result = waitpid(pid, &status, WNOHANG)
            if result == pid { return ExitStatus(waitStatus: status) }
            if result == 0 { return nil }
            if errno != EINTR { return .unknown }
        }
    }

    /// Takes the exit status of any child that has ended, such as one inherited by a ``becomeSubreaper()``.
    public static func reapAny() -> (pid: Int32, status: ExitStatus)? {
        var status: Int32 = 0
        while true {
            let result = waitpid(-1, &status, WNOHANG)
            if result > 0 { return (result, ExitStatus(waitStatus: status)) }
            if result == 0 || errno != EINTR { return nil }
        }
    }

    /// Orphans below this process become its children instead of init's. Source: PR_SET_CHILD_SUBREAPER(2const).
    public static func becomeSubreaper() throws(OSError) {
        try retrying("prctl(PR_SET_CHILD_SUBREAPER)") { cosal_prctl(PR_SET_CHILD_SUBREAPER, 1) }
    }

    /// The kernel sends this process `signal` when the thread that started it ends. nil: no longer.
    public static func setParentDeathSignal(_ signal: SignalNumber?) throws(OSError) {
        try retrying("prctl(PR_SET_PDEATHSIG)") { cosal_prctl(PR_SET_PDEATHSIG, UInt(signal?.rawValue ?? 0)) }
    }

    /// What the kernel says of a process now; nil when it is gone.
    public static func information(of pid: Int32) -> ProcessInformation? {
        guard let text = try? File.readText("/proc/\(pid)/stat", limit: 4096) else { return nil }
        return ProcessInformation(stat: text)
    }

    /// When the process started, in clock ticks after boot: with the pid, its identity. nil when it is gone.
    public static func startTime(of pid: Int32) -> UInt64? { information(of: pid)?.startTime }

    /// Whether exactly this process lives: same pid, same start time, not a zombie.
    public static func isAlive(_ pid: Int32, startTime: UInt64) -> Bool {
        guard let information = information(of: pid) else { return false }
        return information.startTime == startTime && !information.isExiting
    }

    /// Whether no thread of a process can run any more; false when that cannot be told now. A process whose first
    /// thread has ended is a zombie to look at, and may have others that live.
    public static func isOver(_ pid: Int32) -> Bool {
        if let information = information(of: pid) { return information.isExiting && information.threadCount <= 1 }
        return Glibc.kill(pid, 0) != 0 && errno == ESRCH
    }

    /// Resident memory in bytes; nil when the process is gone.
    public static func residentBytes(of pid: Int32) -> Int? { information(of: pid)?.residentBytes }

    /// Whether a process has ended or cannot avoid it any more: gone, zombie, in exit, or with SIGKILL pending.
    public static func isExiting(_ pid: Int32) -> Bool {
        guard let information = information(of: pid), !information.isExiting else { return true }
        guard let text = try? File.readText("/proc/\(pid)/status", limit: 65536) else { return true }
        return text.split(separator: "\n").contains { line in
            guard line.hasPrefix("SigPnd:") || line.hasPrefix("ShdPnd:") else { return false }
            let mask = line.drop { $0 != ":" }.dropFirst().drop { $0 == "\t" || $0 == " " }
            return (UInt64(mask, radix: 16) ?? 0) & (1 << UInt64(SIGKILL - 1)) != 0
        }
    }
}
