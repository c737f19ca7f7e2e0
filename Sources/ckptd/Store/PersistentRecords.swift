public import CkptLayout
public import CkptProtocol
public import DBAL
import OSAL
import SAFTypes

/// How persistent checkpoints lie in a database. Integers of keys are big-endian, so that what belongs together lies
/// together, in its order.
///
/// 0: form u16 · 1: lineage u64 · 2 · checkpoint u64: head · 3 · checkpoint · slot u32: section descriptor · data, if
/// it is small · 4 · checkpoint · slot · block u32: data · 5 · checkpoint · slot: a writer of another node, and what
/// was executed for it. Before each value a checksum (CRC-32C) over key and value: what the disk has made of it is not
/// believed.
public enum PersistentRecords {
    /// Raised when an older ckptd could not read what is written.
    static let form: UInt16 = 1
    static let formKey: [UInt8] = [0]
    static let lineageKey: [UInt8] = [1]
    static let heads: [UInt8] = [2]
    static let sections: [UInt8] = [3]
    static let blocks: [UInt8] = [4]
    static let writers: [UInt8] = [5]
    private static let checksumBytes = 4

    static func key(_ prefix: [UInt8], _ id: CheckpointID, _ numbers: Int...) -> [UInt8] {
        var key = prefix
        withUnsafeBytes(of: id.rawValue.bigEndian) { key.append(contentsOf: $0) }
        for number in numbers { withUnsafeBytes(of: UInt32(number).bigEndian) { key.append(contentsOf: $0) } }
        return key
    }

    static func headKey(_ id: CheckpointID) -> [UInt8] { key(heads, id) }
    static func sectionKey(_ id: CheckpointID, _ slot: Int) -> [UInt8] { key(sections, id, slot) }
    static func blockKey(_ id: CheckpointID, _ slot: Int, _ block: Int) -> [UInt8] { key(blocks, id, slot, block) }

    static func writerKey(_ id: CheckpointID, _ slot: Int) -> [UInt8] { key(writers, id, slot) }

    /// The checkpoint and the numbers of a key with this prefix; nil when it is none.
    static func parse(_ key: [UInt8], _ prefix: [UInt8], numbers: Int) -> (id: CheckpointID, numbers: [Int])? {
        guard key.count == prefix.count + 8 + 4 * numbers, key.starts(with: prefix) else { return nil }
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        let id = CheckpointID(rawValue: number(key[prefix.count..<prefix.count + 8]))
        let rest = key.dropFirst(prefix.count + 8)
        let found = (0..<numbers).map { Int(number(rest.dropFirst($0 * 4).prefix(4))) }
        return (id, found)
    }

    static func record(_ key: [UInt8], reserving count: Int = 64, _ body: (inout ByteWriter) -> Void) -> DatabaseChange
    {
        var writer = ByteWriter(reserving: checksumBytes + count)
        writer.integer(UInt32(0))
        body(&writer)
        writer.patch(checksum(key, writer.bytes), at: 0)
        return .put(key: key, value: writer.bytes)
    }

    private static func checksum(_ key: [UInt8], _ value: [UInt8]) -> UInt32 {
        let ofKey = key.withUnsafeBytes { crc32c($0) }
        return value.withUnsafeBytes {
            crc32c(UnsafeRawBufferPointer(rebasing: $0[min(checksumBytes, $0.count)...]), seed: ofKey)
        }
    }

    /// What was written; nil when these bytes are not it.
    static func content(_ record: DatabaseRecord) -> ArraySlice<UInt8>? {
        guard record.value.count >= checksumBytes else { return nil }
        let stored = record.value.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
        return stored == checksum(record.key, record.value) ? record.value.dropFirst(checksumBytes) : nil
    }

