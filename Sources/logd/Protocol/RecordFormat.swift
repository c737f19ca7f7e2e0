/// How the records of a stream look in its file, when it has a format of its own: text, with tokens for what a record
/// has. Only what belongs to application streams; times are UTC.
///
/// Source: SAI-AIS-LOG-A.02.01 §3.5 (logFileFmt); `k`, `z`, `q` are OpenSAF's.
public struct RecordFormat: Hashable, Sendable {
    /// Of an expression.
    public static let bytesMax = 512
    /// Of a field.
    static let fieldBytesMax = 65_535

    enum Token: Hashable, Sendable {
        case text([UInt8])
        case number, hexTime
        case hour, minute, second, half, month, monthName, day, dayName, shortYear, year
        case milliseconds, zone
        case classID, completeness, severity
        // Bytes; 0: as many as there are.
        case body(Int), hexBody(Int), logger(Int), node(Int)
    }

    /// What of a record is not in the record.
    public struct Origin: Hashable, Sendable {
        public var node: [UInt8]
        public var program: [UInt8]
        public init(node: [UInt8], program: [UInt8]) { (self.node, self.program) = (node, program) }
    }

    let tokens: [Token]
    private let hasHalf: Bool

    /// What is wrong with an expression, in one sentence.
    public struct Fault: Error, Hashable, Sendable { public var text: String }

