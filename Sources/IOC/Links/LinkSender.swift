import Containers
import OSAL
import SAFTypes

/// How much may wait in a link's lanes.
public struct LinkLimits: Hashable, Sendable {
    /// Bytes that may wait in a lane, by lane; a body that is larger is taken only by an empty lane.
    public var laneBytesMax = [1 << 20, 4 << 20, 8 << 20, 8 << 20]
    /// The largest body.
    public var bodyMax = 64 << 20
    /// Bytes of answers that a peer does not take; beyond, its requests are not read any more.
    public var answersPauseAt = 8 << 20
    /// Beyond, the connection is given up.
    public var answersMax = 256 << 20
    /// Calls outstanding per node.
    public var callsMax = 1024
    /// Bytes of calls outstanding per node; a body that is larger is taken only alone.
    public var callBytesMax = 64 << 20
    /// Bytes of answers kept per peer for a retransmission.
    public var rememberedBytesMax = 1 << 20

    public init() {}
}

/// The outgoing half of a link: frames in, bytes out, lane by lane. Performs nothing.
///
/// Small bodies are copied behind their header; larger ones stay where they are and leave in pieces. Bytes are chosen
/// in batches of whole frames, the most urgent lane first, so an urgent frame waits for one batch at most.
struct LinkSender: ~Copyable {
    /// Bodies up to this are copied and sent in one frame.
    static let copiedMax = 16 << 10
    /// The longest body of one frame, so also of a piece.
    static let pieceMax = 128 << 10
    /// What an urgent frame may have to wait for.
    static let batchBytesMax = 256 << 10
    static let segmentsMax = 16

    /// A body that leaves in pieces, and where in its lane it stands.
    private struct Large {
        let body: [UInt8]
        let startsAt: UInt64
        var offset = 0
    }

    private struct LaneQueue: ~Copyable {
        var fifo = ByteFifo()
        var large = RingQueue<Large>(capacity: 1 << 16)
        var largeBytes = 0
        /// Bytes of `fifo` already in the batch.
        var batched: UInt64 = 0

        var queuedBytes: Int { fifo.count + largeBytes }
    }

    /// What goes out next, before anything else.
    private enum Segment {
        case fifo(lane: Int, count: Int)
        case pieceHeader(lane: Int, offset: Int, length: Int)
        case body(lane: Int, offset: Int, count: Int)
    }

    private var control = LaneQueue()
    private var high = LaneQueue()
    private var normal = LaneQueue()
    private var low = LaneQueue()
    private var batch = RingQueue<Segment>(capacity: LinkSender.segmentsMax)
    /// Bytes of the first segment that are out.
    private var firstDone = 0
    /// The headers of pieces in the batch, one place per segment; written anew for each description.
    private let headers = UnsafeMutableRawPointer.allocate(
        byteCount: LinkSender.segmentsMax * LinkHeader.size, alignment: 8)
    private let slices = UnsafeMutableBufferPointer<IOSlice>.allocate(capacity: 2 * LinkSender.segmentsMax)

    init() {}

    deinit {
        headers.deallocate()
        slices.deallocate()
    }

    private(set) var queuedBytes = 0
    var isEmpty: Bool { queuedBytes == 0 }

    func queuedBytes(_ lane: Lane) -> Int { withLane(Int(lane.rawValue)) { $0.queuedBytes } }

    /// Where the lane's next frame will begin, for ``isSent(_:_:)``.
    func position(_ lane: Lane) -> UInt64 { withLane(Int(lane.rawValue)) { $0.fifo.appended } }

    /// Whether a byte of the frame that began there may have left.
    func isSent(_ lane: Lane, _ position: UInt64) -> Bool { withLane(Int(lane.rawValue)) { $0.fifo.taken > position } }

    func hasRoom(_ lane: Lane, for bytes: Int, limits: LinkLimits) -> Bool {
        let queued = queuedBytes(lane)
        return queued == 0 || queued + bytes + LinkHeader.size <= limits.laneBytesMax[Int(lane.rawValue)]
    }

    /// Takes a frame whose body is lent: it is copied.
    mutating func append(_ header: LinkHeader, _ body: UnsafeRawBufferPointer) {
        if body.count > Self.copiedMax { return append(header, [UInt8](body)) }
        var header = header
        header.length = UInt32(body.count)
        queuedBytes += LinkHeader.size + body.count
        mutateLane(Int(header.lane.rawValue)) { lane in
            lane.fifo.append(header)
            lane.fifo.append(body)
        }
    }

    /// Takes a frame whose body is kept as it is.
    mutating func append(_ header: LinkHeader, _ body: [UInt8]) {
        if body.count <= Self.copiedMax { return body.withUnsafeBytes { append(header, $0) } }
        var header = header
        header.length = UInt32(body.count)
        header.flags.insert(.pieces)
        queuedBytes += LinkHeader.size + Self.bytesInPieces(body.count)
        mutateLane(Int(header.lane.rawValue)) { lane in
            lane.fifo.append(header)
            lane.large.append(Large(body: body, startsAt: lane.fifo.appended))
            lane.largeBytes += Self.bytesInPieces(body.count)
        }
    }

    private static func bytesInPieces(_ count: Int) -> Int {
        count + (count + pieceMax - 1) / pieceMax * LinkHeader.size
    }

    // MARK: Bytes out

