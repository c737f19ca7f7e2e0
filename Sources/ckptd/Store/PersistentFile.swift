public import CkptProtocol
public import DBAL
import OSAL
import SAFTypes

/// The database of a node's persistent checkpoints. Every call may wait for the disk: before ckptd serves anybody, then
/// on the loop's worker only, one at a time.
public final class PersistentFile: @unchecked Sendable {  // used by one thread at a time, see above
    /// What is in it. Data is read when it is needed.
    public struct Content: Sendable {
        public var lineage: UInt64?
        public var checkpoints: [StoredCheckpoint] = []
        /// What was damaged, and what that means; the database should be set aside.
        public var damages: [String] = []
    }

    /// Databases that were set aside and are kept for somebody to look at.
    public static let damagedMax = 3

    public let path: String
    private let engine: DatabaseEngine
    private var database: (any Database)?

    public init(_ path: String, _ engine: DatabaseEngine) {
        self.path = path
        self.engine = engine
    }

    /// Nothing was ever persistent, or all of it is gone.
    public var isMissing: Bool { !File.exists(path) && !File.exists(path + "-log") }

    /// All or nothing, and durable when it returns; creates the file.
    public func write(_ changes: [DatabaseChange]) throws(DatabaseError) { try opened().apply(changes) }

    public func close() {
        database?.close()
        database = nil
    }

    private func opened() throws(DatabaseError) -> any Database {
        if let database { return database }
        let opened = try engine.openMakingFolder(path)
        let form = try opened.value(of: PersistentRecords.formKey)
        if let form {
            let record = DatabaseRecord(key: PersistentRecords.formKey, value: form)
            guard let content = PersistentRecords.content(record) else {
                throw DatabaseError(.damaged, "\(path): its first record is not what was written")
            }
            let number = content.reversed().reduce(0) { $0 << 8 | Int($1) }
            guard number == PersistentRecords.form else {
                throw DatabaseError(.otherFormat, "\(path): form \(number); \(PersistentRecords.form) expected")
            }
        } else {
            guard try opened.records(from: [], limit: 1).isEmpty else {
                throw DatabaseError(.otherFormat, "\(path): no database of persistent checkpoints")
            }
            // That there is a file has to be durable before what is in it.
            do throws(OSError) { try File.synchronizeDirectory(File.parent(of: path)) } catch {
                throw DatabaseError(.failed, "\(path): \(error)")
            }
            try opened.apply([
                PersistentRecords.record(PersistentRecords.formKey) { $0.integer(PersistentRecords.form) }
            ])
        }
        database = opened
        return opened
    }

    // MARK: The start

    /// Everything but data.
    public func load() throws(DatabaseError) -> Content {
        let database = try opened()
        var content = Content()
        if let bytes = try database.value(of: PersistentRecords.lineageKey) {
            let record = DatabaseRecord(key: PersistentRecords.lineageKey, value: bytes)
            let found = PersistentRecords.content(record).flatMap { try? UInt64(decodedFrom: Array($0)) }
            content.lineage = found
            if found == nil { content.damages.append("which directory it belongs to cannot be read") }
        }
        var heads: [(CheckpointID, PersistentHead)] = []
        scan(database, PersistentRecords.heads, &content.damages, "the list of checkpoints") { record in
            guard let id = PersistentRecords.parse(record.key, PersistentRecords.heads, numbers: 0)?.id else {
                return "a key of \(record.key.count) bytes that is none"
            }
            guard let bytes = PersistentRecords.content(record), let head = try? PersistentHead(decoding: Array(bytes))
            else { return "checkpoint \(id) is lost: its head is not what was written" }
            heads.append((id, head))
            return nil
        }
        for (id, head) in heads {
            var lost: [String] = []
            var stored = StoredCheckpoint(checkpoint: id, head: head, sections: [])
            let prefix = PersistentRecords.key(PersistentRecords.sections, id)
            scan(database, prefix, &lost, "its sections") { record in
                guard
                    let slot = PersistentRecords.parse(record.key, PersistentRecords.sections, numbers: 1)?.numbers[0],
                    let descriptor = PersistentRecords.content(record).flatMap(Self.descriptor)?.descriptor
                else { return "a section is not what was written" }
                stored.sections.append(.init(slot: slot, descriptor: descriptor))
                return nil
            }
            scan(database, PersistentRecords.key(PersistentRecords.writers, id), &lost, "its writers") { record in
                guard let slot = PersistentRecords.parse(record.key, PersistentRecords.writers, numbers: 1)?.numbers[0],
                    let opener = PersistentRecords.content(record).flatMap({
                        PersistentRecords.writer(slot: slot, $0)
                    })
                else { return "what was executed for a writer is not what was written" }
                stored.writers.append(opener)
                return nil
            }
            if lost.isEmpty {
                content.checkpoints.append(stored)
            } else {
                content.damages.append("checkpoint \(head.name) (\(id)) is lost: \(lost[0])")
            }
        }
        return content
    }

