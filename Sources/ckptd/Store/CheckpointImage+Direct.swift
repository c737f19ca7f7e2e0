import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

/// Where the main file says that a section is in the direct file. Nobody who writes sections directly can write it.
extension CheckpointImage {
    private func directOffset(_ slot: Int) -> Int { entryOffset(slot) + Layout.entryDirectOffset }

    /// Whether the section in this slot is written directly.
    func isDirect(_ slot: Int) -> Bool {
        slot < sections.count && memory.load(UInt64.self, at: directOffset(slot) + 16) != 0
    }

    /// Nil: it is not, or where cannot be told.
    func directPlace(_ slot: Int) -> DirectPlace? {
        guard slot < sections.count, let serial = sections[slot]?.serial else { return nil }
        let offset = directOffset(slot)
        return DirectPlace(
            (
                memory.load(UInt64.self, at: offset).littleEndian,
                memory.load(UInt64.self, at: offset + 8).littleEndian,
                memory.load(UInt64.self, at: offset + 16).littleEndian
            ), serial: serial)
    }

    var directSlots: [Int] { sections.indices.filter { sections[$0] != nil && isDirect($0) } }

    /// A number for a grant: after a recall, which is a step, another.
    var nextGrant: UInt64 { root.sequence + 1 }

    /// From now on the section is there. Its last store does it; a reader of the section here sees it by the sequence.
    mutating func setDirect(_ slot: Int, _ place: DirectPlace) {
        guard slot < sections.count, let serial = sections[slot]?.serial else { return }
        let sequence = memory.load(UInt64.self, at: entryOffset(slot))
        memory.publish(sequence | 1, at: entryOffset(slot))
        let (first, second) = place.encodedHead(serial: serial)
        memory.store(UInt64(littleEndian: first), at: directOffset(slot))
        memory.store(UInt64(littleEndian: second), at: directOffset(slot) + 8)
        memory.publish(place.grant, at: directOffset(slot) + 16)
        memory.publish((sequence | 1) &+ 1, at: entryOffset(slot))
    }

    /// From now on the section is here.
    mutating func clearDirect(_ slot: Int) {
        if slot < sections.count { memory.publish(0, at: directOffset(slot) + 16) }
    }

    /// Room for so many bytes in the section, so that it can come back whatever it has become.
    mutating func reserve(slot: Int, bytes: Int) throws(StoreError) {
        guard slot < sections.count, let entry = sections[slot] else { throw .system("no section in slot \(slot)") }
        if entry.capacity >= bytes { return }
        let id = SectionID(Array(memory.slice(entry.extent.offset, entry.idLength)))
        var transaction = Transaction(checkpoint: checkpoint, time: 0, state: root.state, purpose: .reserved)
        transaction.steps = [
            .init(
                .init(kind: .write, id: id), slot: slot, serial: entry.serial,
                copied: .init(lastUpdate: entry.lastUpdate, size: bytes, isCorrupted: entry.isCorrupted))
        ]
        try commit(transaction, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
    }

    /// What a section was and was called, for a step that brings it back.
    func recalledStep(_ slot: Int, _ sight: DirectSight) -> Transaction.Step? {
        guard slot < sections.count, let entry = sections[slot] else { return nil }
        let id = SectionID(Array(memory.slice(entry.extent.offset, entry.idLength)))
        return sight.step(id: id, serial: entry.serial)
    }

    /// What others are told of a section.
    func toldStep(_ sight: DirectSight) -> Transaction.Step? {
        guard sight.slot < sections.count, let entry = sections[sight.slot] else { return nil }
        let id = SectionID(Array(memory.slice(entry.extent.offset, entry.idLength)))
        return sight.toldStep(id: id, serial: entry.serial)
    }

    /// All data of a section; nil when it is not what was written.
    func whole(slot: Int) -> UnsafeRawBufferPointer? {
        guard slot < sections.count, let size = sections[slot]?.size else { return nil }
        return try? read(slot: slot, offset: 0, count: size)
    }

    /// Which life of the direct file goes with this one.
    var directGeneration: UInt64 { memory.load(at: Layout.directOffset) }
    mutating func setDirectGeneration(_ generation: UInt64) { memory.publish(generation, at: Layout.directOffset) }
}