    /// A batch as changes to the database.
    ///
    /// - Parameter read: bytes of a section, as they are now; nil when they are not what was written: the section goes
    ///   there as a corrupted one.
    public static func changes(
        _ batch: PersistentBatch,
        read: (_ id: CheckpointID, _ slot: Int, _ offset: Int, _ count: Int) throws(StoreError) ->
            UnsafeRawBufferPointer?
    ) throws(StoreError) -> [DatabaseChange] {
        var changes: [DatabaseChange] = []
        for removal in batch.removals { remove(removal, &changes) }
        if let lineage = batch.lineage { changes.append(record(lineageKey) { $0.integer(lineage) }) }
        for save in batch.saves {
            changes.append(record(headKey(save.checkpoint)) { $0.value(save.head) })
            for slot in save.slots { try put(slot, of: save.checkpoint, &changes, read) }
            for writer in save.writers { changes.append(change(writer, of: save.checkpoint)) }
        }
        return changes
    }

    private static func remove(_ removal: PersistentBatch.Removal, _ changes: inout [DatabaseChange]) {
        let id = removal.checkpoint
        changes.append(.delete(key: headKey(id)))
        for slot in removal.writers { changes.append(.delete(key: writerKey(id, slot))) }
        for case (let slot, let size?) in removal.sizes.enumerated() {
            changes.append(.delete(key: sectionKey(id, slot)))
            for block in 0..<PersistentLayout.blocks(size) { changes.append(.delete(key: blockKey(id, slot, block))) }
        }
    }

    /// handle u64 · session 2 × u64 · node u32 · executed: number u64, change u64 each.
    private static func change(_ writer: PersistentBatch.Writer, of id: CheckpointID) -> DatabaseChange {
        let key = writerKey(id, writer.slot)
        guard let opener = writer.opener else { return .delete(key: key) }
        return record(key, reserving: 32 + 16 * opener.executed.count) { out in
            out.value(opener.record.writer)
            for executed in opener.executed.prefix(OpenerRecord.executedMax) {
                out.integer(executed.number)
                out.integer(executed.change)
            }
        }
    }

    static func writer(slot: Int, _ bytes: ArraySlice<UInt8>) -> RestoredCheckpoint.Opener? {
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            do throws(DecodeError) {
                let writer: RequestWriter = try reader.value()
                var executed: [RestoredCheckpoint.Executed] = []
                while reader.remaining > 0, executed.count < OpenerRecord.executedMax {
                    executed.append(.init(number: try reader.integer(), change: try reader.integer()))
                }
                try reader.finish()
                return RestoredCheckpoint.Opener(slot: slot, record: OpenerRecord(writer), executed: executed)
            } catch {
                return nil
            }
        }
    }

    private static func put(
        _ slot: PersistentBatch.Slot, of id: CheckpointID, _ changes: inout [DatabaseChange],
        _ read: (CheckpointID, Int, Int, Int) throws(StoreError) -> UnsafeRawBufferPointer?
    ) throws(StoreError) {
        for block in slot.stale { changes.append(.delete(key: blockKey(id, slot.slot, block))) }
        guard var section = slot.section else { return changes.append(.delete(key: sectionKey(id, slot.slot))) }
        let size = Int(clamping: section.size)
        var small = UnsafeRawBufferPointer(start: nil, count: 0)
        if section.state == .valid {
            var found: [DatabaseChange] = []
            for block in slot.blocks.joined() where section.state == .valid {
                let offset = block * PersistentLayout.blockBytes
                let count = min(PersistentLayout.blockBytes, size - offset)
                if let data = try read(id, slot.slot, offset, count) {
                    found.append(record(blockKey(id, slot.slot, block), reserving: count) { $0.raw(data) })
                } else {
                    section.state = .corrupted
                }
            }
            if size <= PersistentLayout.inlineBytesMax, size > 0 {
                if let data = try read(id, slot.slot, 0, size) { small = data } else { section.state = .corrupted }
            }
            changes += found
        }
        changes.append(
            record(sectionKey(id, slot.slot), reserving: 64 + small.count) { writer in
                writer.value(section)
                writer.raw(small)
            })
    }
}