    public init(_ expression: String) throws(Fault) {
        let bytes = Array(expression.utf8)
        guard !bytes.isEmpty, bytes.count <= Self.bytesMax else {
            throw Fault(text: "a format of \(bytes.count) bytes; 1 to \(Self.bytesMax) expected")
        }
        guard bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) else {
            throw Fault(text: "format '\(expression)'; printable ASCII expected")
        }
        var (tokens, seen): ([Token], Set<[UInt8]>) = ([], [])
        var rest = bytes[...]
        while let first = rest.first {
            guard first == UInt8(ascii: "@") else {
                let text = rest.prefix { $0 != UInt8(ascii: "@") }
                tokens.append(.text(Array(text)))
                rest = rest.dropFirst(text.count)
                continue
            }
            let name = Array(rest.dropFirst().prefix(2))
            rest = rest.dropFirst(3)
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard name.count == 2, let token = Self.token(name, size: digits) else {
                let shown = String(decoding: [first] + name + digits, as: UTF8.self)
                throw Fault(text: "'\(shown)' in format '\(expression)' is no token of an application stream")
            }
            guard seen.insert(name).inserted else {
                throw Fault(text: "'@\(String(decoding: name, as: UTF8.self))' twice in format '\(expression)'")
            }
            tokens.append(token)
            if token.hasSize { rest = rest.dropFirst(digits.count) }
        }
        self.tokens = tokens
        hasHalf = tokens.contains(.half)
    }

    private static func token(_ name: [UInt8], size digits: ArraySlice<UInt8>) -> Token? {
        let size = digits.isEmpty ? 0 : Int(String(decoding: digits, as: UTF8.self)) ?? .max
        switch String(decoding: name, as: UTF8.self) {
        case "Cr": return .number
        case "Ct": return .hexTime
        case "Ch": return .hour
        case "Cn": return .minute
        case "Cs": return .second
        case "Ca": return .half
        case "Cm": return .month
        case "CM": return .monthName
        case "Cd": return .day
        case "CD": return .dayName
        case "Cy": return .shortYear
        case "CY": return .year
        case "Ck": return .milliseconds
        case "Cz": return .zone
        case "Cc": return .classID
        case "Cx": return .completeness
        case "Sv": return .severity
        case "Cb": return size <= fieldBytesMax ? .body(size) : nil
        case "Ci": return size <= fieldBytesMax ? .hexBody(size) : nil
        case "Sl": return size <= fieldBytesMax ? .logger(size) : nil
        case "Cq": return size <= fieldBytesMax ? .node(size) : nil
        default: return nil
        }
    }

    // MARK: Records

    /// Appends a record, newline included.
    ///
    /// - Parameters:
    ///   - number: of the record in its stream.
    ///   - size: of every record, the newline included: filled with blanks, or cut; 0: as long as it is.
    public func append(
        _ record: LogRecordView, number: UInt64, of origin: Origin, size: Int, to out: inout [UInt8]
    ) {
        let start = out.count
        render(record, number, origin, isCut: record.isCut, &out)
        if size > 0, out.count - start > size - 1 {
            out.removeSubrange(start...)
            render(record, number, origin, isCut: true, &out)
            out.removeSubrange((start + size - 1)...)
        }
        if size > 0 { out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: start + size - 1 - out.count)) }
        out.append(UInt8(ascii: "\n"))
    }

    private func render(
        _ record: LogRecordView, _ number: UInt64, _ origin: Origin, isCut: Bool, _ out: inout [UInt8]
    ) {
        var (seconds, rest) = record.time.quotientAndRemainder(dividingBy: 1_000_000_000)
        if rest < 0 { (seconds, rest) = (seconds - 1, rest + 1_000_000_000) }
        let time = UTCTime(secondsSince1970: seconds)
        for token in tokens {
            switch token {
            case .text(let text): out.append(contentsOf: text)
            case .number: Self.append(number, 10, " ", &out)
            case .hexTime: Self.appendHex(UInt64(bitPattern: record.time), 16, "0x", &out)
            case .hour: Self.append(UInt64(hasHalf ? (time.hour + 11) % 12 + 1 : time.hour), 2, "0", &out)
            case .minute: Self.append(UInt64(time.minute), 2, "0", &out)
            case .second: Self.append(UInt64(time.second), 2, "0", &out)
            case .half: out.append(contentsOf: (time.hour < 12 ? "am" : "pm").utf8)
            case .month: Self.append(UInt64(time.month), 2, "0", &out)
            case .monthName: out.append(contentsOf: Self.months[time.month - 1].utf8)
            case .day: Self.append(UInt64(time.day), 2, "0", &out)
            case .dayName: out.append(contentsOf: Self.weekday(seconds).utf8)
            case .shortYear: Self.append(UInt64(max(0, time.year) % 100), 2, "0", &out)
            case .year: Self.append(UInt64(max(0, time.year)), 4, "0", &out)
            case .milliseconds: Self.append(UInt64(rest / 1_000_000), 3, "0", &out)
            case .zone: out.append(contentsOf: "+0000".utf8)
            // Our records have no class.
            case .classID: out.append(contentsOf: "NCI[0x00000000,0x0000,0x0000]".utf8)
            case .completeness: out.append(UInt8(ascii: isCut ? "T" : "C"))
            case .severity: out.append(contentsOf: Self.word(record.severity).utf8)
            case .body(let size): Self.append(record.message, size, &out)
            case .hexBody(let size): Self.appendHex(record.message, size, &out)
            case .logger(let size): origin.program.withUnsafeBytes { Self.append($0, size, &out) }
            case .node(let size): origin.node.withUnsafeBytes { Self.append($0, size, &out) }
            }
        }
    }

    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    private static let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]

    private static func weekday(_ seconds: Int64) -> String {
        let days = (seconds - (seconds % 86_400 + 86_400) % 86_400) / 86_400
        return weekdays[Int((days % 7 + 7) % 7)]
    }

    private static func word(_ severity: LogSeverity) -> String {
        switch severity {
        case .emergency: "EM"
        case .alert: "AL"
        case .critical: "CR"
        case .error: "ER"
        case .warning: "WA"
        case .notice: "NO"
        // Finer ones are information to the AIS.
        case .info, .debug, .trace: "IN"
        }
    }

    /// Numbers stand at the right, and lose what is left when there is no room.
    private static func append(_ value: UInt64, _ width: Int, _ fill: Character, _ out: inout [UInt8]) {
        let digits = Array(String(value).utf8.suffix(width))
        out.append(contentsOf: repeatElement(fill.asciiValue ?? 0x20, count: width - digits.count))
        out.append(contentsOf: digits)
    }

    private static func appendHex(_ value: UInt64, _ width: Int, _ prefix: String, _ out: inout [UInt8]) {
        out.append(contentsOf: prefix.utf8)
        let digits = String(value, radix: 16)
        out.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: width - digits.utf8.count))
        out.append(contentsOf: digits.utf8)
    }

    /// Text stands at the left, and loses its end when there is no room; what cannot be printed is an underscore.
    private static func append(_ text: UnsafeRawBufferPointer, _ size: Int, _ out: inout [UInt8]) {
        let shown = size == 0 ? text.count : min(size, text.count)
        for byte in text.prefix(shown) { out.append(byte >= 0x20 && byte < 0x7F ? byte : UInt8(ascii: "_")) }
        if size > shown { out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: size - shown)) }
    }

    private static func appendHex(_ bytes: UnsafeRawBufferPointer, _ size: Int, _ out: inout [UInt8]) {
        let start = out.count
        let digits = Array("0123456789abcdef".utf8)
        for byte in size == 0 ? bytes[...] : bytes.prefix((size + 1) / 2) {
            out.append(digits[Int(byte >> 4)])
            out.append(digits[Int(byte & 15)])
        }
        guard size > 0 else { return }
        if out.count - start > size { out.removeSubrange((start + size)...) }
        out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: size - (out.count - start)))
    }
}

extension RecordFormat.Token {
    var hasSize: Bool {
        switch self {
        case .body, .hexBody, .logger, .node: true
        default: false
        }
    }
}

extension StreamAttributes {
    /// What the file beside the log says: how to read it. Source: SAI-AIS-LOG-A.02.01 §3.6.
    public var configuration: String {
        let action =
            switch fullAction {
            case .wrap: "WRAP"
            case .halt: "HALT"
            case .rotate: "ROTATE \(filesMax)"
            }
        return """
            LOG_SVC_VERSION: A.02.01
            FORMAT:\(format)
            MAX_FILE_SIZE: \(fileBytesMax)
            FIXED_LOG_REC_SIZE: \(recordBytes)
            LOG_FULL_ACTION: \(action)

            """
    }
}
