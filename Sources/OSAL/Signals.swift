internal import COSAL
internal import Glibc

/// A signal. Source: signal(7).
public struct SignalNumber: Hashable, Sendable, RawRepresentable, CustomStringConvertible {
    public let rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let hangup = SignalNumber(rawValue: SIGHUP)
    public static let interrupt = SignalNumber(rawValue: SIGINT)
    public static let quit = SignalNumber(rawValue: SIGQUIT)
    public static let abort = SignalNumber(rawValue: SIGABRT)
    public static let kill = SignalNumber(rawValue: SIGKILL)
    public static let user1 = SignalNumber(rawValue: SIGUSR1)
    public static let segmentation = SignalNumber(rawValue: SIGSEGV)
    public static let user2 = SignalNumber(rawValue: SIGUSR2)
    public static let pipe = SignalNumber(rawValue: SIGPIPE)
    public static let alarm = SignalNumber(rawValue: SIGALRM)
    public static let terminate = SignalNumber(rawValue: SIGTERM)
    public static let child = SignalNumber(rawValue: SIGCHLD)
    public static let `continue` = SignalNumber(rawValue: SIGCONT)
    public static let stop = SignalNumber(rawValue: SIGSTOP)
    public static let terminalStop = SignalNumber(rawValue: SIGTSTP)
    public static let windowChange = SignalNumber(rawValue: SIGWINCH)

    /// "SIGTERM", or "signal 40" for one without a name.
    public var description: String {
        let names: [Int32: String] = [
            SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", SIGILL: "SIGILL", SIGTRAP: "SIGTRAP",
            SIGABRT: "SIGABRT",
            SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGKILL: "SIGKILL", SIGUSR1: "SIGUSR1", SIGSEGV: "SIGSEGV",
            SIGUSR2: "SIGUSR2", SIGPIPE: "SIGPIPE", SIGALRM: "SIGALRM", SIGTERM: "SIGTERM", SIGCHLD: "SIGCHLD",
            SIGCONT: "SIGCONT", SIGSTOP: "SIGSTOP", SIGTSTP: "SIGTSTP", SIGSYS: "SIGSYS", SIGXCPU: "SIGXCPU",
            SIGXFSZ: "SIGXFSZ",
        ]
        return names[rawValue] ?? "signal \(rawValue)"
    }

    /// From now on this process ignores the signal; children started by ``Process/spawn(_:)`` do not.
    public func ignore() { _ = signal(rawValue, SIG_IGN) }
}

/// A signal that has come.
public struct SignalInfo: Equatable, Sendable {
    public let signal: SignalNumber
    /// Who sent it; 0 when it was the kernel.
    public let pid: Int32
    /// Exit code or signal of the child, for SIGCHLD.
    public let status: Int32
}

/// Signals as something to read. Source: signalfd(2).
///
/// For requests to stop or reload. The death of children is watched by pidfd: SIGCHLD merges and gets lost when any
/// other thread has it unblocked.
public struct SignalDescriptor: ~Copyable, Sendable {
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    /// Blocks the signals in the calling thread and those it starts later: call it before the first thread starts.
    public init(blocking signals: [SignalNumber]) throws(OSError) {
        var set = sigset_t()
        sigemptyset(&set)
        for number in signals { sigaddset(&set, number.rawValue) }
        let code = pthread_sigmask(SIG_BLOCK, &set, nil)
        if code != 0 { throw OSError(code: code, call: "pthread_sigmask") }
        let flags = Int32(SFD_NONBLOCK) | Int32(SFD_CLOEXEC)
        descriptor = Descriptor(owning: try retrying("signalfd") { signalfd(-1, &set, flags) })
    }

    /// The next signal that has come, or nil.
    public func next() -> SignalInfo? {
        var entry = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        while true {
            let count = read(raw, &entry, size)
            if count == size {
                return SignalInfo(
                    signal: SignalNumber(rawValue: Int32(entry.ssi_signo)), pid: Int32(bitPattern: entry.ssi_pid),
                    status: entry.ssi_status)
            }
            if count != -1 || errno != EINTR { return nil }
        }
    }
}
