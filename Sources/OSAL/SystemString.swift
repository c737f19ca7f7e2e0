#if SAF_LIBRARY
    /// Text as the system takes it: a path, a name, a setting. In a C library bytes are all there is to it; Swift's own
    /// text would bring 30 KB that know Unicode.
    public struct SystemString: ExpressibleByStringInterpolation, Hashable, Sendable {
        public private(set) var utf8: [UInt8]

        public init(decoding bytes: some Sequence<UInt8>, as _: UTF8.Type) { utf8 = Array(bytes) }

        public init(stringLiteral text: StaticString) {
            utf8 = Array(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }

        public init(stringInterpolation parts: StringInterpolation) { utf8 = parts.utf8 }

        init(cString text: UnsafePointer<CChar>) {
            utf8 = []
            var next = UnsafeRawPointer(text).assumingMemoryBound(to: UInt8.self)
            while next.pointee != 0 {
                utf8.append(next.pointee)
                next += 1
            }
        }

        public var isEmpty: Bool { utf8.isEmpty }

        public func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
            (utf8 + [0]).withUnsafeBufferPointer { bytes in
                bytes.withMemoryRebound(to: CChar.self) { text in body(text.baseAddress!) }  // it has a NUL, at least
            }
        }

        public static func + (left: SystemString, right: SystemString) -> SystemString { "\(left)\(right)" }

        public struct StringInterpolation: StringInterpolationProtocol {
            fileprivate var utf8: [UInt8] = []

            public init(literalCapacity _: Int, interpolationCount _: Int) {}

            @inline(never)
            public mutating func appendLiteral(_ text: StaticString) { utf8 += SystemString(stringLiteral: text).utf8 }
            public mutating func appendInterpolation(_ text: StaticString) { appendLiteral(text) }
            @inline(never)
            public mutating func appendInterpolation(_ text: SystemString) { utf8 += text.utf8 }

            public mutating func appendInterpolation<Number: FixedWidthInteger>(_ number: Number) {
                var rest = UInt64(clamping: number)
                let start = utf8.count
                repeat {
                    utf8.insert(0x30 + UInt8(rest % 10), at: start)
                    rest /= 10
                } while rest > 0
            }
        }
    }

    extension Int {
        /// Digits, not too many; else nil.
        init?(_ text: SystemString) {
            guard (1...9).contains(text.utf8.count) else { return nil }
            self = 0
            for byte in text.utf8 {
                guard byte >= 0x30, byte <= 0x39 else { return nil }
                self = self * 10 + Int(byte - 0x30)
            }
        }
    }
#else
    /// Text as the system takes it: a path, a name, a setting. A type of its own only in the C libraries.
    public typealias SystemString = String
#endif
