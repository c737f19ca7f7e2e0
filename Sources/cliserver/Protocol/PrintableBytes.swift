/// Bytes that may be text, or not, for a terminal.
public enum PrintableBytes {
    /// The bytes as text when they are printable UTF-8 without control characters, else in hexadecimal: `0x00ff`.
    public static func text(_ bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self),
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
        {
            return text
        }
        return "0x" + hexadecimal(bytes)
    }

    /// Two digits an octet, nothing between.
    public static func hexadecimal(_ bytes: [UInt8]) -> String { bytes.map(hex).joined() }

    /// 16 bytes a line: offset, hexadecimal, characters; as hexdump(1) -C.
    public static func dump(_ bytes: [UInt8]) -> String {
        var text = ""
        for start in stride(from: 0, to: bytes.count, by: 16) {
            let row = bytes[start..<min(bytes.count, start + 16)]
            let digits = String(start, radix: 16)
            var line = String(repeating: "0", count: max(0, 8 - digits.count)) + digits + " "
            for (index, byte) in row.enumerated() { line += (index == 8 ? "  " : " ") + hex(byte) }
            line += String(repeating: " ", count: max(0, 60 - line.count)) + "|"
            line += String(row.map { (0x20..<0x7F).contains($0) ? Character(Unicode.Scalar($0)) : "." })
            text += line + "|\n"
        }
        return text
    }

    private static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

    /// `512 B`, `3.4 KiB`, `12 MiB`.
    public static func size(_ bytes: UInt64) -> String {
        if bytes < 1_024 { return "\(bytes) B" }
        var scaled = bytes * 10 / 1_024
        var units = ["KiB", "MiB", "GiB", "TiB"][...]
        while scaled >= 10_240, units.count > 1 {
            scaled /= 1_024
            units.removeFirst()
        }
        return scaled < 100
            ? "\(scaled / 10).\(scaled % 10) \(units[units.startIndex])" : "\(scaled / 10) \(units[units.startIndex])"
    }
}
