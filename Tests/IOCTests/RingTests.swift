import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOC

/// One area in private memory, with a producer and a consumer.
final class RingPair: @unchecked Sendable {
    let area: UnsafeMutableRawBufferPointer
    let writer: RingWriter
    let reader: RingReader

    init(_ layout: RingLayout) {
        area = .allocate(byteCount: layout.areaSize, alignment: 4096)
        area.initializeMemory(as: UInt8.self, repeating: 0)
        writer = RingWriter(area: area.baseAddress!, layout: layout)
        reader = RingReader(area: area.baseAddress!, layout: layout)
    }

    deinit { area.deallocate() }

    func write(_ body: [UInt8], number: UInt64, lane: Lane) -> RingWriter.Outcome {
        let header = FrameHeader(kind: .request, lane: lane, length: body.count, number: number)
        return body.withUnsafeBytes { writer.write(header, $0, lane: lane) }
    }

    func read(_ lane: Lane) throws -> (number: UInt64, body: [UInt8])? {
        guard let view = try reader.peek(lane) else { return nil }
        defer { reader.consume(view, lane: lane) }
        return (view.header.number, Array(view.body))
    }
}

@Suite("Rings")
struct RingTests {
    static let tiny = RingLayout(control: 4096, high: 4096, normal: 8192, low: 4096)!

    @Test("Frames come out as they went in, around the end many times", arguments: 0..<40 as Range<UInt64>)
    func likeAQueue(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let pair = RingPair(Self.tiny)
        var model: [Lane: [(UInt64, [UInt8])]] = [:]
        var number: UInt64 = 0
        for _ in 0..<4000 {
            let lane = Lane.allCases.randomElement(using: &random)!
            if random.chance(percent: 55) {
                let size = Int.random(in: 0...Self.tiny.inlineMax(lane), using: &random)
                let body = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size)
                switch pair.write(body, number: number, lane: lane) {
                case .written: model[lane, default: []].append((number, body))
                case .full:
                    #expect(!model[lane, default: []].isEmpty, "seed \(seed): an empty lane has room for a frame")
                case .corrupt: Issue.record("seed \(seed)")
                }
                number += 1
            } else {
                let got = try pair.read(lane)
                let expected = model[lane, default: []].isEmpty ? nil : model[lane]!.removeFirst()
                #expect(got?.number == expected?.0 && got?.body == expected?.1, "seed \(seed)")
            }
            #expect(pair.writer.queuedFrames(lane) == model[lane, default: []].count)
        }
    }

    @Test("A full lane does not touch the others, and has room again when read")
    func full() throws {
        let pair = RingPair(Self.tiny)
        var written = 0
        while pair.write([1, 2, 3], number: 0, lane: .low) == .written { written += 1 }
        #expect(written == 4096 / 64)
        #expect(pair.write([1], number: 1, lane: .control) == .written)
        #expect(pair.reader.readyLane() == .control)
        #expect(pair.writer.announceWantsSpace(.low, bytes: 64))
        _ = try pair.read(.low)
        #expect(pair.reader.takeSpaceWake())
        #expect(!pair.reader.takeSpaceWake())
        #expect(pair.write([1], number: 1, lane: .low) == .written)
    }

    @Test("An empty lane takes a burst of nearly half its size, wherever it stands")
    func burst() throws {
        let pair = RingPair(Self.tiny)
        for round in 0..<500 {
            var written = 0
            while pair.write([1], number: 1, lane: .normal) == .written { written += 1 }
            #expect(written >= 8192 / 64 / 2 - 1, "round \(round)")
            while try pair.read(.normal) != nil {}
            for _ in 0..<round % 7 {
                _ = pair.write([UInt8](repeating: 0, count: round), number: 1, lane: .normal)
                _ = try pair.read(.normal)
            }
        }
    }

    @Test("Sleep is announced only over an empty ring, and rung once")
    func sleep() throws {
        let pair = RingPair(Self.tiny)
        #expect(pair.writer.takeWake() == 0)
        #expect(pair.reader.announceSleep(bell: 2))
        _ = pair.write([], number: 1, lane: .normal)
        #expect(pair.writer.takeWake() == 2)
        #expect(pair.writer.takeWake() == 0)
        #expect(!pair.reader.announceSleep(bell: 2))
        _ = try pair.read(.normal)
        #expect(pair.reader.announceSleep(bell: 1))
        pair.reader.announceAwake()
        #expect(pair.writer.takeWake() == 0)
    }

    @Test("Two threads, sleeping and waking: nothing lost, nothing twice, in order")
    func twoThreads() throws {
        let pair = RingPair(Self.tiny)
        let bell = try Doorbell()
        let bellNumber = bell.raw
        let total: UInt64 = 200_000
        let producer = try OSThread.spawn(name: "producer") {
            var random = SeededRandom(seed: 1)
            for number in 0..<total {
                let body = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: Int(number % 97))
                while pair.write(body, number: number, lane: .normal) == .full { OSThread.yield() }
                if pair.writer.takeWake() != 0 { Doorbell.ring(bellNumber) }
                if random.chance(percent: 1) { OSThread.yield() }
            }
        }
        var expected: UInt64 = 0
        let deadline = MonotonicClock.now() + .seconds(60)
        while expected < total {
            while let (number, body) = try pair.read(.normal) {
                #expect(number == expected && body.count == Int(number % 97), "lost or repeated")
                expected += 1
            }
            guard MonotonicClock.now() < deadline else { break }
            if expected < total, pair.reader.announceSleep(bell: 1) {
                #expect(try IO.waitUntil(bellNumber, readable: true, deadline: deadline), "a wake-up was lost")
                bell.drain()
            }
        }
        #expect(expected == total)
        producer.join()
    }

    @Test(
        "Whatever a hostile producer writes, the reader refuses or reads within bounds",
        arguments: 0..<60 as Range<UInt64>)
    func hostileProducer(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let pair = RingPair(Self.tiny)
        for _ in 0..<200 {
            let lane = Lane.allCases.randomElement(using: &random)!
            _ = pair.write([UInt8](repeating: 1, count: 10), number: 1, lane: lane)
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                let isControl = random.chance(percent: 60)
                let range = isControl ? 0..<300 : RingLayout.controlSize..<pair.area.count
                pair.area[Int.random(in: range, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            for lane in Lane.allCases {
                for _ in 0..<1000 {
                    // Bodies within bounds are read in full: an over-read would be seen by the sanitizer.
                    guard let got = try? pair.read(lane) else { break }
                    #expect(got.body.count <= pair.reader.layout.capacity(lane))
                }
            }
        }
    }

    @Test("An impossible position of the consumer is noticed by the producer")
    func hostileConsumer() {
        let pair = RingPair(Self.tiny)
        let base = pair.area.baseAddress!
        (base + RingLayout.consumedOffset + 16).storeBytes(of: 1 << 40, as: UInt64.self)  // ahead of what was produced
        var outcome = RingWriter.Outcome.written
        for _ in 0..<500 where outcome == .written { outcome = pair.write([1], number: 1, lane: .normal) }
        #expect(outcome == .corrupt)
    }
}
