import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

/// A section as a step leaves it.
struct StagedSection: Hashable {
    var slot: Int
    /// As it was before the step; nil when the step creates it.
    var before: SectionEntry?
    /// Nil: deleted.
    var entry: SectionEntry?
    /// The id of a section that the step creates.
    var newID: [UInt8]
    /// Data must lie in an extent that nobody reads yet.
    var isMoved: Bool
    /// Within a step a section may be larger than after it.
    var largest = 0
    /// The step begins by replacing the data: what it was is irrelevant.
    var isReplaced = false
    var hasData = false
    /// Data that are known to come.
    var room = 0

    mutating func note(_ kind: SectionOperation.Kind, offset: Int, length: Int, priorSize: Int) {
        let coversAll = kind == .overwrite || kind == .write && offset == 0 && length > 0 && length >= priorSize
        if coversAll, !hasData { isReplaced = true }
        if length > 0 || kind == .overwrite { hasData = true }
        if length > 0 { largest = max(largest, offset + length) }
    }
}

extension CheckpointImage {
    /// Does the step wholly, or throws and has changed nothing anybody can see.
    ///
    /// - Parameter payload: the body that the operations' data lies in; their ranges have been checked by its decoder.
    /// - Throws: `.noSpace`, `.corrupted` (of a section that a step would change in part).
    public mutating func commit(
        _ transaction: Transaction, payload: UnsafeRawBufferPointer, isUpdate: Bool
    ) throws(StoreError) {
        defer {
            staged.removeAll(keepingCapacity: true)
            if !stagedOfSlot.isEmpty { stagedOfSlot.removeAll(keepingCapacity: true) }
            items.removeAll(keepingCapacity: true)
        }
        guard transaction.purpose != .piece || root.state.isPartial else { throw .system("a piece of no copy") }
        try stage(transaction)
        var taken: [ExtentAllocator.Extent] = []
        var next = root
        do throws(StoreError) {
            let omitsData = try makeRoomInLog(transaction, root: &next, taken: &taken)
            try placeSections(omitsData: omitsData, purpose: transaction.purpose, taken: &taken)
            try growTables(transaction, root: &next, taken: &taken)
            try replaceTable(transaction, root: &next, taken: &taken)
            prepareExtents()
            if omitsData { writeData(transaction, payload) }
            composeRecord(transaction, payload, omitsData: omitsData, isUpdate: isUpdate)
        } catch {
            for extent in taken { allocator.release(extent) }
            throw error
        }
        next.sequence = root.sequence + 1
        next.state = transaction.state
        appendRecord(root: &next)
        let previous = root
        root = next
        writeRoot()
        memory.publish(root.sequence, at: Layout.commitOffset)
        let isTableMoved = previous.sections != root.sections
        if isTableMoved { bumpSerial() }
        // From here on the step has happened; a successor would carry it out from the record just as this does.
        let record = scratch
        record.bytes.withUnsafeBytes { bytes in
            if let head = RecordHead(bytes, isOurs: true) { carryOut(bytes, head) }
        }
        if isTableMoved { bumpSerial() }
        memory.publish(root.sequence, at: Layout.appliedOffset)
        settle(transaction, previous: previous)
    }

    /// Odd: the section table is being replaced. Even: it is where the root says.
    private mutating func bumpSerial() {
        memory.publish(memory.load(UInt64.self, at: Layout.serialOffset) &+ 1, at: Layout.serialOffset)
    }

