/// Where a section may be: from the checksum of its id to slots in the section table. Whoever asks compares the id.
struct ReaderIndex {
    /// Hash in the upper half, slot + 1 in the lower; 0 = free. Their number is a power of two, half of them are free.
    private var places: [UInt64] = []
    private var used = 0

    mutating func removeAll() {
        places.removeAll(keepingCapacity: false)
        used = 0
    }

    mutating func insert(_ hash: UInt32, _ slot: Int) {
        if used * 2 >= places.count { grow() }
        put(UInt64(hash) << 32 | UInt64(truncatingIfNeeded: slot + 1))
        used += 1
    }

    private mutating func put(_ place: UInt64) {
        var cursor = first(UInt32(truncatingIfNeeded: place >> 32))
        while places[cursor] != 0 { cursor = (cursor + 1) & (places.count - 1) }
        places[cursor] = place
    }

    private mutating func grow() {
        let old = places
        places = Array(repeating: 0, count: Swift.max(4, old.count * 2))
        for place in old where place != 0 { put(place) }
    }

    /// Where to look first.
    @inline(__always)
    func first(_ hash: UInt32) -> Int { places.isEmpty ? 0 : Int(hash) & (places.count - 1) }

    /// The next slot with this hash.
    @inline(__always)
    func next(_ hash: UInt32, _ cursor: inout Int) -> Int? {
        if places.isEmpty { return nil }
        while places[cursor] != 0 {
            let place = places[cursor]
            cursor = (cursor + 1) & (places.count - 1)
            if UInt32(truncatingIfNeeded: place >> 32) == hash {
                return Int(truncatingIfNeeded: place & 0xFFFF_FFFF) - 1
            }
        }
        return nil
    }
}
