import EngineKit
import SAFTypes
import Synchronization

/// A word of the shared memory. Atomics compile to plain instructions in place; they also keep the compiler from
/// reading a hostile word twice.
@inline(__always)
func sharedWord(_ base: UnsafeMutableRawPointer, _ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
}

@inline(__always)
func sharedHalfWord(_ base: UnsafeMutableRawPointer, _ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
}

/// One lane's private bookkeeping, of either side.
private struct LaneState {
    var base: UnsafeMutableRawPointer
    var capacity: UInt64
    /// Own position: bytes ever produced, or consumed.
    var position: UInt64 = 0
    /// The other side's position as last seen and checked.
    var other: UInt64 = 0
    var frames: UInt64 = 0
}

private func makeLanes(_ area: UnsafeMutableRawPointer, _ layout: RingLayout) -> UnsafeMutablePointer<LaneState> {
    let lanes = UnsafeMutablePointer<LaneState>.allocate(capacity: Lane.allCases.count)
    for lane in Lane.allCases {
        let state = LaneState(base: area + layout.laneOffset(lane), capacity: UInt64(layout.capacity(lane)))
        (lanes + Int(lane.rawValue)).initialize(to: state)
    }
    return lanes
}

/// The producing side of an area. Not thread-safe: one producer at a time.
///
/// The state is behind a pointer and not in class properties, which would cost an exclusivity check each.
public final class RingWriter {
    public enum Outcome: Equatable, Sendable {
        case written
        /// No room in this lane; nothing was written.
        case full
        /// The consumer's position is impossible; the connection must be dropped.
        case corrupt
    }

    /// An empty ring is rewound when its position is past this part of it, so that light traffic stays in few pages.
    /// Not earlier: the pad that rewinds takes the rest of the ring until the consumer has passed it.
    static let rewindAtDivisor: UInt64 = 2

    private let area: UnsafeMutableRawPointer
    private let lanes: UnsafeMutablePointer<LaneState>
    public let layout: RingLayout

    /// `area` must hold `layout.areaSize` bytes, be zero at first, and outlive the writer.
    public init(area: UnsafeMutableRawPointer, layout: RingLayout) {
        self.area = area
        self.layout = layout
        lanes = makeLanes(area, layout)
    }

    deinit { lanes.deallocate() }

    /// Writes one frame and publishes it; `body` must be within the lane's `inlineMax`.
    public func write(_ header: FrameHeader, _ body: UnsafeRawBufferPointer, lane: Lane) -> Outcome {
        let state = lanes + Int(lane.rawValue)
        let alignment = UInt64(RingLayout.alignment)
        let need = (UInt64(FrameHeader.size + body.count) + alignment - 1) & ~(alignment - 1)
        invariant(need <= state.pointee.capacity / 4, "a frame of \(need) bytes for lane \(lane)")
        let offset = state.pointee.position & (state.pointee.capacity - 1)
        let untilEnd = state.pointee.capacity - offset
        var pad = untilEnd < need ? untilEnd : 0
        let mayRewind = pad == 0 && offset >= state.pointee.capacity / Self.rewindAtDivisor
        if mayRewind || free(state) < pad + need {
            guard refresh(lane) else { return .corrupt }
            if mayRewind, state.pointee.other == state.pointee.position, untilEnd + need <= state.pointee.capacity {
                pad = untilEnd
            }
            guard free(state) >= pad + need else { return .full }
        }
        var target = state.pointee.base + Int(offset)
        if pad > 0 {
            Self.store(FrameHeader(kind: .pad, lane: lane, length: Int(pad) - FrameHeader.size), at: target)
            target = state.pointee.base
        }
        Self.store(header, at: target)
        if let source = body.baseAddress, body.count > 0 {
            (target + FrameHeader.size).copyMemory(from: source, byteCount: body.count)
        }
        state.pointee.position &+= pad + need
        state.pointee.frames &+= 1
        producedWord(lane).pointee.store(state.pointee.position, ordering: .releasing)
        return .written
    }