    /// Follows the operations in order and notes what each does to which section.
    private mutating func stage(_ transaction: Transaction) throws(StoreError) {
        for step in transaction.steps {
            let operation = step.operation
            if operation.kind == .create {
                var entry = SectionEntry(
                    idLength: operation.id.bytes.count, extent: .init(offset: 0, size: 0), size: operation.data.count,
                    expiration: operation.expiration, lastUpdate: step.copied?.lastUpdate ?? transaction.time,
                    serial: step.serial)
                entry.isCorrupted = step.copied?.isCorrupted ?? false
                append(
                    StagedSection(
                        slot: step.slot, before: nil, entry: entry, newID: operation.id.bytes, isMoved: true,
                        room: step.copied?.size ?? 0))
                addItem(operation, image: staged.count - 1, priorSize: 0)
                continue
            }
            let image = try stagedIndex(step.slot)
            guard var entry = staged[image].entry else { throw .system("operation on a deleted section") }
            let prior = entry.size
            let time = step.copied?.lastUpdate ?? transaction.time
            if let copied = step.copied {
                staged[image].room = copied.size
                entry.isCorrupted = copied.isCorrupted
            } else if entry.isCorrupted, operation.kind == .write, operation.data.count > 0 {
                throw .corrupted(slot: step.slot)
            }
            switch operation.kind {
            case .create: break
            case .write:
                let offset = Int(operation.offset)
                entry.lastUpdate = time
                if operation.data.count > 0 {
                    if !staged[image].isReplaced, !transaction.purpose.isInPlace {
                        try verifyEdges(image, slot: step.slot, from: offset, to: offset + operation.data.count)
                    }
                    entry.size = max(prior, offset + operation.data.count)
                }
            case .overwrite:
                entry.size = operation.data.count
                entry.lastUpdate = time
                if step.copied == nil { entry.isCorrupted = false }
            case .setExpiration: entry.expiration = operation.expiration
            case .delete, .expire: staged[image].entry = nil
            case .require, .tag, .put: break  // no steps
            }
            if operation.kind != .delete && operation.kind != .expire { staged[image].entry = entry }
            addItem(operation, image: image, priorSize: prior)
        }
    }

    private mutating func addItem(_ operation: SectionOperation, image: Int, priorSize: Int) {
        staged[image].note(
            operation.kind, offset: Int(operation.offset), length: operation.data.count, priorSize: priorSize)
        items.append(
            RecordItem(
                kind: operation.kind, image: image, offset: Int(operation.offset), length: operation.data.count,
                priorSize: priorSize, expiration: operation.expiration, idLength: operation.id.bytes.count))
    }

    private mutating func stagedIndex(_ slot: Int) throws(StoreError) -> Int {
        if staged.count <= Self.linearMax {
            if let index = staged.lastIndex(where: { $0.slot == slot }) { return index }
        } else if let index = stagedOfSlot[slot] {
            return index
        }
        guard slot < sections.count, let entry = sections[slot] else { throw .system("no section in slot \(slot)") }
        append(StagedSection(slot: slot, before: entry, entry: entry, newID: [], isMoved: false))
        return staged.count - 1
    }

    /// Few sections are found faster by looking at each; many need an index.
    private static var linearMax: Int { 8 }

    private mutating func append(_ section: StagedSection) {
        staged.append(section)
        if staged.count == Self.linearMax + 1 {
            for (index, earlier) in staged.enumerated() { stagedOfSlot[earlier.slot] = index }
        } else if staged.count > Self.linearMax {
            stagedOfSlot[section.slot] = staged.count - 1
        }
    }

    /// A block that is changed in part keeps old bytes: they must be sound, or the new checksum would hide the damage.
    private mutating func verifyEdges(_ image: Int, slot: Int, from: Int, to: Int) throws(StoreError) {
        guard let before = staged[image].before, before.size > 0 else { return }
        let first = min(from, before.size - 1) / Layout.blockBytes * Layout.blockBytes
        try memory.verify(before, slot: slot, from: first, to: first + 1)
        let last = (max(to, 1) - 1) / Layout.blockBytes * Layout.blockBytes
        if last != first, last < before.size { try memory.verify(before, slot: slot, from: last, to: last + 1) }
    }

    /// Extents for what is new, has grown out of its extent, or must not be written in place.
    private mutating func placeSections(
        omitsData: Bool, purpose: Transaction.Purpose, taken: inout [ExtentAllocator.Extent]
    ) throws(StoreError) {
        for index in staged.indices {
            guard let entry = staged[index].entry else { continue }
            let before = staged[index].before
            let room = purpose == .reserved ? staged[index].room : 0
            let largest = max(entry.size, staged[index].largest, room)
            if let before, !omitsData || purpose.isInPlace, largest <= before.capacity { continue }
            if before != nil, omitsData, !staged[index].hasData { continue }
            // A section that has grown once will grow again.
            var wanted = max(largest, staged[index].room)
            if let before { wanted = max(wanted, min(before.size * 2, before.size + (1 << 20))) }
            let extent = try take(SectionEntry.extentBytes(idLength: entry.idLength, size: wanted))
            taken.append(extent)
            staged[index].entry!.extent = extent
            staged[index].isMoved = true
            if let before, before.size > 0, !staged[index].isReplaced, !purpose.isInPlace {
                try verify(before, slot: staged[index].slot, from: 0, to: before.size)
            }
        }
    }

