import EngineKit
import SAFTypes
import Testing

@testable import IOC

@Suite("At most once: what a session remembers")
struct ReplyMemoryTests {
    private func begin(_ memory: inout ReplyMemory, _ number: UInt64, _ acknowledged: UInt64 = 0) -> ReplyMemory.Verdict
    {
        memory.begin(number, acknowledged: acknowledged, lane: .normal, code: 1)
    }

    private func finish(_ memory: inout ReplyMemory, _ number: UInt64, _ body: [UInt8]) -> Int? {
        body.withUnsafeBytes { memory.finish(number, kind: .reply, status: 0, body: $0, descriptors: []) }
    }

    @Test("Executed once, answered as often as asked, forgotten when acknowledged")
    func life() throws {
        var memory = ReplyMemory()
        #expect(begin(&memory, 1) == .execute)
        #expect(begin(&memory, 1) == .inProgress)
        let index = try #require(finish(&memory, 1, [7]))
        #expect(finish(&memory, 1, [8]) == nil, "a second answer is ignored")
        memory.markSent(index)
        #expect(begin(&memory, 1) == .answered(index))
        #expect(memory.entries[index].body == [7])
        #expect(begin(&memory, 2, 1) == .execute)
        #expect(memory.count == 1)
        #expect(begin(&memory, 1, 1) == .forgotten)
    }

    @Test("Lanes overtake each other: a smaller number that comes later is executed")
    func overtaking() {
        var memory = ReplyMemory()
        #expect(begin(&memory, 5) == .execute)
        #expect(begin(&memory, 4) == .execute)
        #expect(begin(&memory, 5) == .inProgress)
    }

    @Test("Beyond the limit a request is not taken")
    func limit() {
        var memory = ReplyMemory(limits: ReplyMemory.Limits(requestsMax: 2))
        #expect(begin(&memory, 1) == .execute)
        #expect(begin(&memory, 2) == .execute)
        #expect(begin(&memory, 3) == .overloaded)
        #expect(begin(&memory, 2) == .inProgress)
    }

    @Test("Old answers make room for new ones, their execution stays known")
    func room() throws {
        var memory = ReplyMemory(limits: ReplyMemory.Limits(requestsMax: 100, bytesMax: 10))
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(begin(&memory, number) == .execute)
            memory.markSent(try #require(finish(&memory, number, [1, 2, 3, 4])))
        }
        #expect(memory.bytes <= 10)
        #expect(begin(&memory, 1) == .forgotten)
        guard case .answered = begin(&memory, 3) else {
            Issue.record("the newest answer is kept")
            return
        }
    }

    @Test(
        "No order of requests, answers, losses and retransmissions executes twice", arguments: 0..<200 as Range<UInt64>)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var memory = ReplyMemory(limits: ReplyMemory.Limits(requestsMax: 8, bytesMax: 30))
        var last: UInt64 = 0
        var wanted: Set<UInt64> = []
        var executed: [UInt64: Int] = [:]
        var running: [UInt64] = []
        for _ in 0..<300 {
            let acknowledged = wanted.min().map { $0 - 1 } ?? last
            switch Int.random(in: 0..<5, using: &random) {
            case 0:
                last += 1
                wanted.insert(last)
                if begin(&memory, last, acknowledged) == .execute {
                    executed[last, default: 0] += 1
                    running.append(last)
                } else {
                    wanted.remove(last)
                }
            case 1:
                guard let again = wanted.sorted().randomElement(using: &random) else { continue }
                if begin(&memory, again, acknowledged) == .execute {
                    executed[again, default: 0] += 1
                    running.append(again)
                }
            case 2:
                guard !running.isEmpty else { continue }
                let number = running.remove(at: Int.random(in: 0..<running.count, using: &random))
                if let index = finish(&memory, number, [UInt8](repeating: 1, count: Int(number % 9))),
                    random.chance(percent: 70)
                {
                    memory.markSent(index)
                }
            case 3: memory.connectionLost()
            default: if let number = wanted.sorted().randomElement(using: &random) { wanted.remove(number) }
            }
            #expect(executed.values.allSatisfy { $0 == 1 }, "seed \(seed)")
            #expect(memory.count <= 8 && memory.unsentCount >= 0 && memory.unsentBytes >= 0, "seed \(seed)")
            #expect(memory.bytes == memory.entries.reduce(0) { $0 + $1.body.count }, "seed \(seed)")
        }
    }
}
