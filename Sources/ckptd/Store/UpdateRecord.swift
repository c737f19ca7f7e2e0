import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

/// A step as it stands in the log: everything needed to carry it out (again), and what subscribers are told of it.
///
/// head: length u32 · crc u32 · sequence u64 · change u64 · previous position u64 · time i64 · section images u32 ·
/// opener images u32 · items u32 · flags u32 · opener slot u32 · index u32 · request number u64 · next serial u64 ·
/// writer 28 · 0 u32.
/// section image: slot u32 · 0 u32 · entry (64). opener image: slot u32 · 0 u32 · opener head (64).
/// item: kind u8 · 0 u8 · id length u16 · image u32 · offset u64 · length u64 · size before u64 · expiration i64 · id ·
/// data · zeroes to a multiple of 8.
struct RecordHead: Hashable {
    static let bytes = 112
    static let imageBytes = 8 + 64
    static let itemBytes = 40
    private static let nobody = RequestWriter(
        handle: HandleID(rawValue: 0), node: NodeID(0), session: ClientSession(high: 0, low: 0))
    /// No opener: nobody's request.
    static let noOpener = UInt32.max
    /// Positions start here, so that 0 is never a previous record.
    static let noPosition = UInt64.max

    enum Flag {
        /// The step is an update: it has the change number, and subscribers are told.
        static let update: UInt32 = 1
        /// The data did not go into the log but straight to new extents; the update cannot be told from here.
        static let dataOmitted: UInt32 = 2
        /// There are sections after the step that were not there before it.
        static let creates: UInt32 = 4
    }

    var length: Int
    var sequence: UInt64
    var change: UInt64
    var previous: UInt64
    var time: SaTime
    var sectionImages: Int
    var openerImages: Int
    var items: Int
    var flags: UInt32
    var openerSlot: UInt32
    var executedIndex: UInt32
    var requestNumber: UInt64
    /// The next section's serial after the step.
    var nextSerial: UInt64
    /// Whose request it was; by then the opener's place may be another's.
    var writer: RequestWriter

    var hasWriter: Bool { openerSlot != Self.noOpener }

    var isUpdate: Bool { flags & Flag.update != 0 }
    var isDataOmitted: Bool { flags & Flag.dataOmitted != 0 }
    var createsSections: Bool { flags & Flag.creates != 0 }

    func encode(to out: inout ByteWriter) {
        out.integer(UInt32(0))
        out.integer(UInt32(0))
        out.integer(sequence)
        out.integer(change)
        out.integer(previous)
        out.integer(time)
        out.integer(UInt32(sectionImages))
        out.integer(UInt32(openerImages))
        out.integer(UInt32(items))
        out.integer(flags)
        out.integer(openerSlot)
        out.integer(executedIndex)
        out.integer(requestNumber)
        out.integer(nextSerial)
        out.value(writer)
        out.integer(UInt32(0))
    }

    /// Completes a record that fills `writer`: length and checksum.
    static func seal(_ writer: inout ByteWriter) {
        writer.patch(UInt32(writer.count), at: 0)
        let checksum = writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[8...])) }
        writer.patch(checksum, at: 4)
    }

    /// Nil when these bytes do not begin with a sound record. One composed a moment ago needs no second checksum.
    init?(_ bytes: UnsafeRawBufferPointer, isOurs: Bool = false) {
        var reader = ByteReader(bytes)
        do throws(DecodeError) {
            length = Int(try reader.integer(UInt32.self))
            let stored = try reader.integer(UInt32.self)
            guard length >= Self.bytes, length <= bytes.count, length % 8 == 0 else { return nil }
            guard isOurs || crc32c(UnsafeRawBufferPointer(rebasing: bytes[8..<length])) == stored else { return nil }
            sequence = try reader.integer()
            change = try reader.integer()
            previous = try reader.integer()
            time = try reader.integer()
            sectionImages = Int(try reader.integer(UInt32.self))
            openerImages = Int(try reader.integer(UInt32.self))
            items = Int(try reader.integer(UInt32.self))
            flags = try reader.integer()
            openerSlot = try reader.integer()
            executedIndex = try reader.integer()
            requestNumber = try reader.integer()
            nextSerial = try reader.integer()
            writer = try reader.value()
        } catch {
            return nil
        }
        guard flags & ~7 == 0, Self.bytes + (sectionImages + openerImages) * Self.imageBytes <= length else {
            return nil
        }
    }

    init(
        sequence: UInt64, change: UInt64, previous: UInt64, time: SaTime, sectionImages: Int, openerImages: Int,
        items: Int, flags: UInt32, nextSerial: UInt64, execution: Transaction.Execution?
    ) {
        length = 0
        self.sequence = sequence
        self.change = change
        self.previous = previous
        self.time = time
        self.sectionImages = sectionImages
        self.openerImages = openerImages
        self.items = items
        self.flags = flags
        openerSlot = execution.map { UInt32($0.openerSlot) } ?? Self.noOpener
        executedIndex = UInt32(execution?.index ?? 0)
        requestNumber = execution?.number ?? 0
        self.nextSerial = nextSerial
        writer = execution?.writer ?? Self.nobody
    }

    var sectionImagesOffset: Int { Self.bytes }
    var openerImagesOffset: Int { Self.bytes + sectionImages * Self.imageBytes }
    var itemsOffset: Int { openerImagesOffset + openerImages * Self.imageBytes }
}