    private static func descriptor(
        _ bytes: ArraySlice<UInt8>
    ) -> (descriptor: SectionDescriptor, data: ArraySlice<UInt8>)? {
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            guard let descriptor = try? reader.value(SectionDescriptor.self) else { return nil }
            return (descriptor, bytes.dropFirst(reader.offset))
        }
    }

    /// - Parameter take: what is wrong with the record, if anything.
    private func scan(
        _ database: any Database, _ prefix: [UInt8], _ damages: inout [String], _ what: String,
        _ take: (DatabaseRecord) -> String?
    ) {
        var next = prefix
        while true {
            let page: [DatabaseRecord]
            do throws(DatabaseError) {
                page = try database.records(from: next, limit: 256)
            } catch {
                return damages.append("\(what): \(error)")
            }
            for record in page {
                guard record.key.starts(with: prefix) else { return }
                if let wrong = take(record) { damages.append(wrong) }
            }
            guard let last = page.last, page.count == 256 else { return }
            next = last.key + [0]
        }
    }

    /// Some of a section's data.
    ///
    /// - Returns: As many bytes as were asked for; nil when the disk has not what was written there.
    public func read(_ id: CheckpointID, slot: Int, size: Int, blocks: Range<Int>) -> [UInt8]? {
        guard let database else { return nil }
        if PersistentLayout.blocks(size) == 0 {
            let key = PersistentRecords.sectionKey(id, slot)
            guard let value = try? database.value(of: key),
                let content = PersistentRecords.content(DatabaseRecord(key: key, value: value)),
                let data = Self.descriptor(content)?.data, data.count == size
            else { return nil }
            return Array(data)
        }
        var data: [UInt8] = []
        data.reserveCapacity(blocks.count * PersistentLayout.blockBytes)
        for block in blocks {
            let key = PersistentRecords.blockKey(id, slot, block)
            let count = min(PersistentLayout.blockBytes, size - block * PersistentLayout.blockBytes)
            guard let value = try? database.value(of: key),
                let content = PersistentRecords.content(DatabaseRecord(key: key, value: value)), content.count == count
            else { return nil }
            data += content
        }
        return data
    }

    // MARK: Trouble

    /// Moves it out of the way with everything that belongs to it; a later ``write(_:)`` begins a new one.
    ///
    /// - Returns: Where it is now.
    public func setAside() throws(OSError) -> String {
        close()
        let folder = File.parent(of: path)
        let name = String(path.dropFirst(folder.utf8.count).drop { $0 == "/" })
        // 19 digits until the year 2286: the names sort by age.
        let mark = ".damaged-\(MonotonicClock.wallNanoseconds())"
        let names = try File.list(folder)
        for found in names where found == name || found.hasPrefix(name + "-") {
            try File.rename(folder + "/" + found, to: folder + "/" + name + mark + found.dropFirst(name.utf8.count))
        }
        let old = Set(names.filter { $0.hasPrefix(name + ".damaged-") }.map { String($0.prefix(name.utf8.count + 28)) })
        for mark in old.sorted().dropLast(Self.damagedMax - 1) {
            for found in names where found.hasPrefix(mark) { try File.removeTree(folder + "/" + found) }
        }
        return path + mark
    }
}

extension UInt64 {
    fileprivate init(decodedFrom bytes: [UInt8]) throws(DecodeError) {
        guard bytes.count == 8 else { throw .badValue("\(bytes.count) bytes of a number; 8 expected") }
        self = bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
