import LogClient
import LogProtocol
import OSAL
import SAFTypes
import Synchronization

/// Why a file is no ring, or is one no longer.
struct RingError: Error, CustomStringConvertible {
    let description: String
}

/// The reading half of a log ring. Loop thread only.
///
/// Whatever stands in the ring may have been written by a program gone wild: positions are checked against what they
/// were before, and each record is copied, checked and decoded there. Reading does not give the room back;
/// ``consume(to:)`` does, when the records are safe.
final class RingReader {
    enum Stop: Equatable {
        /// Nothing more is there.
        case empty
        /// A record is being written.
        case unfinished
        /// There is more than was asked for.
        case more
    }

    enum Item {
        case record(LogRecordView)
        /// This many records were dropped just before.
        case lost(UInt32)
    }

    let path: String
    let process: Int32
    let startTime: UInt64
    let inode: UInt64
    let origin: LineFormat.Origin
    private let file: SharedFile
    private let mapping: Mapping
    private let capacity: Int
    /// Everything before it was read.
    private(set) var position: UInt64
    /// Everything before it was given back. The word in the ring is only for the writers.
    private(set) var consumed: UInt64
    private(set) var recordCount: UInt64 = 0
    private(set) var corruptCount: UInt64 = 0
    private var scratch: UnsafeMutableRawBufferPointer

    /// - Throws: when the file is not a ring that belongs to the process in its name.
    init(directory: String, name: String) throws {
        guard let identity = RingLayout.parse(fileName: name) else {
            throw RingError(description: "'\(name)' is no ring's name")
        }
        path = directory + "/" + name
        (process, startTime) = identity
        file = try SharedFile.open(path, writable: true)
        let size = file.mapping.count
        let status = try File.stat(descriptor: file.raw)
        inode = status.inode
        // Every user may make files here: a ring is its writer's own and has this name only.
        let owner = try? File.stat("/proc/\(process)").userID  // nil: the writer is gone, its records stay
        guard status.links == 1, owner == nil || owner == status.userID || status.userID == 0 else {
            throw RingError(description: "\(path) is not a file of process \(process)'s own user")
        }
        guard size >= RingLayout.headerBytes else {
            throw RingError(description: "\(path) has \(size) bytes; a header expected")
        }
        let base = file.mapping.base
        let capacity = Int(base.load(fromByteOffset: RingLayout.capacityOffset, as: UInt32.self))
        guard base.load(fromByteOffset: RingLayout.magicOffset, as: UInt64.self) == RingLayout.magic,
            capacity >= RingLayout.capacityMin, capacity <= RingLayout.capacityMax, capacity & (capacity - 1) == 0,
            size == RingLayout.headerBytes + capacity
        else { throw RingError(description: "\(path) has no valid header for its \(size) bytes") }
        self.capacity = capacity
        mapping = try Mapping.mirrored(
            file.raw, headerBytes: RingLayout.headerBytes, dataBytes: capacity, writable: true)
        let flags = base.load(fromByteOffset: RingLayout.flagsOffset, as: UInt32.self)
        origin = LineFormat.Origin(
            node: Self.name(base + RingLayout.nodeOffset), process: process,
            program: Self.name(base + RingLayout.programOffset), hasTime: flags & RingLayout.flagNoTime == 0)
        consumed = base.atomic(UInt64.self, at: RingLayout.consumedOffset).pointee.load(ordering: .acquiring)
        position = consumed
        scratch = .allocate(byteCount: RecordLayout.padded(RecordLayout.bytesMax), alignment: 8)
        // No writer lives long enough for the upper bound; beyond it the sums of positions would wrap.
        guard consumed & 7 == 0, consumed >= RingLayout.firstPosition(capacity: capacity), consumed < 1 << 62 else {
            throw RingError(description: "\(path): nothing can be consumed up to \(consumed)")
        }
    }

    deinit { scratch.deallocate() }

    private static func name(_ place: UnsafeMutableRawPointer) -> [UInt8] {
        let count = Int(place.load(as: UInt8.self))
        return Array(UnsafeRawBufferPointer(start: place + 1, count: min(count, RingLayout.nameBytesMax)))
    }

    /// Records dropped in all, as the writer counts them.
    var lostCount: UInt64 {
        mapping.base.atomic(UInt64.self, at: RingLayout.lostTotalOffset).pointee.load(ordering: .relaxed)
    }

    /// Records dropped since the last one that fitted; for the end, when no further record will say it.
    func takeLost() -> UInt32 {
        mapping.base.atomic(UInt32.self, at: RingLayout.lostOffset).pointee.exchange(0, ordering: .relaxed)
    }

