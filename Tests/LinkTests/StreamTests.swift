import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

/// Moves at most `limit` bytes out of a sender.
func drain(_ sender: inout LinkSender, limit: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    _ = sender.withOutput { slices in
        for slice in slices where bytes.count < limit {
            bytes.append(
                contentsOf: UnsafeRawBufferPointer(start: slice.base, count: min(slice.count, limit - bytes.count)))
        }
        return bytes.count
    }
    return bytes
}

/// Gives bytes to a receiver as far as it has space; how many.
func feed(_ receiver: inout LinkReceiver, _ bytes: ArraySlice<UInt8>) -> Int {
    let (first, second) = receiver.space()
    var done = 0
    for slice in [first, second] where slice.count > 0 && done < bytes.count {
        let count = min(slice.count, bytes.count - done)
        bytes.withUnsafeBytes {
            slice.base?.copyMemory(from: $0.baseAddress! + done, byteCount: count)
        }
        done += count
    }
    receiver.received(done)
    return done
}

@Suite("Link streams")
struct LinkStreamTests {
    struct Sent: Equatable {
        var header: LinkHeader
        var body: [UInt8]
    }

    @Test(
        "Whatever the sizes of frames, writes and reads, every lane delivers its frames whole and in order",
        arguments: 0..<40 as Range<UInt64>)
    func anySizes(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var sender = LinkSender()
        var receiver = LinkReceiver(bodyMax: 4 << 20)
        var expected: [[Sent]] = [[], [], [], []]
        var delivered: [[Sent]] = [[], [], [], []]
        var wire: [UInt8] = []
        for step in 0..<200 {
            if random.chance(percent: 60) {
                let lane = Lane(rawValue: UInt8.random(in: 0...3, using: &random)) ?? .low
                let sizes = [0, 1, 31, 1000, 16_384, 16_385, 131_072, 131_073, 700_000]
                let size = sizes[Int.random(in: 0..<sizes.count, using: &random)]
                let body = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: size)
                let header = LinkHeader(kind: .oneWay, lane: lane, code: UInt16(step), number: UInt64(step))
                sender.append(header, body)
                var whole = header
                whole.length = UInt32(size)
                expected[Int(lane.rawValue)].append(Sent(header: whole, body: body))
            }
            wire += drain(&sender, limit: Int.random(in: 1...300_000, using: &random))
            let part = wire.prefix(Int.random(in: 0...wire.count, using: &random))
            wire.removeFirst(feed(&receiver, part))
            collect(&receiver, &delivered, seed)
        }
        while !sender.isEmpty { wire += drain(&sender, limit: 1 << 20) }
        while !wire.isEmpty {
            wire.removeFirst(feed(&receiver, wire[...]))
            collect(&receiver, &delivered, seed)
        }
        for lane in 0..<4 {
            #expect(delivered[lane].count == expected[lane].count, "seed \(seed) lane \(lane)")
            #expect(delivered[lane] == expected[lane], "seed \(seed) lane \(lane)")
        }
        let left = [sender.queuedBytes] + Lane.allCases.map { sender.queuedBytes($0) }
        #expect(left == [0, 0, 0, 0, 0])
    }

    private func collect(_ receiver: inout LinkReceiver, _ delivered: inout [[Sent]], _ seed: UInt64) {
        do {
            while let frame = try receiver.next() {
                delivered[Int(frame.header.lane.rawValue)].append(Sent(header: frame.header, body: [UInt8](frame.body)))
            }
        } catch {
            Issue.record("seed \(seed): \(error)")
        }
    }

    @Test("A control frame overtakes a body of 64 MiB after at most one batch")
    func overtakes() throws {
        var sender = LinkSender()
        var receiver = LinkReceiver(bodyMax: 64 << 20)
        sender.append(LinkHeader(kind: .oneWay, lane: .low, code: 1), [UInt8](repeating: 1, count: 64 << 20))
        _ = feed(&receiver, drain(&sender, limit: 1000)[...])
        let early = try receiver.next()?.header
        #expect(early == nil)
        sender.append(LinkHeader(kind: .oneWay, lane: .control, code: 2), [9])
        var before = 0
        while true {
            let bytes = drain(&sender, limit: 4096)
            var rest = bytes[...]
            while !rest.isEmpty { rest = rest.dropFirst(feed(&receiver, rest)) }
            if let frame = try receiver.next() {
                #expect(frame.header.code == 2)
                break
            }
            before += bytes.count
            try #require(before < 1 << 20, "the control frame waits behind \(before) bytes")
        }
        #expect(before <= LinkSender.batchBytesMax + 2 * LinkHeader.size)
    }

    @Test("What was never handed out is surely not sent")
    func sentOrNot() {
        var sender = LinkSender()
        let early = sender.position(.normal)
        sender.append(LinkHeader(kind: .request, lane: .normal, number: 1), [1, 2, 3])
        let late = sender.position(.normal)
        sender.append(LinkHeader(kind: .request, lane: .normal, number: 2), [1, 2, 3])
        let before = sender.isSent(.normal, early)
        #expect(before == false)
        _ = drain(&sender, limit: 1)
        let after = (sender.isSent(.normal, early), sender.isSent(.normal, late))
        #expect(after == (true, false))
    }

    /// Frames that must be refused, with what the refusal says.
    static let hostile: [(String, LinkHeader)] = [
        ("at most", LinkHeader(kind: .oneWay, length: 1 << 20)),
        ("at most", LinkHeader(kind: .hello, length: 0xffff_ffff)),
        ("1 to", LinkHeader(kind: .request, length: 0xffff_ffff, flags: .pieces)),
        ("1 to", LinkHeader(kind: .request, length: 0, flags: .pieces)),
        ("of no body", LinkHeader(kind: .piece, length: 10)),
        ("in pieces", LinkHeader(kind: .hello, length: 10, flags: .pieces)),
    ]

    @Test("Size bombs and pieces of nothing are refused before memory is given", arguments: 0..<hostile.count)
    func bombs(index: Int) {
        let (text, header) = Self.hostile[index]
        var receiver = LinkReceiver(bodyMax: 1 << 20)
        _ = feed(&receiver, header.encoded[...])
        var refusal = ""
        do { _ = try receiver.next() } catch { refusal = "\(error)" }
        #expect(refusal.contains(text), "\(refusal)")
    }

    @Test("A piece longer than its body, and a second body in a lane, are refused")
    func piecesOfTooMuch() {
        for second in [
            LinkHeader(kind: .piece, length: 101), LinkHeader(kind: .piece, length: 0),
            LinkHeader(kind: .oneWay, length: 5, flags: .pieces),
        ] {
            var receiver = LinkReceiver(bodyMax: 1 << 20)
            _ = feed(&receiver, LinkHeader(kind: .oneWay, length: 100, flags: .pieces).encoded[...])
            _ = feed(&receiver, second.encoded[...])
            var isRefused = false
            do { _ = try receiver.next()?.header } catch { isRefused = true }
            #expect(isRefused, "\(second)")
        }
    }

    @Test("Random bytes never trap the receiver", arguments: 0..<100 as Range<UInt64>)
    func garbage(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var receiver = LinkReceiver(bodyMax: 1 << 20)
        for _ in 0..<100 {
            var header = LinkHeader(
                kind: LinkFrameKind.allCases.randomElement(using: &random) ?? .piece,
                lane: Lane.allCases.randomElement(using: &random) ?? .low,
                length: Int.random(in: 0...200, using: &random),
                flags: random.chance(percent: 30) ? .pieces : []
            ).encoded
            if random.chance(percent: 10) {
                header[Int.random(in: 0..<32, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let body = (0..<Int.random(in: 0...200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            _ = feed(&receiver, (header + body)[...])
            do { while try receiver.next() != nil {} } catch { return }
        }
    }
}
