import Testing

@testable import Containers

@Suite struct KeyedContainerTests {
    /// Entries in the order of insertion, by scanning an array.
    struct Model {
        var entries: [(key: Int, value: Int)] = []
        subscript(key: Int) -> Int? { entries.first { $0.key == key }?.value }
        mutating func update(_ key: Int, _ value: Int) -> Int? {
            guard let place = entries.firstIndex(where: { $0.key == key }) else {
                entries.append((key, value))
                return nil
            }
            defer { entries[place].value = value }
            return entries[place].value
        }
        mutating func remove(_ key: Int) -> Int? {
            guard let place = entries.firstIndex(where: { $0.key == key }) else { return nil }
            return entries.remove(at: place).value
        }
    }

    func check<Map: KeyedContainer<Int, Int>>(_: Map.Type, seed: UInt64, sorted: Bool) {
        var random = Random(seed: seed)
        var map = Map()
        var model = Model()
        for step in 0..<300 {
            let key = Int.random(in: 0..<40, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0..<4:
                let (old, expected) = (map.updateValue(step, forKey: key), model.update(key, step))
                #expect(old == expected, "\(Map.self) seed \(seed)")
            case 4, 5:
                let (old, expected) = (map.removeValue(forKey: key), model.remove(key))
                #expect(old == expected, "\(Map.self) seed \(seed)")
            case 6:
                map[key] = step
                _ = model.update(key, step)
            default:
                map[key] = nil
                _ = model.remove(key)
            }
            let expected = sorted ? model.entries.sorted { $0.key < $1.key } : model.entries
            #expect(map.elementsEqual(expected) { $0 == $1 }, "\(Map.self) seed \(seed) step \(step)")
            #expect(map.count == expected.count && map.isEmpty == expected.isEmpty, "\(Map.self) seed \(seed)")
            #expect(map[key] == model[key] && map.contains(key) == (model[key] != nil), "\(Map.self) seed \(seed)")
        }
        map.removeAll()
        #expect(map.isEmpty)
    }

    @Test("Every container by key agrees with a plain list, each in its own order", arguments: 0..<30 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        check(OrderedMap<Int, Int>.self, seed: seed, sorted: true)
        check(HashTable<Int, Int>.self, seed: seed, sorted: false)
        check(LinkedMap<Int, Int>.self, seed: seed, sorted: false)
    }

    /// A key whose hash is as bad as can be.
    struct Colliding: Hashable {
        let number: Int
        func hash(into hasher: inout Hasher) { hasher.combine(number % 2) }
    }