    private mutating func growTables(
        _ transaction: Transaction, root next: inout Root, taken: inout [ExtentAllocator.Extent]
    ) throws(StoreError) {
        let sectionSlots = (staged.map(\.slot).max() ?? -1) + 1
        let openerSlots = (transaction.openers.map(\.slot).max() ?? -1) + 1
        next.sections = try grown(
            next.sections, slots: sectionSlots, entryBytes: Layout.sectionEntryBytes, first: 1, taken: &taken)
        next.openers = try grown(
            next.openers, slots: openerSlots, entryBytes: Layout.openerEntryBytes, first: 1, taken: &taken)
    }

    /// The table itself if it is large enough, otherwise a larger copy of it in a free extent.
    private mutating func grown(
        _ area: Root.Area, slots: Int, entryBytes: Int, first: Int, taken: inout [ExtentAllocator.Extent]
    ) throws(StoreError) -> Root.Area {
        guard slots > area.capacity else { return area }
        guard slots <= Layout.entriesMax else { throw .noSpace("\(slots) table entries") }
        let wanted = max(slots, area.capacity * 2, first)
        let extent = try take(wanted * entryBytes)
        taken.append(extent)
        let capacity = min(extent.size / entryBytes, Layout.entriesMax)
        let kept = area.capacity * entryBytes
        if kept > 0 { memory.copy(memory.slice(area.extent.offset, kept), to: extent.offset) }
        memory.zero(at: extent.offset + kept, count: capacity * entryBytes - kept)
        return Root.Area(extent: extent, capacity: capacity)
    }

    /// Makes the log large enough for the record; true when its data must not go there.
    private mutating func makeRoomInLog(
        _ transaction: Transaction, root next: inout Root, taken: inout [ExtentAllocator.Extent]
    ) throws(StoreError) -> Bool {
        var bytes = RecordHead.bytes + (staged.count + transaction.openers.count) * RecordHead.imageBytes
        var data = 0
        for item in items {
            bytes += RecordItem.encodedBytes(idLength: item.idLength, dataLength: 0)
            data += item.length
        }
        let isLarge = bytes + data + 8 * items.count > limits.logBytesMax / 2
        let omitsData = transaction.purpose.isInPlace || isLarge
        if !omitsData { bytes += data + 8 * items.count }
        switch transaction.purpose {
        case .step, .piece, .reserved, .recalled, .told: break
        case .wipe, .copied: next.logStart = next.logEnd
        }
        if keepsForReplicas { wantLogForReplicas(record: bytes) }
        // A larger log is only welcome: without room for it the step goes on with the one there is.
        if next.log.capacity < logBytesWanted, bytes <= logBytesWanted / 2, let extent = try? take(logBytesWanted) {
            taken.append(extent)
            next.log = Root.Area(extent: extent, capacity: extent.size & ~7)
            next.logStart = next.logEnd
            return omitsData
        }
        guard bytes > next.log.capacity / 2 else { return omitsData }
        let extent = try take(max(limits.logBytesMin, bytes * (omitsData ? 2 : 4)))
        taken.append(extent)
        next.log = Root.Area(extent: extent, capacity: extent.size & ~7)
        next.logStart = next.logEnd
        return omitsData
    }

    /// A log larger than the data is of no use: to copy everything is cheaper then. But some of the largest updates
    /// must fit, so that a short stall of a follower does not cost a copy.
    private mutating func wantLogForReplicas(record bytes: Int) {
        let byData = min(max(memory.count, 16 << 10), 256 << 10)
        let most = 16 << 20
        let wanted = max(byData, min(bytes * 128, most))
        if wanted > logBytesWanted { logBytesWanted = max(wanted, min(logBytesWanted * 2, most)) }
    }