    /// To be called after writing, once for several frames: which bell of the consumer to ring, 0 for none.
    ///
    /// The fence orders our publication before the look at its announcement; the consumer announces before it looks
    /// at our publication. So at least one of us sees the other, and no wake-up is lost.
    @inline(__always)
    public func takeWake() -> UInt32 {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let word = sharedHalfWord(area, RingLayout.dataWaitOffset)
        if word.pointee.load(ordering: .relaxed) == 0 { return 0 }
        return word.pointee.exchange(0, ordering: .acquiringAndReleasing)
    }

    /// Whether a record of `bytes` fits for certain, wherever the ring stands. Room can only grow until the next write.
    public func hasRoom(_ lane: Lane, bytes: Int) -> Bool {
        refresh(lane) && free(lanes + Int(lane.rawValue)) >= UInt64(bytes)
    }

    /// Announces that the producer waits for space. False when there is some already: try again at once.
    public func announceWantsSpace(_ lane: Lane, bytes: Int) -> Bool {
        sharedHalfWord(area, RingLayout.spaceWaitOffset).pointee.store(1, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        return refresh(lane) ? free(lanes + Int(lane.rawValue)) < UInt64(bytes) : true
    }

    /// Frames not yet taken by the consumer, as it says; never negative, for information only.
    public func queuedFrames(_ lane: Lane) -> Int {
        let taken = sharedWord(area, RingLayout.framesOffset + 8 * Int(lane.rawValue)).pointee.load(ordering: .relaxed)
        let written = lanes[Int(lane.rawValue)].frames
        return taken <= written ? Int(clamping: written - taken) : 0
    }

    /// Where the frame written last ends; the consumer has taken it when ``hasConsumed(_:upTo:)``.
    public func position(_ lane: Lane) -> UInt64 { lanes[Int(lane.rawValue)].position }

    public func hasConsumed(_ lane: Lane, upTo position: UInt64) -> Bool {
        if lanes[Int(lane.rawValue)].other >= position { return true }
        return refresh(lane) && lanes[Int(lane.rawValue)].other >= position
    }

    @inline(__always)
    private func free(_ state: UnsafeMutablePointer<LaneState>) -> UInt64 {
        state.pointee.capacity - (state.pointee.position &- state.pointee.other)
    }

    /// Looks at the consumer's position; false when it is impossible.
    private func refresh(_ lane: Lane) -> Bool {
        let state = lanes + Int(lane.rawValue)
        let seen = sharedWord(area, RingLayout.consumedOffset + 8 * Int(lane.rawValue)).pointee.load(
            ordering: .acquiring)
        guard seen >= state.pointee.other, seen <= state.pointee.position else { return false }
        state.pointee.other = seen
        return true
    }

    @inline(__always)
    private func producedWord(_ lane: Lane) -> UnsafeMutablePointer<Atomic<UInt64>> {
        sharedWord(area, RingLayout.producedOffset + 8 * Int(lane.rawValue))
    }

    @inline(__always)
    private static func store(_ header: FrameHeader, at target: UnsafeMutableRawPointer) {
        let (first, second, third, fourth) = header.words
        let words = target.assumingMemoryBound(to: UInt64.self)
        words[0] = first.littleEndian
        words[1] = second.littleEndian
        words[2] = third.littleEndian
        words[3] = fourth.littleEndian
    }
}

/// The consuming side of an area. Not thread-safe: one consumer at a time.
public final class RingReader {
    /// A frame in shared memory: the header is a checked private copy, the body can still change under the reader and
    /// must be copied once before anybody looks at it.
    public struct View {
        public let header: FrameHeader
        public let body: UnsafeRawBufferPointer
        let size: UInt64
    }

    private let area: UnsafeMutableRawPointer
    private let lanes: UnsafeMutablePointer<LaneState>
    public let layout: RingLayout

    /// `area` must hold `layout.areaSize` bytes, be zero at first, and outlive the reader.
    public init(area: UnsafeMutableRawPointer, layout: RingLayout) {
        self.area = area
        self.layout = layout
        lanes = makeLanes(area, layout)
    }

    deinit { lanes.deallocate() }

    /// The most urgent lane that has something to read (or to refuse); nil when there is nothing.
    @inline(__always)
    public func readyLane() -> Lane? {
        for lane in Lane.allCases where hasData(lane) { return lane }
        return nil
    }

    @inline(__always)
    public func hasData(_ lane: Lane) -> Bool {
        producedWord(lane).pointee.load(ordering: .acquiring) != lanes[Int(lane.rawValue)].position
    }