    @Test("Keys that collide are kept apart, and the oldest entry can be taken")
    func collisions() {
        var table = HashTable((0..<100).map { (Colliding(number: $0), $0) })
        for number in stride(from: 0, to: 100, by: 3) { table.removeValue(forKey: Colliding(number: number)) }
        #expect(table.values == (0..<100).filter { $0 % 3 != 0 })
        for number in 0..<100 { #expect(table[Colliding(number: number)] == (number % 3 == 0 ? nil : number)) }
        let oldest = table.popFirst()
        #expect(oldest?.value == 1 && table.first?.value == 2 && table.last?.value == 98)
        table[Colliding(number: 2), default: 0] += 40
        table[Colliding(number: 0), default: 7] += 1
        #expect(table.first?.value == 42 && table.last?.value == 8)
        let copy = table
        table.removeAll()
        #expect(copy.count == 66 && table.isEmpty && copy == copy)
    }
}

@Suite struct ListTests {
    @Test(
        "Any history of a list agrees with an array, and no stale handle reaches an element",
        arguments: 0..<60 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        var random = Random(seed: seed)
        var list = DoublyLinkedList<Int>()
        var model: [(handle: ListHandle, value: Int)] = []
        var stale: [ListHandle] = []
        for step in 0..<300 {
            let place = model.isEmpty ? 0 : Int.random(in: 0..<model.count, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: model.append((list.append(step), step))
            case 1: model.insert((list.prepend(step), step), at: 0)
            case 2 where !model.isEmpty:
                if let handle = list.insert(step, before: model[place].handle) {
                    model.insert((handle, step), at: place)
                }
            case 3 where !model.isEmpty:
                if let handle = list.insert(step, after: model[place].handle) {
                    model.insert((handle, step), at: place + 1)
                }
            case 4 where !model.isEmpty:
                let (handle, value) = model.remove(at: place)
                let removed = list.remove(handle)
                #expect(removed == value, "seed \(seed)")
                stale.append(handle)
            case 5 where !model.isEmpty:
                let entry = model.remove(at: place)
                list.moveToEnd(entry.handle)
                model.append(entry)
            case 6:
                let (first, expected) = (list.popFirst(), model.first)
                #expect(first == expected?.value, "seed \(seed)")
                if let expected {
                    stale.append(expected.handle)
                    model.removeFirst()
                }
            default:
                let (last, expected) = (list.popLast(), model.popLast())
                #expect(last == expected?.value, "seed \(seed)")
                if let expected { stale.append(expected.handle) }
            }
            #expect(
                Array(list) == model.map(\.value) && list.handles == model.map(\.handle), "seed \(seed) step \(step)")
            #expect(list.first == model.first?.value && list.last == model.last?.value, "seed \(seed)")
            if let old = stale.randomElement(using: &random) {
                #expect(list[old] == nil && !list.contains(old) && list.handle(after: old) == nil, "seed \(seed)")
                let (removed, inserted) = (list.remove(old), list.insert(0, after: old))
                #expect(removed == nil && inserted == nil, "seed \(seed)")
            }
        }
        var back: [Int] = []
        var handle = list.lastHandle
        while let here = handle, let value = list[here] {
            back.append(value)
            handle = list.handle(before: here)
        }
        #expect(back == model.map(\.value).reversed(), "seed \(seed)")
    }

    @Test("An element is changed in place by its handle, and setting nil removes it")
    func inPlace() {
        var list = DoublyLinkedList<[Int]>([[1], [2]])
        guard let first = list.firstHandle else { return }
        list[first]?.append(5)
        #expect(Array(list) == [[1, 5], [2]])
        list[first] = nil
        #expect(Array(list) == [[2]] && list.count == 1)
        list[first] = [9]
        #expect(Array(list) == [[2]])
    }

    @Test("The hand of a ring gives everybody a turn, also while members come and go")
    func ring() {
        var ring = CircularList(["a", "b", "c"])
        #expect(ring.current == "a")
        var turns: [String] = []
        for _ in 0..<4 { ring.advance().map { turns.append($0) } }
        #expect(turns == ["b", "c", "a", "b"])
        let d = ring.insert("d")
        #expect(Array(ring) == ["b", "c", "a", "d"], "a new one comes last")
        let removed = ring.removeCurrent()
        #expect(removed == "b" && ring.current == "c")
        ring.remove(d)
        #expect(Array(ring) == ["c", "a"] && ring[d] == nil)
        let turned = ring.turn(to: d)
        #expect(!turned)
        ring.removeCurrent()
        ring.removeCurrent()
        #expect(ring.isEmpty && ring.current == nil)
        let nobody = ring.advance()
        #expect(nobody == nil)
        let e = ring.insert("e")
        #expect(ring.current == "e" && ring.currentHandle == e)
    }
}

