/// The ASCII form of a record, one line each:
///
///     2026-03-01T12:34:56.123456Z [file.swift:12] (node.pid : program.AREA.CTX.00042 : NOTICE) message
///
/// Time is UTC; it is missing with `CL_LOG_TIME_ENABLE=0`, `[file:line]` unless the writer's threshold was DEBUG or
/// TRACE. Control characters of a message are escaped (`\n`, `\x1b`), so that a record stays one line and cannot
/// drive a terminal.
public struct LineFormat: Sendable {
    private var second: Int64 = .min
    private var secondText: [UInt8] = []

    public init() {}

    /// What stands at the beginning of each line of one process.
    public struct Origin: Hashable, Sendable {
        public var node: [UInt8]
        public var process: Int32
        public var program: [UInt8]
        public var hasTime: Bool

        public init(node: [UInt8], process: Int32, program: [UInt8], hasTime: Bool = true) {
            self.node = node
            self.process = process
            self.program = program
            self.hasTime = hasTime
        }
    }

    /// Appends one line, newline included.
    public mutating func append(_ record: LogRecordView, of origin: Origin, to out: inout [UInt8]) {
        begin(
            origin, time: record.time, file: record.file, line: record.line, area: record.area, context: record.context,
            number: record.number, severity: record.severity, to: &out)
        Self.appendPrintable(record.message, to: &out)
        if record.isCut { out.append(contentsOf: Self.cutMark) }
        out.append(UInt8(ascii: "\n"))
    }

    /// Appends one line whose fields are texts, newline included.
    public mutating func append(
        _ message: String, of origin: Origin, time: Int64, area: String, context: String, number: UInt32,
        severity: LogSeverity, to out: inout [UInt8]
    ) {
        let (area, context, message) = (Array(area.utf8), Array(context.utf8), Array(message.utf8))
        area.withUnsafeBytes { area in
            context.withUnsafeBytes { context in
                message.withUnsafeBytes { message in
                    begin(
                        origin, time: time, file: UnsafeRawBufferPointer(start: nil, count: 0), line: 0, area: area,
                        context: context, number: number, severity: severity, to: &out)
                    Self.appendPrintable(message, to: &out)
                    out.append(UInt8(ascii: "\n"))
                }
            }
        }
    }

    public static let cutMark = Array(" [cut]".utf8)

    /// Everything before the message.
    public mutating func begin(
        _ origin: Origin, time: Int64, file: UnsafeRawBufferPointer, line: UInt32, area: UnsafeRawBufferPointer,
        context: UnsafeRawBufferPointer, number: UInt32, severity: LogSeverity, to out: inout [UInt8]
    ) {
        if origin.hasTime {
            appendTime(time, to: &out)
            out.append(UInt8(ascii: " "))
        }
        if !file.isEmpty {
            out.append(UInt8(ascii: "["))
            Self.appendPrintable(file, to: &out)
            out.append(UInt8(ascii: ":"))
            Self.appendDecimal(UInt64(line), width: 1, to: &out)
            out.append(UInt8(ascii: "]"))
            out.append(UInt8(ascii: " "))
        }
        out.append(UInt8(ascii: "("))
        origin.node.withUnsafeBytes { Self.appendPrintable($0, to: &out) }
        out.append(UInt8(ascii: "."))
        Self.appendDecimal(UInt64(max(0, origin.process)), width: 1, to: &out)
        out.append(contentsOf: Self.separator)
        origin.program.withUnsafeBytes { Self.appendPrintable($0, to: &out) }
        out.append(UInt8(ascii: "."))
        Self.appendField(area, to: &out)
        out.append(UInt8(ascii: "."))
        Self.appendField(context, to: &out)
        out.append(UInt8(ascii: "."))
        Self.appendDecimal(UInt64(number), width: 5, to: &out)
        out.append(contentsOf: Self.separator)
        out.append(contentsOf: Self.severityText[Int(severity.rawValue)])
        out.append(UInt8(ascii: ")"))
        out.append(UInt8(ascii: " "))
    }

    private static let separator = Array(" : ".utf8)
    private static let none = Array("---".utf8)
    private static let severityText: [[UInt8]] =
        [[]] + LogSeverity.allCases.map { Array($0.description.utf8) }

