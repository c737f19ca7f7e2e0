import EngineKit
import SAFTypes
import Testing

@testable import AmfShell

/// The memory of a table, with what a RAM file would keep over the death of its writer.
private final class Memory {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: ChildrenTable.fileSize, alignment: 64)
    init() { bytes.initializeMemory(as: UInt8.self, repeating: 0) }
    deinit { bytes.deallocate() }
}

@Suite("Children table")
struct ChildrenTableTests {
    private func record(_ name: String, nonce: UInt64) -> ChildRecord {
        ChildRecord(component: SaName(name)!, instance: 5, nonce: nonce, outputPipe: 7, errorPipe: 8, startedAt: 1_000)
    }

    @Test("What was noted is there in the next life")
    func survives() {
        let memory = Memory()
        let table = ChildrenTable(memory: memory.bytes, owner: memory)
        #expect(table.intend(record("safComp=b", nonce: 2)))
        #expect(table.intend(record("safComp=a", nonce: 1)))
        table.running(1, pid: 42, startTime: 99)
        #expect(table.intend(record("safComp=c", nonce: 3)))
        table.forget(3)

        let next = ChildrenTable(memory: memory.bytes, owner: memory)
        var first = record("safComp=a", nonce: 1)
        first.pid = 42
        first.startTime = 99
        #expect(next.records == [first, record("safComp=b", nonce: 2)])
        #expect(next.damagedSlots == 0)
        next.forget(2)
        #expect(next.records == [first])
    }

    @Test("A full table refuses, and takes again what was forgotten")
    func full() {
        let memory = Memory()
        let table = ChildrenTable(memory: memory.bytes)
        for nonce in 0..<UInt64(ChildrenTable.slotsMax) { #expect(table.intend(record("safComp=x", nonce: nonce + 1))) }
        #expect(!table.intend(record("safComp=y", nonce: 5_000)))
        table.forget(17)
        #expect(table.intend(record("safComp=y", nonce: 5_000)))
    }

    @Test("A record has these bytes")
    func golden() {
        let slot = UnsafeMutableRawBufferPointer.allocate(byteCount: ChildRecord.size, alignment: 8)
        defer { slot.deallocate() }
        slot.initializeMemory(as: UInt8.self, repeating: 0)
        record("ab", nonce: 0x0102).encodeFixed(into: slot, checksum: { _ in 0xAABB_CCDD })
        let expected: [UInt8] =
            [0, 0, 0, 0] + [0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 0]  // state, pid, start time
            + [0xDD, 0xCC, 0xBB, 0xAA]  // check
            + [2, 0, 0, 0]  // name length, reserved
            + [5, 0, 0, 0]  // instance
            + [2, 1, 0, 0, 0, 0, 0, 0] + [7, 0, 0, 0, 0, 0, 0, 0] + [8, 0, 0, 0, 0, 0, 0, 0]  // nonce, pipes
            + [0xE8, 3, 0, 0, 0, 0, 0, 0]  // started at
            + [0x61, 0x62]
        #expect(Array(slot[0..<expected.count]) == expected)
        #expect(slot[expected.count...].allSatisfy { $0 == 0 })
    }

    @Test("No garbage in the file traps or is taken for a child", arguments: 0..<100 as Range<UInt64>)
    func garbage(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let memory = Memory()
        let table = ChildrenTable(memory: memory.bytes)
        for nonce in 1...5 as ClosedRange<UInt64> {
            #expect(table.intend(record("safComp=\(nonce)", nonce: nonce)))
            table.running(nonce, pid: Int32(nonce), startTime: nonce)
        }
        for _ in 0..<40 {
            // Behind state, pid and start time of the first ten slots: what the checksum covers.
            let slot = Int.random(in: 0..<10, using: &random)
            let offset = Int.random(in: 16..<ChildRecord.size, using: &random)
            memory.bytes[ChildrenTable.headerSize + slot * ChildRecord.size + offset] = UInt8.random(
                in: 1...255, using: &random)
        }
        let next = ChildrenTable(memory: memory.bytes)
        for found in next.records { #expect(found.pid == Int32(found.nonce), "seed \(seed)") }
        #expect(next.records.count + next.damagedSlots == 5, "seed \(seed)")
    }
}