@Suite struct ElasticBufferTests {
    @Test(
        "What goes in comes out, in order and within the limit, however it is cut", arguments: 0..<60 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        var random = Random(seed: seed)
        let limit = Int.random(in: 1...500, using: &random)
        var buffer = ElasticBuffer(limit: limit)
        var model: [UInt8] = []
        for step in 0..<300 {
            let size = Int.random(in: 0...120, using: &random)
            let data = (0..<size).map { _ in UInt8.random(in: 0...20, using: &random) }
            switch Int.random(in: 0..<5, using: &random) {
            case 0:
                let done = buffer.append(data)
                #expect(done == (model.count + size <= limit), "seed \(seed)")
                if done { model += data }
            case 1:
                let written = buffer.append(upTo: size) { room in
                    room.copyBytes(from: data.prefix(room.count / 2))
                    return room.count / 2
                }
                #expect(written == min(size, limit - model.count) / 2, "seed \(seed)")
                model += data.prefix(written)
            case 2:
                buffer.consume(size)
                model.removeFirst(min(size, model.count))
            case 3:
                let taken = buffer.take(size)
                #expect(taken == (size <= model.count ? Array(model.prefix(size)) : nil), "seed \(seed)")
                if taken != nil { model.removeFirst(size) }
            default:
                let taken = buffer.take(until: 10)
                let end = model.firstIndex(of: 10)
                #expect(taken == end.map { Array(model[..<$0]) }, "seed \(seed)")
                if let end { model.removeFirst(end + 1) }
            }
            #expect(buffer.bytes == model && buffer.count == model.count, "seed \(seed) step \(step)")
            #expect(buffer.room == limit - model.count && buffer.isEmpty == model.isEmpty, "seed \(seed)")
            #expect(buffer.withUnsafeBytes { Array($0) } == model, "seed \(seed)")
            if let last = model.last { #expect(buffer[model.count - 1] == last, "seed \(seed)") }
        }
    }

    struct Failure: Error {}

    @Test("A failure while filling leaves the buffer as it was")
    func failure() {
        var buffer = ElasticBuffer(limit: 10)
        buffer.append([1, 2])
        #expect(throws: Failure.self) {
            try buffer.append(upTo: 5) { (_) throws(Failure) -> Int in throw Failure() }
        }
        #expect(buffer.bytes == [1, 2])
    }
}

@Suite struct HeapAccountTests {
    @Test("Watermarks alarm once on the way up and once on the way down, and the limit holds")
    func watermarks() {
        var account = HeapAccount(limit: 1000)
        var outcome = account.charge(599)
        #expect(outcome == .accepted)
        outcome = account.charge(1)
        #expect(outcome == .crossed(from: .normal, to: .low))
        outcome = account.charge(350)
        #expect(outcome == .crossed(from: .low, to: .high) && account.level == .high)
        outcome = account.charge(51)
        #expect(outcome == .refused && account.used == 950 && account.refusals == 1)
        outcome = account.credit(60)
        #expect(outcome == .accepted, "just below the mark is not yet below it")
        outcome = account.credit(20)
        #expect(outcome == .crossed(from: .high, to: .medium))
        outcome = account.credit(5000)
        #expect(outcome == .crossed(from: .medium, to: .normal) && account.used == 0 && account.peak == 950)
    }

    @Test(
        "Any history keeps the account within its limit and the level true to the use",
        arguments: 0..<50 as Range<UInt64>)
    func anyHistory(seed: UInt64) {
        var random = Random(seed: seed)
        var account = HeapAccount(limit: Int.random(in: 1...5000, using: &random))
        var last = account.level
        for _ in 0..<500 {
            let bytes = Int.random(in: 0...600, using: &random)
            let outcome = random.next() % 2 == 0 ? account.charge(bytes) : account.credit(bytes)
            if case .crossed(let from, let to) = outcome {
                #expect(from == last && to == account.level && from != to, "seed \(seed)")
            } else {
                #expect(account.level == last, "seed \(seed)")
            }
            last = account.level
            #expect((0...account.limit).contains(account.used), "seed \(seed)")
            let reached = account.watermarks.count { account.used >= $0 }
            #expect(account.level.rawValue >= reached, "seed \(seed): an alarm is never missing")
            let almost = account.watermarks.count { account.used + account.hysteresis >= $0 }
            #expect(account.level.rawValue <= almost, "seed \(seed): an alarm does not stay")
        }
    }
}