    private static func appendField(_ field: UnsafeRawBufferPointer, to out: inout [UInt8]) {
        if field.isEmpty { out.append(contentsOf: none) } else { appendPrintable(field, to: &out) }
    }

    /// 2026-03-01T12:34:56.123456Z. The text of the second is kept for the next record.
    public mutating func appendTime(_ nanoseconds: Int64, to out: inout [UInt8]) {
        var (whole, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        if rest < 0 { (whole, rest) = (whole - 1, rest + 1_000_000_000) }
        if whole != second {
            second = whole
            secondText.removeAll(keepingCapacity: true)
            UTCTime(secondsSince1970: whole).appendExtended(to: &secondText)
        }
        out.append(contentsOf: secondText)
        out.append(UInt8(ascii: "."))
        Self.appendDecimal(UInt64(rest / 1000), width: 6, to: &out)
        out.append(UInt8(ascii: "Z"))
    }

    /// The number of a record in its global stream, which stands before the line; 0: it is none of its records.
    public static func appendNumber(_ number: UInt64, to out: inout [UInt8]) {
        appendDecimal(number, width: 1, to: &out)
        out.append(UInt8(ascii: " "))
    }

    static func appendDecimal(_ value: UInt64, width: Int, to out: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var (rest, index) = (value, 20)
            repeat {
                index -= 1
                digits[index] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            } while rest != 0
            while 20 - index < width {
                index -= 1
                digits[index] = UInt8(ascii: "0")
            }
            out.append(contentsOf: digits[index...])
        }
    }

    /// Appends text that may contain anything: valid UTF-8 stays, control characters are escaped, the rest repaired.
    public static func appendPrintable(_ text: UnsafeRawBufferPointer, to out: inout [UInt8]) {
        if text.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) {
            out.append(contentsOf: text)
            return
        }
        for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
            switch scalar.value {
            case 0x0A: out.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "n")])
            case 0x09: out.append(UInt8(ascii: "\t"))
            case 0x0D: out.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "r")])
            case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029, 0x202A...0x202E, 0x2066...0x2069:
                let hex = String(scalar.value, radix: 16)
                let escape = scalar.value < 0x100 ? "\\x" + (hex.count < 2 ? "0" : "") + hex : "\\u{\(hex)}"
                out.append(contentsOf: escape.utf8)
            default: out.append(contentsOf: UTF8.encode(scalar)!)  // every scalar has a UTF-8 form
            }
        }
    }
}

/// A date and time of day in UTC, from the proleptic Gregorian calendar.
public struct UTCTime: Hashable, Sendable {
    public var year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int

    /// Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    public init(secondsSince1970: Int64) {
        var (days, time) = secondsSince1970.quotientAndRemainder(dividingBy: 86_400)
        if time < 0 { (days, time) = (days - 1, time + 86_400) }
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
        month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
        (hour, minute, second) = (Int(time / 3600), Int(time / 60 % 60), Int(time % 60))
    }

    /// ISO 8601, extended: 2026-03-01T12:34:56
    public func appendExtended(to out: inout [UInt8]) {
        append(to: &out, dash: [UInt8(ascii: "-")], colon: [UInt8(ascii: ":")])
    }

    /// ISO 8601, basic: 20260301T123456. For file names.
    public var basic: String {
        var out: [UInt8] = []
        append(to: &out, dash: [], colon: [])
        return String(decoding: out, as: UTF8.self)
    }

    private func append(to out: inout [UInt8], dash: [UInt8], colon: [UInt8]) {
        LineFormat.appendDecimal(UInt64(max(0, year)), width: 4, to: &out)
        out.append(contentsOf: dash)
        LineFormat.appendDecimal(UInt64(month), width: 2, to: &out)
        out.append(contentsOf: dash)
        LineFormat.appendDecimal(UInt64(day), width: 2, to: &out)
        out.append(UInt8(ascii: "T"))
        LineFormat.appendDecimal(UInt64(hour), width: 2, to: &out)
        out.append(contentsOf: colon)
        LineFormat.appendDecimal(UInt64(minute), width: 2, to: &out)
        out.append(contentsOf: colon)
        LineFormat.appendDecimal(UInt64(second), width: 2, to: &out)
    }
}
