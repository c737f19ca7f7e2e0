import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

extension CheckpointImage {
    /// The bytes of a section, wholly inside it; valid until the next step.
    ///
    /// - Throws: `.corrupted` when their blocks are not what was written.
    public func read(slot: Int, offset: Int, count: Int) throws(StoreError) -> UnsafeRawBufferPointer {
        guard slot < sections.count, let entry = sections[slot], offset >= 0, count >= 0, offset <= entry.size - count
        else {
            throw .system("no such range in slot \(slot)")  // the engine has checked; never trap on it
        }
        if entry.isCorrupted { throw .corrupted(slot: slot) }
        if count > 0 { try verify(entry, slot: slot, from: offset, to: offset + count) }
        return memory.slice(entry.dataOffset + offset, count)
    }

    /// Whoever reads the section from its own mapping asks instead, until the section is changed: its data is not what
    /// was written.
    public mutating func hide(slot: Int) {
        guard slot < sections.count, sections[slot] != nil else { return }
        memory.publish(memory.load(UInt64.self, at: entryOffset(slot)) | 1, at: entryOffset(slot))
    }

    /// What others may do with the file; takes effect before this returns.
    public mutating func setService(_ word: ServiceWord) {
        guard service != word else { return }
        memory.publish(word.rawValue, at: Layout.serviceOffset)
    }

    public var service: ServiceWord { ServiceWord(rawValue: memory.load(at: Layout.serviceOffset)) }

    public func descriptor(slot: Int, state: SectionState) -> SectionDescriptor? {
        guard slot < sections.count, let entry = sections[slot] else { return nil }
        return descriptor(entry, state: state)
    }

    /// Bytes of RAM the file takes.
    public var fileBytes: Int { memory.count }

    /// Checks the checksums of the blocks that hold `from ..< to`.
    func verify(_ entry: SectionEntry, slot: Int, from: Int, to: Int) throws(StoreError) {
        try memory.verify(entry, slot: slot, from: from, to: to)
    }

    /// Writes the checksums of the blocks that hold `from ..< to`.
    mutating func seal(_ entry: SectionEntry, from: Int, to: Int) {
        guard to > from else { return }
        for block in (from / Layout.blockBytes)...((to - 1) / Layout.blockBytes) {
            let start = block * Layout.blockBytes
            let count = min(Layout.blockBytes, entry.size - start)
            if count <= 0 { break }
            memory.store(memory.checksum(entry.dataOffset + start, count), at: entry.checksumsOffset + block * 4)
        }
    }
}

// The recent-changes log: records follow each other; each knows where its predecessor is.
extension CheckpointImage {
    /// A sound record at this position of the stream, if the log still holds it.
    func record(at position: UInt64) -> (RecordHead, UnsafeRawBufferPointer)? {
        let capacity = UInt64(root.log.capacity)
        guard position != RecordHead.noPosition, position % 8 == 0, position >= root.logStart, position < root.logEnd,
            root.logEnd - position <= capacity
        else { return nil }
        let offset = Int(position % capacity)
        let room = min(root.log.capacity - offset, Int(root.logEnd - position))
        let bytes = memory.slice(root.log.extent.offset + offset, room)
        guard let head = RecordHead(bytes) else { return nil }
        return (head, UnsafeRawBufferPointer(rebasing: bytes[0..<head.length]))
    }

    /// The updates after `change`, oldest first, as positions of their records; nil when the log no longer has them
    /// all.
    public func positions(after change: UInt64) -> [UInt64]? {
        guard change <= root.state.change else { return nil }
        var positions: [UInt64] = []
        var position = root.recordPosition
        var sequence = root.sequence
        var wanted = root.state.change
        while wanted > change {
            guard let (head, _) = record(at: position), head.sequence == sequence, head.change == wanted else {
                return nil
            }
            if head.isUpdate {
                if head.isDataOmitted { return nil }
                positions.append(position)
                wanted -= 1
            }
            guard wanted == change || head.previous < position else { return nil }
            position = head.previous
            sequence &-= 1
        }
        return positions.reversed()
    }

    /// What subscribers are told of an update: change, time, count and the operations in wire form; nil when it is
    /// gone.
    public func encodeUpdate(at position: UInt64, handle: HandleID, to writer: inout ByteWriter) -> Bool {
        guard let (head, bytes) = record(at: position), head.isUpdate, !head.isDataOmitted else { return false }
        UpdatePush.encodeHead(handle: handle, change: head.change, time: head.time, count: head.items, to: &writer)
        return encodeItems(bytes, head, to: &writer)
    }

    private func encodeItems(
        _ bytes: UnsafeRawBufferPointer, _ head: RecordHead, to writer: inout ByteWriter
    ) -> Bool {
        var items = RecordItems(bytes, head)
        while let (item, id, data) = items.next() {
            SectionOperation.encode(
                item.kind, id: id, offset: item.kind == .write ? UInt64(item.offset) : 0, expiration: item.expiration,
                data: data, to: &writer)
        }
        return items.isAtEnd
    }

    /// As ``encodeUpdate(at:handle:to:)``, as it is told to another replica; the number of the update, nil when it is
    /// gone.
    public func encodeReplicaUpdate(at position: UInt64, to writer: inout ByteWriter) -> UInt64? {
        guard let (head, bytes) = record(at: position), head.isUpdate, !head.isDataOmitted else { return nil }
        ReplicaUpdate.encodeHead(
            time: head.time, nextSerial: head.nextSerial, writer: head.hasWriter ? head.writer : nil,
            number: head.requestNumber, count: head.items, to: &writer)
        return encodeItems(bytes, head, to: &writer) ? head.change : nil
    }
}

extension StoreMemory {
    /// ``CheckpointImage/verify(_:slot:from:to:)``; of the memory alone, for a step that goes on changing the image.
    func verify(_ entry: SectionEntry, slot: Int, from: Int, to: Int) throws(StoreError) {
        let last = (to - 1) / Layout.blockBytes
        for block in (from / Layout.blockBytes)...last {
            let start = block * Layout.blockBytes
            let count = min(Layout.blockBytes, entry.size - start)
            let stored: UInt32 = load(at: entry.checksumsOffset + block * 4)
            guard checksum(entry.dataOffset + start, count) == stored else { throw .corrupted(slot: slot) }
        }
    }
}
