import OSAL

/// Answers within some microseconds whether a process is ending: reads /proc/PID/stat, opened while it lived, and looks
/// at three of its fields.
///
/// What `Process.isExiting(_:)` asks of two files with their texts taken apart is here the one question that stands
/// between a death and its recovery. Source: proc(5), /proc/pid/stat.
public final class ExitProbe: Sendable {
    private let file: SharedDescriptor?

    /// A process that is gone already has nothing to be opened: it is exiting.
    init(pid: Int32) { file = try? SharedDescriptor(File.open("/proc/\(pid)/stat")) }

    var isExiting: Bool {
        guard let file else { return true }
        return withUnsafeTemporaryAllocation(byteCount: 1_024, alignment: 8) { buffer in
            // ESRCH: reaped.
            guard let count = try? IO.read(file.raw, into: buffer, at: 0), count > 0 else { return true }
            return Self.isExiting(UnsafeRawBufferPointer(rebasing: buffer[0..<count]))
        }
    }

    /// True for a zombie, for one in exit (PF_EXITING), and for one that has SIGKILL pending: a fatal signal to one
    /// thread becomes that for all others. The text's program name may hold anything, also ") Z".
    static func isExiting(_ text: UnsafeRawBufferPointer) -> Bool {
        guard let close = text.lastIndex(of: UInt8(ascii: ")")) else { return false }
        var field = 2
        var number: UInt64 = 0
        for index in (close + 1)..<text.count {
            let byte = text[index]
            if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") {
                if field == flagsField, number & exitingFlag != 0 { return true }
                if field == pendingField { return number & killBit != 0 }
                field += 1
                number = 0
            } else if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
                number = number &* 10 &+ UInt64(byte - UInt8(ascii: "0"))
            } else if field == stateField, byte == UInt8(ascii: "Z") || byte == UInt8(ascii: "X") {
                return true
            }
        }
        return false
    }

    private static let stateField = 3, flagsField = 9, pendingField = 31
    private static let exitingFlag: UInt64 = 0x4
    private static let killBit: UInt64 = 1 << 8
}
