import CkptProtocol
import EngineKit
import SAFTypes

/// Which sections a checkpoint has; their data is in the store, under the same slots.
struct SectionIndex: Hashable, Sendable {
    /// What an opener has called a section's data, so that it is known again.
    struct Tag: Hashable, Sendable {
        var opener: HandleID
        var number: UInt64
    }

    struct Section: Hashable, Sendable {
        var id: SectionID
        var size: Int
        var expiration: SaTime
        var lastUpdate: SaTime
        var serial: UInt64
        var isCorrupted = false
        /// Nil as soon as anybody else changes the data.
        var tag: Tag?

        var descriptor: SectionDescriptor {
            SectionDescriptor(
                id: id, expiration: expiration, size: UInt64(size), state: isCorrupted ? .corrupted : .valid,
                lastUpdate: lastUpdate, serial: serial)
        }
    }

    private struct Place: Hashable, Sendable {
        var serial: UInt64
        var slot: Int
    }

    private(set) var slots: [Section?] = []
    private var slotOf: [SectionID: Int] = [:]
    private var free: [Int] = []
    /// In the order of creation; places of deleted sections stay until they are the majority.
    private var order: [Place] = []
    private(set) var count = 0
    private(set) var memoryUsed: UInt64 = 0
    /// No section expires before this.
    private(set) var earliestExpiration = SaTime.saTimeEnd

    func slot(of id: SectionID) -> Int? { slotOf[id] }
    subscript(slot: Int) -> Section? { slot < slots.count ? slots[slot] : nil }

    /// The slot that the `number`-th section of a step will get.
    func freeSlot(_ number: Int) -> Int {
        number < free.count ? free[free.count - 1 - number] : slots.count + number - free.count
    }

    mutating func insert(_ section: Section, slot: Int) {
        while slots.count <= slot {
            if slots.count < slot { free.append(slots.count) }
            slots.append(nil)
        }
        if free.last == slot { free.removeLast() } else { free.removeAll { $0 == slot } }
        slots[slot] = section
        slotOf[section.id] = slot
        let isLast = order.last.map { $0.serial < section.serial } ?? true
        order.append(Place(serial: section.serial, slot: slot))
        if !isLast { order.sort { $0.serial < $1.serial } }
        count += 1
        memoryUsed += UInt64(section.size)
        earliestExpiration = min(earliestExpiration, section.expiration)
    }

    mutating func remove(slot: Int) {
        guard slot < slots.count, let section = slots[slot] else { return }
        slots[slot] = nil
        slotOf[section.id] = nil
        free.append(slot)
        count -= 1
        memoryUsed -= UInt64(section.size)
        if order.count > 16, order.count > count * 2 {
            order.removeAll { place in slots[place.slot]?.serial != place.serial }
        }
        if section.expiration != .saTimeEnd, section.expiration == earliestExpiration { findEarliestExpiration() }
    }

    mutating func resize(slot: Int, to size: Int, at time: SaTime, isRepaired: Bool) {
        guard let old = self[slot]?.size else { return }
        memoryUsed = memoryUsed - UInt64(old) + UInt64(size)
        slots[slot]!.size = size  // looked at a line ago
        slots[slot]!.lastUpdate = time
        if isRepaired { slots[slot]!.isCorrupted = false }
    }

    mutating func setExpiration(slot: Int, _ time: SaTime) {
        guard let old = self[slot]?.expiration else { return }
        slots[slot]!.expiration = time  // looked at a line ago
        if time < earliestExpiration {
            earliestExpiration = time
        } else if old != time, old == earliestExpiration {
            findEarliestExpiration()
        }
    }

    func tag(slot: Int) -> Tag? { self[slot]?.tag }
    mutating func setTag(slot: Int, _ tag: Tag?) { if self[slot] != nil { slots[slot]!.tag = tag } }

    mutating func markCorrupted(slot: Int) { if self[slot] != nil { slots[slot]!.isCorrupted = true } }

    private mutating func findEarliestExpiration() {
        earliestExpiration = .saTimeEnd
        for section in slots { if let section { earliestExpiration = min(earliestExpiration, section.expiration) } }
    }

    /// Slots of sections whose time is over, in slot order.
    func expired(at time: SaTime) -> [Int] {
        guard earliestExpiration <= time else { return [] }
        return slots.indices.filter { slot in
            slots[slot].map { $0.expiration != .saTimeEnd && $0.expiration <= time } ?? false
        }
    }

    /// Sections in the order of their creation, from after `serial`, at most `limit`.
    func page(after serial: UInt64, limit: Int, where chosen: (Section) -> Bool) -> (
        sections: [StoredSection], hasMore: Bool
    ) {
        var low = 0
        var high = order.count
        while low < high {
            let middle = (low + high) / 2
            if order[middle].serial <= serial { low = middle + 1 } else { high = middle }
        }
        var found: [StoredSection] = []
        for place in order[low...] {
            guard let section = slots[place.slot], section.serial == place.serial, chosen(section) else { continue }
            if found.count == limit { return (found, true) }
            found.append(StoredSection(slot: place.slot, descriptor: section.descriptor))
        }
        return (found, false)
    }

    func checkInvariants() {
        let live = slots.compactMap { $0 }
        invariant(live.count == count && slotOf.count == count, "sections are counted and named once")
        invariant(live.reduce(0) { $0 + UInt64($1.size) } == memoryUsed, "memory used is the sum of the sizes")
        invariant(
            free.count == slots.count - count && Set(free).count == free.count, "free slots are those without section")
        invariant(live.allSatisfy { $0.expiration >= earliestExpiration }, "nothing expires earlier than noted")
    }
}
