import OSAL
import SAFTypes

/// The incoming half of a link: bytes in, whole frames out. Performs nothing; what comes in is hostile until checked.
///
/// Small frames are handed out where they were read. The bytes of a piece that have not come yet are read straight into
/// the body they belong to (``space()``).
struct LinkReceiver: ~Copyable {
    static let inboxBytes = 256 << 10
    /// Read into the inbox at a time: what the inbox has of a large body must be copied, so not much.
    static let inboxReadMax = 64 << 10
    /// The same behind the missing part of a piece: the next piece's header, above all.
    static let readAheadMax = 4 << 10
    /// A body of several pieces gets so much memory at once, and more only as it comes.
    static let assemblyFirst = 1 << 20

    /// A whole frame; the body is valid until the next call of the receiver.
    struct Frame {
        var header: LinkHeader
        var body: UnsafeRawBufferPointer
    }

    private struct Assembly {
        var header: LinkHeader
        var filled = 0
    }

    private let bodyMax: Int
    private let inbox = UnsafeMutableRawPointer.allocate(byteCount: LinkReceiver.inboxBytes, alignment: 64)
    private var start = 0
    private var end = 0
    private var assemblies = InlineArray<4, Assembly?>(repeating: nil)
    private var memories = InlineArray<4, UnsafeMutableRawBufferPointer>(
        repeating: UnsafeMutableRawBufferPointer(start: nil, count: 0))
    /// The lane whose piece is being read, and what is missing of the piece.
    private var pieceLane = 0
    private var pieceMissing = 0
    /// The lane whose assembly was handed out whole and is to be cleared.
    private var delivered: Int?
    private(set) var receivedBytes: UInt64 = 0

    init(bodyMax: Int) { self.bodyMax = bodyMax }

    deinit {
        inbox.deallocate()
        for lane in 0..<4 { memories[lane].deallocate() }
    }

    // MARK: Bytes in

    /// Where the next bytes go: first the missing part of a piece, then the inbox. Fill in this order, then say
    /// ``received(_:)``. Frames handed out before are invalid.
    mutating func space() -> (IOSlice, IOSlice) {
        finishDelivery()
        if start == end { (start, end) = (0, 0) }
        if start > 0, Self.inboxBytes - end < Self.inboxBytes / 2 {
            inbox.copyMemory(from: inbox + start, byteCount: end - start)
            (start, end) = (0, end - start)
        }
        let room = Self.inboxBytes - end
        guard pieceMissing > 0, start == end, let assembly = assemblies[pieceLane] else {
            return (IOSlice(base: nil, count: 0), IOSlice(base: inbox + end, count: min(room, Self.inboxReadMax)))
        }
        return (
            IOSlice(base: memories[pieceLane].baseAddress.map { $0 + assembly.filled }, count: pieceMissing),
            IOSlice(base: inbox + end, count: min(room, Self.readAheadMax))
        )
    }

    mutating func received(_ count: Int) {
        receivedBytes &+= UInt64(count)
        var count = count
        if pieceMissing > 0, start == end {
            let direct = min(count, pieceMissing)
            assemblies[pieceLane]?.filled += direct
            pieceMissing -= direct
            count -= direct
        }
        end += count
    }

    // MARK: Frames out

    /// The next whole frame, or nil when more bytes are needed. After an error nothing of this stream can be trusted.
    mutating func next() throws(DecodeError) -> Frame? {
        finishDelivery()
        while true {
            if pieceMissing > 0 {
                takePiece()
                if pieceMissing > 0 { return nil }
            }
            if let frame = finishAssembly() { return frame }
            guard end - start >= LinkHeader.size else { return nil }
            let header = try LinkHeader(at: inbox + start)
            let length = Int(header.length)
            if header.kind == .piece {
                try beginPiece(header, length)
                start += LinkHeader.size
                continue
            }
            if header.flags.contains(.pieces) {
                try beginAssembly(header, length)
                start += LinkHeader.size
                continue
            }
            guard length <= LinkSender.pieceMax else {
                throw .badValue("a frame of \(length) bytes; at most \(LinkSender.pieceMax) expected")
            }
            guard end - start >= LinkHeader.size + length else { return nil }
            let body = UnsafeRawBufferPointer(start: inbox + start + LinkHeader.size, count: length)
            start += LinkHeader.size + length
            return Frame(header: header, body: body)
        }
    }

    private mutating func beginAssembly(_ header: LinkHeader, _ length: Int) throws(DecodeError) {
        let lane = Int(header.lane.rawValue)
        guard assemblies[lane] == nil else {
            throw .badValue("a second body in lane \(lane) before the first is whole")
        }
        guard header.kind == .request || header.kind == .reply || header.kind == .failure || header.kind == .oneWay
        else { throw .badValue("a frame of kind \(header.kind) in pieces") }
        guard length > 0, length <= bodyMax else {
            throw .badValue("a body of \(length) bytes; 1 to \(bodyMax) expected")
        }
        assemblies[lane] = Assembly(header: header)
    }

    private mutating func beginPiece(_ header: LinkHeader, _ length: Int) throws(DecodeError) {
        let lane = Int(header.lane.rawValue)
        guard let assembly = assemblies[lane] else { throw .badValue("a piece in lane \(lane) of no body") }
        let missing = Int(assembly.header.length) - assembly.filled
        guard length > 0, length <= LinkSender.pieceMax, length <= missing else {
            throw .badValue("a piece of \(length) bytes; 1 to \(min(missing, LinkSender.pieceMax)) expected")
        }
        reserve(lane, assembly.filled + length, total: Int(assembly.header.length), kept: assembly.filled)
        pieceLane = lane
        pieceMissing = length
    }

    /// Memory for the first `need` bytes of a body of `total`: never more than twice what has come, beyond the first.
    private mutating func reserve(_ lane: Int, _ need: Int, total: Int, kept: Int) {
        if memories[lane].count >= need { return }
        let size = max(need, min(total, max(Self.assemblyFirst, 2 * memories[lane].count)))
        let fresh = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        if kept > 0 { fresh.copyMemory(from: UnsafeRawBufferPointer(rebasing: memories[lane][0..<kept])) }
        memories[lane].deallocate()
        memories[lane] = fresh
    }

    /// Moves what the inbox holds of the piece.
    private mutating func takePiece() {
        let count = min(pieceMissing, end - start)
        guard count > 0, let assembly = assemblies[pieceLane], let base = memories[pieceLane].baseAddress else {
            return
        }
        (base + assembly.filled).copyMemory(from: inbox + start, byteCount: count)
        assemblies[pieceLane]?.filled += count
        start += count
        pieceMissing -= count
    }

    private mutating func finishAssembly() -> Frame? {
        guard let assembly = assemblies[pieceLane], assembly.filled == Int(assembly.header.length), assembly.filled > 0
        else { return nil }
        var header = assembly.header
        header.flags.remove(.pieces)
        delivered = pieceLane
        return Frame(
            header: header,
            body: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memories[pieceLane])[0..<assembly.filled]))
    }

    /// What was handed out has been used.
    private mutating func finishDelivery() {
        guard let lane = delivered else { return }
        delivered = nil
        assemblies[lane] = nil
        if memories[lane].count > Self.assemblyFirst {
            memories[lane].deallocate()
            memories[lane] = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }
    }
}
