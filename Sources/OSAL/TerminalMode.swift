internal import Glibc

/// A terminal read key by key, without echo; the former mode comes back with ``restore()``, or with the value's end.
///
/// Output stays as it was: a newline still returns the carriage. Source: termios(3).
public final class TerminalMode {
    private let fd: Int32
    private var former: termios?

    /// Nil when `fd` is no terminal.
    public init?(_ fd: Int32) {
        self.fd = fd
        var mode = termios()
        guard tcgetattr(fd, &mode) == 0 else { return nil }
        former = mode
        mode.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG | IEXTEN)
        mode.c_iflag &= ~tcflag_t(IXON | ICRNL)
        guard tcsetattr(fd, TCSADRAIN, &mode) == 0 else { return nil }
    }

    deinit { restore() }

    /// Idempotent.
    public func restore() {
        guard var mode = former else { return }
        former = nil
        _ = tcsetattr(fd, TCSADRAIN, &mode)
    }
}
