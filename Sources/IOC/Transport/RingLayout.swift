import SAFTypes

/// Where things are in the shared memory of a connection: two areas, client → server first, then server → client.
///
/// An area is one control page and four rings, one per lane, so that a full low lane never stands before a control
/// frame. Control page, offsets in bytes, everything little-endian:
///
///     0    produced u64 × 4   bytes ever written to each lane; written by the producer
///     32   spaceWait u32      1: the producer waits for space, ring its bell; set by it, cleared by the consumer
///     128  consumed u64 × 4   bytes ever taken from each lane; written by the consumer
///     160  frames u64 × 4     frames ever taken; for information only
///     256  dataWait u32       0: the consumer looks by itself; n: it sleeps, ring its bell n; cleared by the producer
///     4096 the rings, control lane first
///
/// Each side keeps its own positions in private memory and believes nothing it reads here without a check.
public struct RingLayout: Hashable, Sendable {
    static let controlSize = 4096
    static let producedOffset = 0
    static let spaceWaitOffset = 32
    static let consumedOffset = 128
    static let framesOffset = 160
    static let dataWaitOffset = 256
    /// Records start at multiples of this, so that a pad always fits before the end.
    static let alignment = 32

    /// Bytes of each lane's ring: powers of two from 4 KiB to 16 MiB.
    public let control, high, normal, low: Int

    /// Nil when a size is not a power of two from 4 KiB to 16 MiB.
    public init?(control: Int, high: Int, normal: Int, low: Int) {
        for size in [control, high, normal, low] where size < 4096 || size > 1 << 24 || size & (size - 1) != 0 {
            return nil
        }
        self.control = control
        self.high = high
        self.normal = normal
        self.low = low
    }

    private init(defaults: Void) {
        control = 32 << 10
        high = 32 << 10
        normal = 128 << 10
        low = 64 << 10
    }

    /// 256 KiB each way.
    public static let standard = RingLayout(defaults: ())

    public func capacity(_ lane: Lane) -> Int {
        switch lane {
        case .control: control
        case .high: high
        case .normal: normal
        case .low: low
        }
    }

    /// The largest body that goes through this lane's ring; larger ones travel as sealed memory.
    public func inlineMax(_ lane: Lane) -> Int { capacity(lane) / 4 - FrameHeader.size }

    var areaSize: Int { Self.controlSize + control + high + normal + low }
    /// Bytes of the whole shared memory.
    public var totalSize: Int { 2 * areaSize }

    func laneOffset(_ lane: Lane) -> Int {
        switch lane {
        case .control: Self.controlSize
        case .high: Self.controlSize + control
        case .normal: Self.controlSize + control + high
        case .low: Self.controlSize + control + high + normal
        }
    }
}

/// log2 of the four sizes, one byte each, control first.
extension RingLayout: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        for lane in Lane.allCases { writer.integer(UInt8(capacity(lane).trailingZeroBitCount)) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        control = try Self.size(of: .control, from: &reader)
        high = try Self.size(of: .high, from: &reader)
        normal = try Self.size(of: .normal, from: &reader)
        low = try Self.size(of: .low, from: &reader)
    }

    private static func size(of lane: Lane, from reader: inout ByteReader) throws(DecodeError) -> Int {
        let exponent = Int(try reader.integer(UInt8.self))
        guard (12...24).contains(exponent) else {
            throw .badValue("ring size exponent \(exponent) of lane \(lane); 12 to 24 expected")
        }
        return 1 << exponent
    }
}