    /// Calls `use` with the next bytes to send; it answers how many it took.
    ///
    /// Memory is lent for the call only. Returns what `use` returned, 0 when there is nothing to send.
    mutating func withOutput<Failure: Error>(
        _ use: (UnsafeBufferPointer<IOSlice>) throws(Failure) -> Int
    ) throws(Failure) -> Int {
        if batch.isEmpty { chooseBatch() }
        if batch.isEmpty { return 0 }
        let count = fill()
        let taken = try use(UnsafeBufferPointer(rebasing: slices[0..<count]))
        consume(taken)
        return taken
    }

    private mutating func chooseBatch() {
        var bytes = 0
        for lane in 0..<4 {
            while bytes < Self.batchBytesMax, batch.count + 2 <= Self.segmentsMax {
                let chosen = choose(lane, upTo: Self.batchBytesMax - bytes)
                if chosen == 0 { break }
                bytes += chosen
            }
        }
    }

    /// Puts the next frames of a lane into the batch; how many bytes they are.
    private mutating func choose(_ number: Int, upTo limit: Int) -> Int {
        var small = 0
        var piece: (offset: Int, length: Int)?
        mutateLane(number) { lane in
            if lane.batched < lane.fifo.taken { lane.batched = lane.fifo.taken }
            let end = lane.large.first?.startsAt ?? lane.fifo.appended
            if lane.batched < end {
                var position = lane.batched
                while position < end, small < limit {
                    let length = Int(lane.fifo.word(at: position))
                    // A frame whose body leaves in pieces is its header only; it ends where the pieces start.
                    let isLargeHeader = position &+ UInt64(LinkHeader.size) == end && lane.large.first != nil
                    let whole = LinkHeader.size + (isLargeHeader ? 0 : length)
                    small += whole
                    position &+= UInt64(whole)
                }
                lane.batched = position
            } else if let large = lane.large.first, large.offset < large.body.count {
                let length = min(Self.pieceMax, large.body.count - large.offset)
                piece = (large.offset, length)
                lane.large[0].offset += length
            }
        }
        if small > 0 {
            batch.append(.fifo(lane: number, count: small))
            return small
        }
        guard let piece else { return 0 }
        batch.append(.pieceHeader(lane: number, offset: piece.offset, length: piece.length))
        batch.append(.body(lane: number, offset: piece.offset, count: piece.length))
        return LinkHeader.size + piece.length
    }

    /// Describes the batch in `slices`, less what is out of its first segment; how many they are.
    private func fill() -> Int {
        var count = 0
        func add(_ bytes: UnsafeRawBufferPointer) {
            guard !bytes.isEmpty else { return }
            slices[count] = IOSlice(base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), count: bytes.count)
            count += 1
        }
        for index in 0..<batch.count {
            let done = index == 0 ? firstDone : 0
            switch batch[index] {
            case .fifo(let number, let total):
                withLane(number) { lane in
                    let start = index == 0 ? lane.fifo.taken : lane.fifo.taken &+ earlier(number, before: index)
                    let first = lane.fifo.stretch(at: start, count: total - done)
                    add(first)
                    let rest = total - done - first.count
                    if rest > 0 { add(lane.fifo.stretch(at: start &+ UInt64(first.count), count: rest)) }
                }
            case .pieceHeader(let number, _, let length):
                let place = headers + index * LinkHeader.size
                LinkHeader(kind: .piece, lane: Lane(rawValue: UInt8(number)) ?? .low, length: length).store(to: place)
                add(UnsafeRawBufferPointer(start: place + done, count: LinkHeader.size - done))
            case .body(let number, let offset, let total):
                withLane(number) { lane in
                    // The array is kept by the lane until its last piece is out, and never written: its bytes stay.
                    lane.large.first?.body.withUnsafeBytes { bytes in
                        add(UnsafeRawBufferPointer(rebasing: bytes[(offset + done)..<(offset + total)]))
                    }
                }
            }
        }
        return count
    }

    /// Bytes of a lane's fifo in segments before `index` that are not out yet.
    private func earlier(_ number: Int, before index: Int) -> UInt64 {
        var bytes = 0
        for position in 0..<index {
            if case .fifo(number, let total) = batch[position] { bytes += total - (position == 0 ? firstDone : 0) }
        }
        return UInt64(bytes)
    }

    private mutating func consume(_ taken: Int) {
        var rest = taken
        queuedBytes -= taken
        while rest > 0, let segment = batch.first {
            let total: Int
            switch segment {
            case .fifo(_, let count), .body(_, _, let count): total = count
            case .pieceHeader: total = LinkHeader.size
            }
            let step = min(rest, total - firstDone)
            rest -= step
            firstDone += step
            let isDone = firstDone == total
            switch segment {
            case .fifo(let number, _): mutateLane(number) { $0.fifo.take(step) }
            case .pieceHeader(let number, _, _): mutateLane(number) { $0.largeBytes -= step }
            case .body(let number, let offset, let count):
                mutateLane(number) { lane in
                    lane.largeBytes -= step
                    if isDone, let large = lane.large.first, offset + count == large.body.count {
                        _ = lane.large.popFirst()
                    }
                }
            }
            guard isDone else { return }
            _ = batch.popFirst()
            firstDone = 0
        }
    }

    // MARK: Lanes

    private func withLane<Result>(_ number: Int, _ body: (borrowing LaneQueue) -> Result) -> Result {
        switch number {
        case 0: body(control)
        case 1: body(high)
        case 2: body(normal)
        default: body(low)
        }
    }

    private mutating func mutateLane<Result>(_ number: Int, _ body: (inout LaneQueue) -> Result) -> Result {
        switch number {
        case 0: body(&control)
        case 1: body(&high)
        case 2: body(&normal)
        default: body(&low)
        }
    }
}
