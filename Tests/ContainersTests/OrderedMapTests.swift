import Testing

@testable import Containers

@Suite struct OrderedMapTests {
    @Test(
        "Any history of changes agrees with a dictionary that is sorted on demand", arguments: 0..<30 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        var random = Random(seed: seed)
        var map = OrderedMap<Int, Int>()
        var model: [Int: Int] = [:]
        let span = [8, 60, 1000].randomElement(using: &random)!
        for step in 0..<300 {
            let key = Int.random(in: 0..<span, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4:
                let (old, expected) = (map.updateValue(step, forKey: key), model.updateValue(step, forKey: key))
                #expect(old == expected, "seed \(seed)")
            case 4..<7:
                let (old, expected) = (map.removeValue(forKey: key), model.removeValue(forKey: key))
                #expect(old == expected, "seed \(seed)")
            case 7:
                let (first, expected) = (map.popFirst(), model.keys.min())
                #expect(first?.key == expected, "seed \(seed)")
                if let expected { model[expected] = nil }
            case 8:
                map[key, default: 0] += 1
                model[key, default: 0] += 1
            default:
                map[key] = step % 3 == 0 ? nil : step
                model[key] = step % 3 == 0 ? nil : step
            }
            #expect(map.isWellFormed(), "seed \(seed) step \(step)")
            #expect(map.count == model.count, "seed \(seed)")
            let sorted = model.sorted { $0.key < $1.key }
            let probe = Int.random(in: -1...span, using: &random)
            #expect(map.first(atOrAfter: probe)?.key == sorted.first { $0.key >= probe }?.key, "seed \(seed)")
            #expect(map.first(after: probe)?.key == sorted.first { $0.key > probe }?.key, "seed \(seed)")
            #expect(map.last(before: probe)?.key == sorted.last { $0.key < probe }?.key, "seed \(seed)")
            #expect(map.last(atOrBefore: probe)?.key == sorted.last { $0.key <= probe }?.key, "seed \(seed)")
            #expect(map[probe] == model[probe], "seed \(seed)")
            if step % 20 == 0 {
                #expect(map.keys == sorted.map(\.key) && map.values == sorted.map(\.value), "seed \(seed)")
                #expect(map.entries(from: probe).map(\.key) == sorted.map(\.key).filter { $0 >= probe }, "seed \(seed)")
                #expect(map.last?.key == sorted.last?.key && map.first?.key == sorted.first?.key, "seed \(seed)")
            }
        }
    }

    @Test("A copy does not see later changes, and iterating while removing is allowed")
    func valueSemantics() {
        var map: OrderedMap = ["b": 2, "a": 1, "c": 3]
        let copy = map
        for (key, _) in map { map[key] = nil }
        #expect(map.isEmpty)
        #expect(copy.keys == ["a", "b", "c"])
        #expect(copy.description == "[a: 1, b: 2, c: 3]")
    }

    @Test("Equality and hash do not depend on the order of insertion")
    func equality() {
        let up = OrderedMap((0..<50).map { ($0, $0) })
        let down = OrderedMap((0..<50).reversed().map { ($0, $0) })
        #expect(up == down)
        #expect(up.hashValue == down.hashValue)
        #expect(up != up.filter { $0.key != 7 })
    }

    @Test("Values are changed in place, all or one")
    func inPlace() {
        var map: OrderedMap<Int, [Int]> = [1: [1], 2: []]
        map[1]?.append(2)
        map[3, default: []].append(3)
        map.updateAll { key, value in value.append(key * 10) }
        #expect(map.values == [[1, 2, 10], [20], [3, 30]])
        map.removeAll { $0.value.count == 1 }
        #expect(map.keys == [1, 3])
        #expect(map.mapValues(\.count).values == [3, 2])
        let last = map.popLast()
        #expect(last?.key == 3)
    }
}

/// SplitMix64, as in EngineKit, which this room does not import.
struct Random: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
