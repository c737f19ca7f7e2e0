/// How often each word occurs, in buckets that fit a checkpoint's sections: a line of text touches only a few of them.
struct WordCounts {
    static let bucketCount = 1_024

    private(set) var buckets: [[Word: UInt64]] = Array(repeating: [:], count: bucketCount)

    /// A run of ASCII letters, as `tr -cs A-Za-z '\n'` cuts them.
    typealias Word = [UInt8]

    static func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) &- 0x61 < 26 }

    /// FNV-1a: the same in every process, unlike Swift's own hash values.
    static func bucket(of word: Word) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in word { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return Int(hash % UInt64(bucketCount))
    }

    static func sectionName(_ bucket: Int) -> String { "bucket-\(bucket)" }

    /// Counts the words of `text` and returns the buckets that changed, in ascending order.
    mutating func count(_ text: some Sequence<UInt8>) -> [Int] {
        var changed: Set<Int> = []
        var word: Word = []
        func flush(_ counts: inout WordCounts) {
            guard !word.isEmpty else { return }
            let bucket = Self.bucket(of: word)
            counts.buckets[bucket][word, default: 0] += 1
            changed.insert(bucket)
            word.removeAll(keepingCapacity: true)
        }
        for byte in text {
            if Self.isLetter(byte) { word.append(byte) } else { flush(&self) }
        }
        flush(&self)
        return changed.sorted()
    }

    /// The most frequent words, the first of equally frequent ones in the order of the alphabet.
    func top(_ count: Int) -> [(word: String, count: UInt64)] {
        let all = buckets.flatMap { $0.map { (word: String(decoding: $0.key, as: UTF8.self), count: $0.value) } }
        return Array(all.sorted { ($1.count, $0.word) < ($0.count, $1.word) }.prefix(count))
    }

    /// A bucket as bytes: length u16 · word · count u64, little-endian, repeated, words ascending.
    func encodedBucket(_ bucket: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for (word, count) in buckets[bucket].sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            withUnsafeBytes(of: UInt16(word.count).littleEndian) { bytes.append(contentsOf: $0) }
            bytes.append(contentsOf: word)
            withUnsafeBytes(of: count.littleEndian) { bytes.append(contentsOf: $0) }
        }
        return bytes
    }

    /// Replaces a bucket by its byte form; false when the bytes are not a bucket.
    mutating func setBucket(_ bucket: Int, from bytes: [UInt8]) -> Bool {
        var words: [Word: UInt64] = [:]
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 2 else { return false }
            let length = Int(rest.removeFirst()) | Int(rest.removeFirst()) << 8
            guard rest.count >= length + 8 else { return false }
            let word = Array(rest.prefix(length))
            rest = rest.dropFirst(length)
            words[word] = rest.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
            rest = rest.dropFirst(8)
        }
        buckets[bucket] = words
        return true
    }

    /// Takes over a section of the checkpoint; other sections are ignored.
    mutating func take(section: [UInt8], bytes: [UInt8]) {
        let name = String(decoding: section, as: UTF8.self)
        guard name.hasPrefix("bucket-"), let bucket = Int(name.dropFirst(7)), buckets.indices.contains(bucket) else {
            return
        }
        _ = setBucket(bucket, from: bytes)
    }
}
