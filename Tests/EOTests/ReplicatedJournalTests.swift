import EOReplicated
import EngineKit
import IOCGroups
import OSAL
import SAFTypes
import Testing

@Suite("Replicated: the journal")
struct ReplicatedJournalTests {
    /// Not a good checksum, but one that sees every change of one byte.
    let checksum: JournalFramer.Checksum = { bytes in
        bytes.reduce(UInt32(17)) { $0 &* 31 &+ UInt32($1) &+ 1 }
    }

    @Test("A frame is length, sequence, checksum and payload")
    func golden() {
        var framer = JournalFramer(after: 4, checksum: { _ in 0xAABB_CCDD })
        #expect(
            framer.frame([1, 2, 3]) == [
                3, 0, 0, 0,  // length
                5, 0, 0, 0, 0, 0, 0, 0,  // sequence
                0xDD, 0xCC, 0xBB, 0xAA,  // checksum
                1, 2, 3,
            ])
    }

    @Test("Whatever the cut or the flipped byte, whole frames before it are read and nothing after")
    func tornTail() {
        var framer = JournalFramer(checksum: checksum)
        let payloads: [[UInt8]] = [[1], [], [2, 3, 4], [5, 6]]
        var bytes: [UInt8] = []
        var ends: [Int] = []
        for payload in payloads {
            bytes += framer.frame(payload)
            ends.append(bytes.count)
        }
        for cut in 0...bytes.count {
            let read = JournalFramer.read(Array(bytes[..<cut]), checksum: checksum)
            let whole = ends.filter { $0 <= cut }.count
            #expect(read.records == Array(payloads.prefix(whole)))
            #expect(read.validBytes == (whole == 0 ? 0 : ends[whole - 1]))
            #expect(read.lastSequence == UInt64(whole))
            let zeroed = JournalFramer.read(Array(bytes[..<cut]) + Array(repeating: 0, count: 64), checksum: checksum)
            #expect(zeroed.records.count >= whole)
        }
        for place in bytes.indices {
            var wrong = bytes
            wrong[place] ^= 0x40
            let read = JournalFramer.read(wrong, checksum: checksum)
            let whole = ends.filter { $0 <= place }.count
            #expect(read.records == Array(payloads.prefix(whole)), "flipped at \(place)")
            #expect(read.isTorn)
        }
        #expect(!JournalFramer.read(bytes + [0, 0, 0, 0], checksum: checksum).isTorn)
    }

    @Test("A frame of an earlier round of the same space is not taken for the next")
    func staleFrame() {
        var old = JournalFramer(checksum: checksum)
        _ = old.frame([9])
        let stale = old.frame([9])  // sequence 2
        var new = JournalFramer(after: 10, checksum: checksum)
        let read = JournalFramer.read(new.frame([1]) + stale, checksum: checksum)
        #expect(read.records == [[1]] && read.lastSequence == 11 && read.isTorn)
    }

    @Test("A journal of something else is refused, never a reason to stop", arguments: 0..<200 as Range<UInt64>)
    func foreign(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let records = (0..<3).map { _ in
            (0..<Int.random(in: 0...60, using: &random)).map { _ in UInt8.random(in: 0...3, using: &random) }
        }
        #expect(throws: DecodeError.self) { try loopback(restoring: records) }
    }

    @Test(
        "Killed after any record, a member carries on from what the records say",
        arguments: 1...20 as ClosedRange<UInt64>)
    func everyPrefix(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var node = try loopback(journaling: true)
        var journal: [[UInt8]] = []
        var ledgers: [Ledger] = []
        func keep(_ outputs: [LoopbackLedger.Output]) {
            for output in outputs {
                switch output {
                case .journal(.append(let record)): journal.append(record)
                case .journal(.replace(let record)): (journal, ledgers) = ([record], [])
                default: break
                }
            }
        }
        keep(try node.start("ledger", at: .start))
        ledgers = [node.core]
        for request in 1...30 as ClosedRange<UInt64> {
            let event: Ledger.Event =
                random.chance(percent: 30)
                ? .alarm(request: request) : .add(name: UInt32(request % 3), amount: request, request: request)
            keep(node.propose(event, ticket: request, at: .start))
            ledgers.append(node.core)
        }
        for count in 1...journal.count {
            let restored = try loopback(incarnation: 2, restoring: Array(journal.prefix(count)))
            #expect(restored.core == ledgers[count - 1], "seed \(seed), \(count) records")
        }
    }
}
