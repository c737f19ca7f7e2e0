/// Makes lines of a stream of bytes that comes in pieces of any size. Memory: one line.
public struct LineAssembler: Sendable {
    public struct Line: Hashable, Sendable {
        /// Without its end (`\n` or `\r\n`).
        public var bytes: [UInt8]
        /// The line was longer; the rest is gone.
        public var isCut: Bool

        public init(bytes: [UInt8], isCut: Bool = false) { (self.bytes, self.isCut) = (bytes, isCut) }
    }

    public let bytesMax: Int
    private var partial: [UInt8] = []
    /// The current line is longer than `bytesMax`; its end is still to come.
    private var isSkipping = false

    public init(bytesMax: Int) { self.bytesMax = max(1, bytesMax) }

    /// Bytes wait for the end of their line.
    public var hasPartial: Bool { !partial.isEmpty && !isSkipping }

    /// Takes bytes in, and gives the lines that ended with them, or became too long.
    public mutating func append(_ bytes: UnsafeRawBufferPointer, _ deliver: (Line) -> Void) {
        var rest = bytes[...]
        while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
            add(rest[..<newline], deliver)
            if isSkipping { isSkipping = false } else { end(deliver) }
            rest = rest[(newline + 1)...]
        }
        add(rest, deliver)
    }

    /// Gives the unfinished line as if it had ended: nothing more came for a while, or ever will.
    public mutating func flush(_ deliver: (Line) -> Void) {
        guard hasPartial else { return }
        end(deliver)
    }

    /// Bytes came that are not given here. If they ended within a line, the rest of that line is not wanted either.
    public mutating func missed(endingWithinLine: Bool) {
        partial.removeAll(keepingCapacity: true)
        isSkipping = endingWithinLine
    }

    private mutating func add(_ piece: Slice<UnsafeRawBufferPointer>, _ deliver: (Line) -> Void) {
        if isSkipping { return }
        // One more than the limit is kept, for the \r of a line that fits.
        let room = bytesMax + 1 - partial.count
        partial.append(contentsOf: piece.prefix(room))
        let isTooLong = piece.count > room || (partial.count > bytesMax && partial.last != UInt8(ascii: "\r"))
        guard isTooLong else { return }
        partial.removeLast(partial.count - bytesMax)
        while let last = partial.last, last & 0xC0 == 0x80, partial.count > max(1, bytesMax - 4) {
            partial.removeLast()
        }
        if let last = partial.last, last >= 0xC0, partial.count > 1 { partial.removeLast() }
        deliver(Line(bytes: partial, isCut: true))
        partial.removeAll(keepingCapacity: true)
        isSkipping = true
    }

    private mutating func end(_ deliver: (Line) -> Void) {
        if partial.last == UInt8(ascii: "\r") { partial.removeLast() }
        deliver(Line(bytes: partial))
        partial.removeAll(keepingCapacity: true)
    }
}
