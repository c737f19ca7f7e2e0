#if SAF_LIBRARY
    /// Why something failed, in words. A C library answers with codes and has nobody to tell more: here they are
    /// nothing, cost nothing, and leave the code that would put them together out of the library.
    public struct Words: ExpressibleByStringInterpolation, Hashable, Sendable {
        @inline(__always)
        public init(decoding _: UnsafeRawBufferPointer, as _: UTF8.Type) {}

        @inline(__always)
        public init(stringLiteral _: StaticString) {}

        @inline(__always)
        public init(stringInterpolation _: StringInterpolation) {}

        public struct StringInterpolation: StringInterpolationProtocol {
            @inline(__always)
            public init(literalCapacity _: Int, interpolationCount _: Int) {}

            @inline(__always)
            public mutating func appendLiteral(_: StaticString) {}

            /// Not even looked at.
            @inline(__always)
            public mutating func appendInterpolation<Value>(_: @autoclosure () -> Value) {}

            /// A type's name: Embedded Swift has no values of types.
            @inline(__always)
            public mutating func appendInterpolation<Value>(_: Value.Type) {}
        }
    }
#else
    /// Why something failed, in words. A type of its own only in the C libraries, where nobody can hear them.
    public typealias Words = String
#endif