    /// How far writers have reserved, once it is certain that it is possible.
    private func reserved() throws(RingError) -> UInt64 {
        // A file that somebody cut would end this process by SIGBUS at the next touch.
        guard let size = try? File.stat(descriptor: file.raw).size, size == RingLayout.headerBytes + capacity else {
            throw RingError(description: "\(path) was cut")
        }
        let reserved = mapping.base.atomic(UInt64.self, at: RingLayout.reservedOffset).pointee
            .load(ordering: .sequentiallyConsistent)
        guard reserved & 7 == 0, reserved >= position, reserved &- consumed <= UInt64(capacity) else {
            throw RingError(description: "\(path): reserved up to \(reserved), consumed up to \(consumed): impossible")
        }
        return reserved
    }

    /// Whether there is something to be read or waited for.
    func hasNews() throws(RingError) -> Bool { try reserved() != position }

    /// Reads records in order.
    ///
    /// - Parameters:
    ///   - bytesMax: stops soon after this many bytes of the ring.
    ///   - writerIsDead: then nobody will finish what is unfinished, and it is skipped.
    /// - Throws: when the ring can no longer be trusted; nothing more is to be read from it.
    func read(bytesMax: Int, writerIsDead: Bool, _ deliver: (Item) -> Void) throws(RingError) -> Stop {
        let reserved = try reserved()
        let limit = position &+ UInt64(bytesMax)
        while position < reserved {
            if position >= limit { return .more }
            let place = address(position)
            let stamp = place.atomic(UInt64.self).pointee.load(ordering: .acquiring)
            if stamp == position | RecordLayout.committed {
                if let length = copy(place, available: reserved - position), let record = check(length) {
                    if record.lost > 0 { deliver(.lost(record.lost)) }
                    deliver(.record(record))
                    recordCount += 1
                    position += UInt64(RecordLayout.padded(length))
                    continue
                }
            } else if stamp == 0 || stamp == position | RecordLayout.writing {
                guard writerIsDead else { return .unfinished }
                // The length was stored before the stamp.
                if stamp != 0, let length = length(place, available: reserved - position) {
                    position += UInt64(RecordLayout.padded(length))
                } else {
                    skip(to: reserved)
                }
                continue
            }
            corruptCount += 1
            skip(to: reserved)
        }
        return .empty
    }

    private func address(_ position: UInt64) -> UnsafeMutableRawPointer {
        mapping.base + RingLayout.headerBytes + Int(position & UInt64(capacity - 1))
    }

    /// Goes to the next place that bears its own position as a stamp.
    private func skip(to end: UInt64) {
        position += 8
        while position < end {
            let stamp = address(position).atomic(UInt64.self).pointee.load(ordering: .acquiring)
            if stamp == position | RecordLayout.committed || stamp == position | RecordLayout.writing { return }
            position += 8
        }
    }

    private func length(_ place: UnsafeMutableRawPointer, available: UInt64) -> Int? {
        let length = Int(place.load(fromByteOffset: RecordLayout.lengthOffset, as: UInt32.self))
        guard length >= RecordLayout.textOffset, length <= RecordLayout.bytesMax,
            UInt64(RecordLayout.padded(length)) <= available
        else { return nil }
        return length
    }

    /// Copies a record to where nobody else can write.
    private func copy(_ place: UnsafeMutableRawPointer, available: UInt64) -> Int? {
        guard let length = length(place, available: available) else { return nil }
        scratch.baseAddress?.copyMemory(from: place, byteCount: length)
        return length
    }

    private func check(_ length: Int) -> LogRecordView? {
        let record = UnsafeRawBufferPointer(rebasing: scratch[..<length])
        let crc = record.loadUnaligned(fromByteOffset: RecordLayout.crcOffset, as: UInt32.self)
        let checked = UnsafeRawBufferPointer(rebasing: record[RecordLayout.lostOffset...])
        guard crc32c(checked) == crc else { return nil }
        return try? LogRecordView(decoding: record)  // what is wrong with it would interest nobody: it is counted
    }

    /// Gives the room before `end` back to the writers, zeroed. A position that was consumed already changes nothing.
    func consume(to end: UInt64) {
        guard end > consumed, end - consumed <= UInt64(capacity) else { return }
        guard let size = try? File.stat(descriptor: file.raw).size, size == RingLayout.headerBytes + capacity else {
            return
        }
        _ = UnsafeMutableRawBufferPointer(start: address(consumed), count: Int(end - consumed)).initializeMemory(
            as: UInt8.self, repeating: 0)
        consumed = end
        position = max(position, end)
        mapping.base.atomic(UInt64.self, at: RingLayout.consumedOffset).pointee.store(end, ordering: .releasing)
    }

    /// Puts the reading back to what was not yet given back.
    func rewind() { position = consumed }
}
