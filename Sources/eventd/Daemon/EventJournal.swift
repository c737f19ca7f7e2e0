import EOReplicated
import OSAL

/// Records in a file in memory that outlive a killed eventd: appended with one write(2), replaced by rename.
///
/// What a kill cuts off at the end is recognised and dropped. A record that cannot be written (the file system is full)
/// breaks the journal: nothing is appended any more until a snapshot has replaced it, so that it never has a hole.
final class EventJournal {
    /// A new snapshot is due after so many bytes, or twice the last snapshot.
    static let bytesMin = 4 << 20

    let path: String
    private var framer: JournalFramer
    private var file: SharedDescriptor?
    private var bytes = 0
    private var snapshotBytes = 0
    private(set) var isBroken = false
    /// What the previous life left; taken once.
    private(set) var records: [[UInt8]]
    /// The previous life was killed inside a write.
    let wasTorn: Bool

    init(path: String) throws(OSError) {
        self.path = path
        let checksum: JournalFramer.Checksum = { crc32c($0, seed: 0) }
        var contents = JournalContents()
        do throws(OSError) {
            contents = JournalFramer.read(try File.readAll(path, limit: 1 << 30), checksum: checksum)
        } catch {
            if !error.isNotFound { throw error }
        }
        records = contents.records
        wasTorn = contents.isTorn
        bytes = contents.validBytes
        framer = JournalFramer(after: contents.lastSequence, checksum: checksum)
        // Behind a torn record nothing would be found again.
        if records.isEmpty { setAside() } else if wasTorn { try File.truncate(path, to: contents.validBytes) }
    }

    func takeRecords() -> [[UInt8]] {
        defer { records = [] }
        return records
    }

    /// Puts an unreadable journal aside, for people.
    func setAside() {
        // Nothing is there, or the next snapshot replaces it.
        if File.exists(path) { try? File.rename(path, to: path + ".damaged") }
    }

    var isSnapshotDue: Bool { isBroken || bytes > max(Self.bytesMin, 2 * snapshotBytes) }

    func append(_ record: [UInt8]) throws(OSError) {
        guard !isBroken else { return }
        do throws(OSError) {
            let frame = ContiguousArray(framer.frame(record))
            let file = try opened()
            try frame.withUnsafeBufferPointer { (buffer) throws(OSError) in
                try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
            }
            bytes += frame.count
        } catch {
            isBroken = true
            throw error
        }
    }

    func replace(with snapshot: [UInt8]) throws(OSError) {
        file = nil
        do throws(OSError) {
            let frame = framer.frame(snapshot)
            try File.writeAtomically(path, frame, durable: false, mode: 0o600)
            (bytes, snapshotBytes, isBroken) = (frame.count, frame.count, false)
        } catch {
            isBroken = true
            throw error
        }
    }

    private func opened() throws(OSError) -> SharedDescriptor {
        if let file { return file }
        let opened = SharedDescriptor(try File.openForAppending(path, mode: 0o600))
        file = opened
        return opened
    }
}
