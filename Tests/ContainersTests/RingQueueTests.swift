import Testing

@testable import Containers

@Suite struct RingQueueTests {
    @Test("Any history at both ends agrees with an array", arguments: 0..<100 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        var random = Random(seed: seed)
        let capacity = Int.random(in: 1...20, using: &random)
        var queue = RingQueue<Int>(capacity: capacity)
        var model: [Int] = []
        for step in 0..<400 {
            switch Int.random(in: 0..<7, using: &random) {
            case 0, 1:
                let done = queue.append(step)
                #expect(done == (model.count < capacity), "seed \(seed)")
                if done { model.append(step) }
            case 2:
                let done = queue.prepend(step)
                #expect(done == (model.count < capacity), "seed \(seed)")
                if done { model.insert(step, at: 0) }
            case 3:
                let (taken, expected) = (queue.popFirst(), model.isEmpty ? nil : model.removeFirst())
                #expect(taken == expected, "seed \(seed)")
            case 4:
                let (taken, expected) = (queue.popLast(), model.popLast())
                #expect(taken == expected, "seed \(seed)")
            case 5:
                let dropped = queue.appendDroppingFirst(step)
                let expected = model.count == capacity ? model.removeFirst() : nil
                model.append(step)
                #expect(dropped == expected, "seed \(seed)")
            default:
                guard let index = model.indices.randomElement(using: &random) else { continue }
                queue[index] += 1
                model[index] += 1
            }
            #expect(Array(queue) == model, "seed \(seed) step \(step)")
            #expect(
                queue.first == model.first && queue.last == model.last && queue.count == model.count, "seed \(seed)")
            #expect(queue.isFull == (model.count == capacity) && queue.isEmpty == model.isEmpty, "seed \(seed)")
        }
    }

    @Test("Removing by condition keeps the order of the others, and a copy its own content")
    func removing() {
        var queue = RingQueue<Int>(capacity: 10)
        for number in 0..<10 { queue.append(number) }
        let copy = queue
        queue.removeAll { $0 % 3 == 0 }
        #expect(Array(queue) == [1, 2, 4, 5, 7, 8])
        #expect(copy.count == 10)
        queue.removeAll()
        #expect(queue.isEmpty)
    }
}
