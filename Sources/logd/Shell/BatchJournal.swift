import LogEngine
import LogProtocol
import OSAL
import SAFTypes
import Synchronization

/// What one batch writes, and what it takes from the rings.
struct BatchPlan: Hashable, Sendable, WireCodable {
    struct Piece: Hashable, Sendable {
        var stream: LogStream
        var segment: FileSeries.Segment
    }

    struct Taken: Hashable, Sendable {
        var process: Int32
        var startTime: UInt64
        var inode: UInt64
        var end: UInt64
    }

    /// In the order in which they are written.
    var pieces: [Piece] = []
    var taken: [Taken] = []
    /// How far the records of global streams that it takes go in the spool.
    var spooled: SpoolMark?

    init(pieces: [Piece], taken: [Taken], spooled: SpoolMark? = nil) {
        (self.pieces, self.taken, self.spooled) = (pieces, taken, spooled)
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32(pieces.count))
        for piece in pieces {
            writer.value(piece.stream)
            writer.string(piece.segment.file)
            writer.integer(piece.segment.offset)
            writer.integer(UInt32(piece.segment.range.count))
        }
        writer.integer(UInt32(taken.count))
        for ring in taken {
            writer.integer(ring.process)
            writer.integer(ring.startTime)
            writer.integer(ring.inode)
            writer.integer(ring.end)
        }
        writer.optional(spooled)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let stream: LogStream = try reader.value()
            let file = try reader.string(max: 255)
            guard !file.contains("/") else { throw .badValue("file '\(file)'; a name without a slash expected") }
            let offset = try reader.integer(UInt64.self)
            guard offset <= UInt64(Int64.max) / 2 else { throw .badValue("offset \(offset)") }
            let count = Int(try reader.integer(UInt32.self))
            pieces.append(Piece(stream: stream, segment: .init(file: file, offset: offset, range: 0..<count)))
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            taken.append(
                Taken(
                    process: try reader.integer(), startTime: try reader.integer(), inode: try reader.integer(),
                    end: try reader.integer()))
        }
        spooled = try reader.optional()
    }
}

/// Remembers, in shared memory, the batch that is being written, so that a killed logd neither loses nor repeats a
/// record: its next life sees from the files whether the batch was written.
///
/// valid u32 · length u32 · crc u32 · plan. Only logd writes it; a process's death leaves all stores before it.
final class BatchJournal {
    private static let bytes = 256 * 1024
    private static let planOffset = 16
    private let file: SharedFile

    init(directory: String) throws(OSError) {
        let path = directory + "/batch"
        // As root the directory is everybody's: a note that somebody else has put there would cut files at his wish.
        if let file = try? SharedFile.open(path, writable: true), file.mapping.count == Self.bytes,
            (try? File.stat(descriptor: file.raw))?.userID == Environment.userID
        {
            self.file = file
        } else {
            file = try SharedFile.create(path, size: Self.bytes, mode: 0o600)
        }
    }

    private var base: UnsafeMutableRawPointer { file.mapping.base }

    /// The batch the former life left unfinished.
    var pending: BatchPlan? {
        let length = Int(base.load(fromByteOffset: 4, as: UInt32.self))
        guard base.load(as: UInt32.self) == 1, length <= Self.bytes - Self.planOffset else { return nil }
        let raw = UnsafeRawBufferPointer(start: base + Self.planOffset, count: length)
        guard crc32c(raw) == base.load(fromByteOffset: 8, as: UInt32.self) else { return nil }
        return try? BatchPlan(decoding: raw)
    }

    /// A plan too large to be kept is not: that batch may be repeated.
    func begin(_ plan: BatchPlan) {
        let encoded = plan.encoded
        guard encoded.count <= Self.bytes - Self.planOffset else { return }
        (base + Self.planOffset).copyMemory(from: encoded, byteCount: encoded.count)
        base.storeBytes(of: UInt32(encoded.count), toByteOffset: 4, as: UInt32.self)
        encoded.withUnsafeBytes { base.storeBytes(of: crc32c($0), toByteOffset: 8, as: UInt32.self) }
        base.atomic(UInt32.self).pointee.store(1, ordering: .releasing)
    }

    func end() { base.atomic(UInt32.self).pointee.store(0, ordering: .releasing) }
}
