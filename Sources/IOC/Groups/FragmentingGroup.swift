import SAFTypes

/// Carries messages larger than the group under it, in pieces, and keeps a bounded queue of what that group pushed
/// back.
///
/// A message is delivered when its last piece is. A piece counts only in the view it names, because members that join
/// lack what came before: at a view everybody drops what is incomplete, and its sender sends it anew, or forgets it
/// (``forgetAtViews()``).
///
/// Piece: view u64 · number u64 · index u32 · count u32 · bytes.
public struct FragmentingGroup<Base: OrderedGroup>: OrderedGroup {
    public static var headerBytes: Int { 24 }

    public private(set) var base: Base
    public let messageBytesMax: Int
    /// Bytes accepted and not yet delivered to this member; beyond, ``multicast(_:)`` answers busy.
    public let queuedBytesMax: Int

    /// Own messages not yet delivered here, oldest first; the first `started` are handed down in full.
    private var queue: [(number: UInt64, bytes: [UInt8])] = []
    private var started = 0
    private var nextPiece: UInt32 = 0
    private var isJoined = false
    private var isForgetting = false
    /// Pieces wait for the first view.
    private var view: UInt64?
    private var queuedBytes = 0
    private var lastNumber: UInt64 = 0
    private var partial: [GroupMember: Partial] = [:]

    private struct Partial {
        var number: UInt64
        var count: UInt32
        var next: UInt32 = 0
        var bytes: [UInt8] = []
    }

    public init(_ base: Base, messageBytesMax: Int = 64 << 20, queuedBytesMax: Int = 128 << 20) {
        self.base = base
        self.messageBytesMax = messageBytesMax
        self.queuedBytesMax = queuedBytesMax
    }

    public var member: GroupMember { base.member }
    public var descriptors: [Int32] { base.descriptors }
    public mutating func expect(nodes: Int) { base.expect(nodes: nodes) }
    public mutating func join(_ name: String) throws(GroupError) {
        try base.join(name)
        isJoined = true
    }
    public mutating func leave() {
        base.leave()
        let isForgetting = isForgetting
        self = FragmentingGroup(base, messageBytesMax: messageBytesMax, queuedBytesMax: queuedBytesMax)
        self.isForgetting = isForgetting
    }
    public mutating func forgetAtViews() { isForgetting = true }

    public mutating func multicast(_ bytes: [UInt8]) -> MulticastResult {
        guard bytes.count <= messageBytesMax, pieceBytes > 0 else { return .tooBig }
        guard isJoined else { return .notJoined }
        guard queue.isEmpty || queuedBytes + bytes.count <= queuedBytesMax else { return .busy }
        lastNumber += 1
        queue.append((lastNumber, bytes))
        queuedBytes += bytes.count
        pushDown()
        return .sent
    }

    public mutating func next() -> GroupEvent? {
        while let event = base.next() {
            switch event {
            case .message(let sender, let bytes):
                if let whole = take(bytes, from: sender) {
                    pushDown()
                    return .message(from: sender, bytes: whole)
                }
            case .view(let view):
                partial.removeAll()
                started = 0
                nextPiece = 0
                self.view = view.id
                if isForgetting {
                    queue.removeAll()
                    queuedBytes = 0
                }
                pushDown()
                return event
            case .lost: return event
            }
        }
        pushDown()
        return nil
    }

    private var pieceBytes: Int { base.messageBytesMax - Self.headerBytes }

    /// Hands pieces down until the group under it pushes back.
    private mutating func pushDown() {
        guard let view else { return }
        while started < queue.count {
            let (number, bytes) = queue[started]
            let count = UInt32(max(1, (bytes.count + pieceBytes - 1) / pieceBytes))
            while nextPiece < count {
                let start = Int(nextPiece) * pieceBytes
                var writer = ByteWriter(reserving: Self.headerBytes + pieceBytes)
                writer.integer(view)
                writer.integer(number)
                writer.integer(nextPiece)
                writer.integer(count)
                writer.raw(Array(bytes[start..<min(start + pieceBytes, bytes.count)]))
                switch base.multicast(writer.bytes) {
                case .sent: nextPiece += 1
                case .busy, .tooBig, .notJoined: return
                }
            }
            nextPiece = 0
            started += 1
        }
    }

    /// The whole message when this piece completes it. What makes no sense is dropped.
    private mutating func take(_ bytes: [UInt8], from sender: GroupMember) -> [UInt8]? {
        guard let piece = Piece(bytes), piece.view == view, piece.index < piece.count else { return nil }
        var whole: Partial
        if piece.index == 0 {
            whole = Partial(number: piece.number, count: piece.count)
        } else {
            guard let begun = partial[sender], begun.number == piece.number, begun.count == piece.count,
                begun.next == piece.index
            else { return nil }
            whole = begun
        }
        guard whole.bytes.count + piece.bytes.count <= messageBytesMax else {
            partial[sender] = nil
            return nil
        }
        whole.next += 1
        whole.bytes += piece.bytes
        guard whole.next == whole.count else {
            partial[sender] = whole
            return nil
        }
        partial[sender] = nil
        if sender == member { settle(whole.number) }
        return whole.bytes
    }

    /// An own message came back: done with it.
    private mutating func settle(_ number: UInt64) {
        guard started > 0, let first = queue.first, first.number == number else { return }
        queue.removeFirst()
        queuedBytes -= first.bytes.count
        started -= 1
    }
}

private struct Piece {
    var view: UInt64
    var number: UInt64
    var index: UInt32
    var count: UInt32
    var bytes: ArraySlice<UInt8>

    init?(_ raw: [UInt8]) {
        let header = FragmentingGroup<LoopbackGroup>.headerBytes
        guard raw.count >= header else { return nil }
        (view, number, index, count) = raw.withUnsafeBytes { bytes in
            (
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)),
                UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
            )
        }
        bytes = raw[header...]
    }
}
