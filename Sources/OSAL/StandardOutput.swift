internal import COSAL
internal import Glibc

/// The program's output, unbuffered.
public enum StandardOutput {
    public static let raw: Int32 = 1
    /// Writes everything; a reader that has gone is not an error.
    public static func write(_ text: String) { writeText(text, to: raw) }
}

/// The program's complaints, unbuffered.
public enum StandardError {
    public static let raw: Int32 = 2
    public static func write(_ text: String) { writeText(text, to: raw) }
}

private func writeText(_ text: String, to fd: Int32) {
    var text = text
    text.withUTF8 { bytes in
        // Nobody is left to tell when this fails.
        try? IO.writeAll(fd, UnsafeRawBufferPointer(bytes))
    }
}

/// Whether a descriptor is a terminal. Source: isatty(3).
public func isTerminal(_ fd: Int32) -> Bool { isatty(fd) == 1 }

/// The columns of the terminal behind `fd`, or nil when it is none (or does not say).
public func terminalWidth(_ fd: Int32 = StandardOutput.raw) -> Int? {
    let columns = cosal_terminal_columns(fd)
    return columns > 0 ? Int(columns) : nil
}