    /// A step that is about a whole table.
    private mutating func replaceTable(
        _ transaction: Transaction, root next: inout Root, taken: inout [ExtentAllocator.Extent]
    ) throws(StoreError) {
        switch transaction.purpose {
        case .step, .piece, .reserved, .recalled, .told: break
        case .wipe: next.sections = .none
        case .copied(let openers):
            let capacity = max(1, (openers.map(\.slot).max() ?? -1) + 1)
            guard capacity <= Layout.entriesMax else { throw .noSpace("\(capacity) openers") }
            let extent = try take(capacity * Layout.openerEntryBytes)
            taken.append(extent)
            memory.zero(at: extent.offset, count: capacity * Layout.openerEntryBytes)
            for opener in openers { writeOpener(opener, at: extent.offset + opener.slot * Layout.openerEntryBytes) }
            next.openers = Root.Area(extent: extent, capacity: capacity)
        }
    }

    private mutating func writeOpener(_ opener: RestoredCheckpoint.Opener, at offset: Int) {
        rootScratch.removeAll()
        OpenerEntry.encode(opener.record, to: &rootScratch)
        rootScratch.bytes.withUnsafeBytes { memory.copy($0, to: offset) }
        for (index, executed) in opener.executed.prefix(OpenerRecord.executedMax).enumerated() {
            memory.store(executed.number, at: offset + Layout.openerHeadBytes + index * 16)
            memory.store(executed.change, at: offset + Layout.openerHeadBytes + index * 16 + 8)
        }
    }

    /// Fills new extents with what does not change: id and old data. Nobody looks there yet.
    private mutating func prepareExtents() {
        for index in staged.indices where staged[index].isMoved {
            guard let entry = staged[index].entry else { continue }
            if let before = staged[index].before {
                memory.copy(memory.slice(before.extent.offset, before.idLength), to: entry.extent.offset)
                guard before.size > 0, !staged[index].isReplaced else { continue }
                memory.copy(memory.slice(before.dataOffset, before.size), to: entry.dataOffset)
                var copied = entry
                copied.size = max(entry.size, before.size)
                seal(copied, from: 0, to: before.size)
            } else {
                staged[index].newID.withUnsafeBytes { memory.copy($0, to: entry.extent.offset) }
            }
        }
    }

    /// The data of a step whose record does not carry it, to extents nobody reads yet.
    private mutating func writeData(_ transaction: Transaction, _ payload: UnsafeRawBufferPointer) {
        for (item, step) in zip(items, transaction.steps) {
            guard let entry = staged[item.image].entry else { continue }
            let data = step.operation.data
            write(item, entry, UnsafeRawBufferPointer(rebasing: payload[data.offset..<(data.offset + data.count)]))
        }
        for image in staged { if image.isMoved, let entry = image.entry { seal(entry, from: 0, to: entry.size) } }
        guard transaction.purpose.isInPlace else { return }
        for item in items where !staged[item.image].isMoved {
            guard let entry = staged[item.image].entry else { continue }
            seal(entry, from: min(item.priorSize, item.offset), to: item.offset + item.length)
        }
    }

    private mutating func write(_ item: RecordItem, _ entry: SectionEntry, _ data: UnsafeRawBufferPointer) {
        switch item.kind {
        case .create, .write, .overwrite:
            if item.kind == .write, item.offset > item.priorSize {
                memory.zero(at: entry.dataOffset + item.priorSize, count: item.offset - item.priorSize)
            }
            memory.copy(data, to: entry.dataOffset + item.offset)
        case .delete, .setExpiration, .expire, .require, .tag, .put: break
        }
    }

    private mutating func composeRecord(
        _ transaction: Transaction, _ payload: UnsafeRawBufferPointer, omitsData: Bool, isUpdate: Bool
    ) {
        scratch.removeAll()
        let flags =
            (isUpdate ? RecordHead.Flag.update : 0) | (omitsData ? RecordHead.Flag.dataOmitted : 0)
            | (staged.contains { $0.before == nil && $0.entry != nil } ? RecordHead.Flag.creates : 0)
        RecordHead(
            sequence: root.sequence + 1, change: transaction.state.change, previous: root.recordPosition,
            time: transaction.time, sectionImages: staged.count, openerImages: transaction.openers.count,
            items: items.count, flags: flags, nextSerial: transaction.state.nextSerial,
            execution: transaction.execution
        ).encode(to: &scratch)
        for image in staged {
            scratch.integer(UInt32(image.slot))
            scratch.integer(UInt32(0))
            if let entry = image.entry {
                entry.encode(to: &scratch, id: memory.slice(entry.extent.offset, entry.idLength))
            } else {
                for _ in 0..<(Layout.sectionImageBytes / 8) { scratch.integer(UInt64(0)) }
            }
        }
        for step in transaction.openers {
            scratch.integer(UInt32(step.slot))
            scratch.integer(UInt32(0))
            OpenerEntry.encode(step.opener, to: &scratch)
        }
        for (item, step) in zip(items, transaction.steps) {
            let data = step.operation.data
            item.encode(
                to: &scratch, id: step.operation.id.bytes,
                data: omitsData
                    ? nil : UnsafeRawBufferPointer(rebasing: payload[data.offset..<(data.offset + data.count)]))
        }
        RecordHead.seal(&scratch)
    }