/// One item of a record, its id and data as places within the record.
struct RecordItem: Hashable {
    var kind: SectionOperation.Kind
    /// Which of the record's section images it works on.
    var image: Int
    var offset: Int
    var length: Int
    /// Size of the section before this item: what lies between it and `offset` is filled with zeroes.
    var priorSize: Int
    var expiration: SaTime
    var idLength: Int

    func encode(to writer: inout ByteWriter, id: [UInt8], data: UnsafeRawBufferPointer?) {
        writer.integer(kind.rawValue)
        writer.integer(UInt8(0))
        writer.integer(UInt16(truncatingIfNeeded: id.count))
        writer.integer(UInt32(image))
        writer.integer(UInt64(offset))
        writer.integer(UInt64(length))
        writer.integer(UInt64(priorSize))
        writer.integer(expiration)
        writer.raw(id)
        if let data { writer.raw(data) }
        while writer.count % 8 != 0 { writer.integer(UInt8(0)) }
    }

    static func encodedBytes(idLength: Int, dataLength: Int) -> Int {
        (RecordHead.itemBytes + idLength + dataLength + 7) & ~7
    }
}

/// Walks the items of a sound record; total: stops with nil at anything that does not fit.
struct RecordItems {
    let record: UnsafeRawBufferPointer
    let head: RecordHead
    private var reader: ByteReader
    private var remaining: Int

    init(_ record: UnsafeRawBufferPointer, _ head: RecordHead) {
        self.record = record
        self.head = head
        let start = min(head.itemsOffset, record.count)
        reader = ByteReader(UnsafeRawBufferPointer(rebasing: record[start...]))
        remaining = head.items
    }

    var isAtEnd: Bool { remaining == 0 }

    mutating func next() -> (item: RecordItem, id: UnsafeRawBufferPointer, data: UnsafeRawBufferPointer)? {
        guard remaining > 0 else { return nil }
        do throws(DecodeError) {
            let kind = try SectionOperation.Kind.decode(from: &reader)
            _ = try reader.integer(UInt8.self)
            let idLength = Int(try reader.integer(UInt16.self))
            let image = Int(try reader.integer(UInt32.self))
            guard let offset = Int(exactly: try reader.integer(UInt64.self)),
                let length = Int(exactly: try reader.integer(UInt64.self)),
                let prior = Int(exactly: try reader.integer(UInt64.self))
            else { return nil }
            let expiration = try reader.integer(Int64.self)
            let id = try reader.view(idLength)
            let data = try reader.view(head.isDataOmitted ? 0 : length)
            let padding = (8 - reader.offset % 8) % 8
            _ = try reader.view(padding)
            guard image < head.sectionImages, kind.isStep else { return nil }
            remaining -= 1
            return (
                RecordItem(
                    kind: kind, image: image, offset: offset, length: length, priorSize: prior, expiration: expiration,
                    idLength: idLength), id, data
            )
        } catch {
            return nil
        }
    }
}
