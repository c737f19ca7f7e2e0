import CkptLayout
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization

// Writers that write one section after the other, the same number to each, beside somebody who copies what he is told.
extension KillingField {
    /// What others have been told.
    private struct Copy {
        var content: [[UInt8]]
        var told: [UInt64?]
        var looks = 0
        var updates = 0

        var numbers: [UInt64] {
            content.map { bytes in
                bytes.count < 8 ? 0 : bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
            }
        }
    }

    private static func data(_ number: UInt64, limit: Int) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) } + filled(number: number, count: Int(number % UInt64(limit - 8)))
    }

    private func writeInOrder(from first: UInt64, owner: UInt32) -> Never {
        begun.pointee.store(1, ordering: .releasing)
        var number = first
        while true {
            for index in places.indices {
                Self.data(number, limit: Self.limits[index]).withUnsafeBytes { bytes in
                    do throws(DirectRefusal) {
                        _ = try section(index).overwrite(
                            bytes, by: owner, time: 1, patience: .seconds(30))
                    } catch {
                        Environment.exitImmediately(7)
                    }
                }
            }
            number += 1
        }
    }

    /// Takes a look, and does what it says.
    private func look(_ copy: inout Copy) throws {
        var payload: [UInt8] = []
        var look = DirectLook(
            places.indices.map { .init($0, section($0), told: copy.told[$0], isRecalled: false) }, behind: 0)
        let bell = DirectBell(mapping.base)
        let content = copy.content
        let old = content.map { bytes in
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
            memory.copyBytes(from: bytes)
            return memory
        }
        defer { for memory in old { memory.deallocate() } }
        look.take(bell, from: { UnsafeRawBufferPointer(old[$0]) }, into: &payload)
        bell.wake(0)
        for sight in look.sights {
            guard !sight.isCorrupted, !sight.isRecalled else { throw Wrong(text: "section \(sight.slot): \(sight)") }
            let data = payload[sight.data.offset..<(sight.data.offset + sight.data.count)]
            var new = sight.isWhole ? [] : content[sight.slot]
            let end = sight.offset + data.count
            if new.count < end { new += [UInt8](repeating: 0, count: end - new.count) }
            new.replaceSubrange((sight.isWhole ? 0 : sight.offset)..<(sight.isWhole ? data.count : end), with: data)
            copy.content[sight.slot] = new
        }
        for (slot, state) in look.states { copy.told[slot] = state }
        copy.looks += 1
        if !look.sights.isEmpty { copy.updates += 1 }
        let numbers = copy.numbers
        for (before, after) in zip(numbers, numbers.dropFirst()) where before < after || before > after + 1 {
            throw Wrong(text: "not of one moment: \(numbers)")
        }
        guard numbers[0] <= numbers[numbers.count - 1] + 1 else { throw Wrong(text: "not of one moment: \(numbers)") }
        for index in places.indices
        where numbers[index] > 0 && copy.content[index] != Self.data(numbers[index], limit: Self.limits[index]) {
            throw Wrong(text: "section \(index) is not what was written as number \(numbers[index])")
        }
    }

    func killTold(rounds: Int) throws -> String {
        var copy = Copy(content: [], told: [])
        for index in places.indices {
            Self.data(1, limit: Self.limits[index]).withUnsafeBytes {
                section(index).prepare($0, lastUpdate: 0, change: 0)
            }
            copy.content.append(Self.data(1, limit: Self.limits[index]))
            copy.told.append(section(index).published)
        }
        for round in 0..<rounds {
            // A dead one may have been half way: its number is written to all sections once more.
            let next = copy.numbers[0]
            begun.pointee.store(0, ordering: .releasing)
            let owner = DirectLock.owner(process: 1_000, start: UInt64(round))
            let child = fork()
            if child == 0 { writeInOrder(from: next, owner: owner) }
            guard child > 0 else { throw Wrong(text: "fork") }
            if random.chance(percent: 70) {
                for _ in 0..<Int.random(in: 1...6, using: &random) { try look(&copy) }
            }
            try killSomewhere(child)
            _ = try freeLocks(of: owner)
            try look(&copy)
            for index in places.indices where try read(index).bytes != copy.content[index] {
                throw Wrong(text: "round \(round): section \(index) was written, and nobody was told")
            }
        }
        return "ok: \(rounds) killed, \(copy.looks) looks, \(copy.updates) with something, \(copy.numbers[0]) numbers"
    }
}