    /// The next frame of `lane`, or nil. Throws when what the producer wrote cannot be: drop it.
    public func peek(_ lane: Lane) throws(DecodeError) -> View? {
        let state = lanes + Int(lane.rawValue)
        while true {
            let produced = producedWord(lane).pointee.load(ordering: .acquiring)
            let available = produced &- state.pointee.position
            if available == 0 { return nil }
            guard available <= state.pointee.capacity, available & UInt64(RingLayout.alignment - 1) == 0 else {
                throw .badValue("ring position \(produced) of lane \(lane) after \(state.pointee.position)")
            }
            let offset = state.pointee.position & (state.pointee.capacity - 1)
            let source = state.pointee.base + Int(offset)
            let header = try FrameHeader(words: Self.load(source))
            let isElsewhere = header.kind == .carried || !header.flags.isDisjoint(with: [.large, .bulk])
            let inline = isElsewhere ? 0 : UInt64(header.length)
            let alignment = UInt64(RingLayout.alignment)
            let size = (UInt64(FrameHeader.size) + inline + alignment - 1) & ~(alignment - 1)
            guard size <= available, size <= state.pointee.capacity - offset, header.lane == lane else {
                throw .badValue(
                    "frame of \(header.length) bytes for lane \(header.lane) in \(available) bytes of \(lane)")
            }
            if header.kind == .pad {
                guard size == state.pointee.capacity - offset else {
                    throw .badValue("pad of \(size) bytes inside a ring")
                }
                state.pointee.position &+= size
                publish(lane, state)
                continue
            }
            let body = UnsafeRawBufferPointer(start: source + FrameHeader.size, count: Int(inline))
            return View(header: header, body: body, size: size)
        }
    }

    /// Gives the space of the frame that was peeked last back to the producer.
    public func consume(_ view: View, lane: Lane) {
        let state = lanes + Int(lane.rawValue)
        state.pointee.position &+= view.size
        state.pointee.frames &+= 1
        publish(lane, state)
        sharedWord(area, RingLayout.framesOffset + 8 * Int(lane.rawValue)).pointee
            .store(state.pointee.frames, ordering: .relaxed)
    }

    /// After consuming: true when the producer waits for space and its bell must be rung.
    ///
    /// The fence orders the space given back before the look, as in ``RingWriter/takeWake()``.
    @inline(__always)
    public func takeSpaceWake() -> Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let word = sharedHalfWord(area, RingLayout.spaceWaitOffset)
        if word.pointee.load(ordering: .relaxed) == 0 { return false }
        return word.pointee.exchange(0, ordering: .acquiringAndReleasing) != 0
    }

    /// Announces sleep: the producer is to ring `bell` (not 0). False when there is something to read: do not sleep.
    public func announceSleep(bell: UInt32) -> Bool {
        let word = sharedHalfWord(area, RingLayout.dataWaitOffset)
        word.pointee.store(bell, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        guard readyLane() != nil else { return true }
        word.pointee.store(0, ordering: .relaxed)
        return false
    }

    /// Takes the announcement back: the consumer looks by itself again.
    @inline(__always)
    public func announceAwake() {
        sharedHalfWord(area, RingLayout.dataWaitOffset).pointee.store(0, ordering: .relaxed)
    }

    @inline(__always)
    private func publish(_ lane: Lane, _ state: UnsafeMutablePointer<LaneState>) {
        sharedWord(area, RingLayout.consumedOffset + 8 * Int(lane.rawValue)).pointee
            .store(state.pointee.position, ordering: .releasing)
    }

    @inline(__always)
    private func producedWord(_ lane: Lane) -> UnsafeMutablePointer<Atomic<UInt64>> {
        sharedWord(area, RingLayout.producedOffset + 8 * Int(lane.rawValue))
    }

    @inline(__always)
    private static func load(_ source: UnsafeMutableRawPointer) -> (UInt64, UInt64, UInt64, UInt64) {
        func word(_ index: Int) -> UInt64 {
            UInt64(littleEndian: sharedWord(source, 8 * index).pointee.load(ordering: .relaxed))
        }
        return (word(0), word(1), word(2), word(3))
    }
}
