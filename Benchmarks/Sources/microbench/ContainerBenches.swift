import Containers
import EngineKit

/// The containers beside what the standard library offers for the same.
enum ContainerBenches {
    static let size = 1_000

    static func all() -> [Comparison] {
        var random = SeededRandom(seed: 3)
        let keys = (0..<size).map { _ in random.next() }
        return ordered(keys) + hashed(keys) + [queues()]
    }

    private static func ordered(_ keys: [UInt64]) -> [Comparison] {
        let map = OrderedMap(keys.map { ($0, $0) })
        let dictionary = Dictionary(uniqueKeysWithValues: keys.map { ($0, $0) })
        let (changing, sorted) = (kept(map), kept(SortedArray(keys)))
        return [
            Comparison(
                name: "containers.ordered.change",
                subject: Work("OrderedMap") { count in
                    for step in 0..<count {
                        changing.pointee.removeValue(forKey: keys[step % size])
                        changing.pointee.updateValue(7, forKey: keys[step % size])
                    }
                },
                peer: Work("sorted Array of 1000") { count in
                    for step in 0..<count {
                        sorted.pointee.remove(keys[step % size])
                        sorted.pointee.insert(keys[step % size])
                    }
                }),
            Comparison(
                name: "containers.ordered.find",
                subject: Work("OrderedMap") { count in
                    for step in 0..<count { keep(map[keys[step % size]] ?? 0) }
                },
                peer: Work("Dictionary of 1000") { count in
                    for step in 0..<count { keep(dictionary[keys[step % size]] ?? 0) }
                }),
            Comparison(
                name: "containers.ordered.walk",
                subject: Work("OrderedMap") { count in
                    for _ in 0..<count { for (key, _) in map { keep(key) } }
                },
                peer: Work("Dictionary.keys.sorted()") { count in
                    for _ in 0..<count { for key in dictionary.keys.sorted() { keep(key) } }
                }),
        ]
    }

    private static func hashed(_ keys: [UInt64]) -> [Comparison] {
        let constant = HashTable(keys.map { ($0, $0) })
        let constantDictionary = Dictionary(uniqueKeysWithValues: keys.map { ($0, $0) })
        let (table, dictionary) = (kept(constant), kept(constantDictionary))
        return [
            Comparison(
                name: "containers.hash.find",
                subject: Work("HashTable") { count in
                    for step in 0..<count { keep(constant[keys[step % size]] ?? 0) }
                },
                peer: Work("Dictionary of 1000") { count in
                    for step in 0..<count { keep(constantDictionary[keys[step % size]] ?? 0) }
                }),
            Comparison(
                name: "containers.hash.change",
                subject: Work("HashTable") { count in
                    for step in 0..<count {
                        table.pointee.removeValue(forKey: keys[step % size])
                        table.pointee.updateValue(7, forKey: keys[step % size])
                    }
                },
                peer: Work("Dictionary of 1000") { count in
                    for step in 0..<count {
                        dictionary.pointee.removeValue(forKey: keys[step % size])
                        dictionary.pointee.updateValue(7, forKey: keys[step % size])
                    }
                }),
        ]
    }

    private static func queues() -> Comparison {
        let queue = kept(RingQueue<UInt64>(capacity: 512))
        let array = kept([UInt64]())
        for number in 0..<256 as Range<UInt64> {
            queue.pointee.append(number)
            array.pointee.append(number)
        }
        return Comparison(
            name: "containers.queue",
            subject: Work("RingQueue") { count in
                for number in 0..<UInt64(count) {
                    queue.pointee.append(number)
                    keep(queue.pointee.popFirst() ?? 0)
                }
            },
            peer: Work("Array of 256, removeFirst") { count in
                for number in 0..<UInt64(count) {
                    array.pointee.append(number)
                    keep(array.pointee.removeFirst())
                }
            })
    }
}

/// Keys in order, found by halving.
private struct SortedArray {
    private var keys: [UInt64]
    init(_ keys: [UInt64]) { self.keys = keys.sorted() }

    private func place(of key: UInt64) -> Int {
        var (low, high) = (0, keys.count)
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    mutating func insert(_ key: UInt64) { keys.insert(key, at: place(of: key)) }
    mutating func remove(_ key: UInt64) { keys.remove(at: place(of: key)) }
}