    /// Puts the record behind the newest one, in one piece.
    private mutating func appendRecord(root next: inout Root) {
        let capacity = UInt64(next.log.capacity)
        let length = UInt64(scratch.count)
        var position = next.logEnd
        if position % capacity + length > capacity { position += capacity - position % capacity }
        scratch.bytes.withUnsafeBytes { memory.copy($0, to: next.log.extent.offset + Int(position % capacity)) }
        next.recordPosition = position
        next.logEnd = position + length
    }

    mutating func writeRoot() {
        rootScratch.removeAll()
        root.encoded(to: &rootScratch)
        rootScratch.bytes.withUnsafeBytes { memory.copy($0, to: Layout.rootOffset(root.sequence)) }
    }

    /// Carries out a published step. Doing it twice, or the second half twice, ends the same.
    mutating func carryOut(_ record: UnsafeRawBufferPointer, _ head: RecordHead) {
        // Readers who do not ask see by the sequence that what they have read is of two states.
        publishSequence(Layout.sequence(after: head.sequence) &- 1, record, head)
        var items = RecordItems(record, head)
        if !head.isDataOmitted {
            while let (item, _, data) = items.next() {
                guard item.length > 0, let entry = image(item.image, in: record) else { continue }
                write(item, entry, data)
            }
            items = RecordItems(record, head)
            while let (item, _, _) = items.next() {
                guard let entry = image(item.image, in: record) else { continue }
                seal(entry, from: min(item.priorSize, item.offset), to: item.offset + item.length)
            }
        }
        for index in 0..<head.sectionImages {
            let offset = head.sectionImagesOffset + index * RecordHead.imageBytes
            let slot = Int(UInt32(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            let entry = UnsafeRawBufferPointer(rebasing: record[(offset + 8)..<(offset + RecordHead.imageBytes)])
            memory.copy(entry, to: entryOffset(slot) + Layout.entryImageOffset)
        }
        publishSequence(Layout.sequence(after: head.sequence), record, head)
        if head.createsSections { memory.publish(head.sequence, at: Layout.createdOffset) }
        for index in 0..<head.openerImages {
            let offset = head.openerImagesOffset + index * RecordHead.imageBytes
            let slot = Int(UInt32(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            let opener = UnsafeRawBufferPointer(rebasing: record[(offset + 8)..<(offset + RecordHead.imageBytes)])
            memory.copy(opener, to: openerOffset(slot))
            memory.zero(at: openerOffset(slot) + Layout.openerHeadBytes, count: OpenerRecord.executedMax * 16)
        }
        if head.openerSlot != RecordHead.noOpener {
            let offset = openerOffset(Int(head.openerSlot)) + Layout.openerHeadBytes + Int(head.executedIndex) * 16
            memory.store(head.requestNumber, at: offset)
            memory.store(head.change, at: offset + 8)
        }
    }

    private mutating func publishSequence(
        _ sequence: UInt64, _ record: UnsafeRawBufferPointer, _ head: RecordHead
    ) {
        for index in 0..<head.sectionImages {
            let offset = head.sectionImagesOffset + index * RecordHead.imageBytes
            let slot = Int(UInt32(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            memory.publish(sequence, at: entryOffset(slot))
        }
    }

    /// The extent and sizes of a section image; only of a record that was composed here or has been checked.
    private func image(_ index: Int, in record: UnsafeRawBufferPointer) -> SectionEntry? {
        SectionEntry(trusted: record, at: RecordHead.bytes + index * RecordHead.imageBytes + 8)
    }

    /// Checks everything ``carryOut(_:_:)`` will rely on, for a record that comes from a file.
    func checkRecord(_ head: RecordHead, _ record: UnsafeRawBufferPointer) throws(StoreError) {
        var entries: [SectionEntry?] = []
        for index in 0..<head.sectionImages {
            let offset = head.sectionImagesOffset + index * RecordHead.imageBytes
            let slot = Int(UInt32(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            let bytes = UnsafeRawBufferPointer(rebasing: record[(offset + 8)..<(offset + RecordHead.imageBytes)])
            guard slot < root.sections.capacity else { throw .damaged("record: section slot \(slot)") }
            entries.append(try SectionEntry(bytes, file: memory.bytes, "record, section image \(index)"))
        }
        for index in 0..<head.openerImages {
            let offset = head.openerImagesOffset + index * RecordHead.imageBytes
            let slot = Int(UInt32(littleEndian: record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            guard slot < root.openers.capacity else { throw .damaged("record: opener slot \(slot)") }
        }
        if head.openerSlot != RecordHead.noOpener {
            guard head.openerSlot < root.openers.capacity, head.executedIndex < OpenerRecord.executedMax else {
                throw .damaged("record: opener \(head.openerSlot)")
            }
        }
        var items = RecordItems(record, head)
        while let (item, _, _) = items.next() {
            guard let entry = entries[item.image] else { continue }
            guard item.offset <= entry.capacity, item.length <= entry.capacity - item.offset,
                item.priorSize <= entry.capacity
            else { throw .damaged("record: item outside its extent") }
        }
        guard items.isAtEnd else { throw .damaged("record: items") }
        // What it writes to must not be what anything else lies in.
        var extents = [root.sections.extent, root.openers.extent, root.log.extent].filter { $0.size > 0 }
        extents += Set(entries.compactMap { $0?.extent })
        extents.sort { $0.offset < $1.offset }
        for (left, right) in zip(extents, extents.dropFirst()) where right.offset < left.end {
            throw .damaged("record: extent at \(right.offset) overlaps another")
        }
    }

    /// Brings what is kept beside the file up to date and gives back what the step left behind.
    private mutating func settle(_ transaction: Transaction, previous: Root) {
        if sections.count < root.sections.capacity {
            sections += Array(repeating: nil, count: root.sections.capacity - sections.count)
        }
        if openers.count < root.openers.capacity {
            openers += Array(repeating: nil, count: root.openers.capacity - openers.count)
        }
        for image in staged {
            if let before = image.before, before.extent != image.entry?.extent { allocator.release(before.extent) }
            sections[image.slot] = image.entry
        }
        for step in transaction.openers { openers[step.slot] = step.opener }
        switch transaction.purpose {
        case .step, .piece, .reserved, .recalled, .told: break
        case .wipe:
            for case let entry? in sections { allocator.release(entry.extent) }
            sections.removeAll()
        case .copied(let new):
            openers = Array(repeating: nil, count: root.openers.capacity)
            for opener in new { openers[opener.slot] = opener.record }
        }
        for (old, new) in [
            (previous.sections, root.sections), (previous.openers, root.openers), (previous.log, root.log),
        ]
        where old.extent != new.extent && old.extent.size > 0 {
            allocator.release(old.extent)
        }
        if transaction.purpose == .wipe { giveBack() }
    }
}

extension CheckpointImage {
    /// The memory behind what is in use, for whoever needs it meanwhile.
    private mutating func giveBack() {
        do throws(StoreError) { allocator = try findFreeSpace() } catch { return }
        memory.shrink(to: allocator.end)
    }
}

extension SectionEntry {
    /// An entry of ours; nil when free. Whether it is corrupted is not asked of it.
    fileprivate init?(trusted record: UnsafeRawBufferPointer, at offset: Int) {
        func word(_ delta: Int) -> Int {
            Int(truncatingIfNeeded: record.loadUnaligned(fromByteOffset: offset + delta, as: UInt64.self))
        }
        guard record.loadUnaligned(fromByteOffset: offset, as: UInt32.self) != 0 else { return nil }
        let idLength = Int(record.loadUnaligned(fromByteOffset: offset + 4, as: UInt16.self))
        self.init(
            idLength: idLength, extent: .init(offset: word(8), size: word(16)), size: word(24),
            expiration: Int64(word(32)), lastUpdate: Int64(word(40)), serial: UInt64(bitPattern: Int64(word(48))))
    }
}
