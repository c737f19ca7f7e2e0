import EOReplicated
import OSAL

/// The journal of the name table: a file in memory, so that a killed clmd finds its table again.
///
/// Appending is one write(2); what a kill cuts off is recognised and dropped. It does not outlive a reboot, and need
/// not: neither does anybody who bound a name.
final class NameJournal {
    private let path: String
    private var framer: JournalFramer
    private var file: SharedDescriptor?
    /// What the previous life left.
    let records: [[UInt8]]

    init(places: Places, note: (String) -> Void) throws(OSError) {
        path = places.shmDirectory + "/clmd.names"
        try File.makeDirectories(places.shmDirectory)
        let checksum: JournalFramer.Checksum = { crc32c($0, seed: 0) }
        var contents = JournalContents()
        do throws(OSError) {
            contents = JournalFramer.read(try File.readAll(path), checksum: checksum)
        } catch {
            if !error.isNotFound { throw error }
        }
        if contents.isTorn { note("\(path) ends in the middle of a record, which is dropped") }
        records = contents.records
        framer = JournalFramer(after: contents.lastSequence, checksum: checksum)
    }

    private func opened() throws(OSError) -> SharedDescriptor {
        if let file { return file }
        let opened = SharedDescriptor(try File.openForAppending(path, mode: 0o600))
        file = opened
        return opened
    }

    func write(_ write: JournalWrite) throws(OSError) {
        switch write {
        case .append(let payload):
            let bytes = ContiguousArray(framer.frame(payload))
            let file = try opened()
            try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
                try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
            }
        case .replace(let payload):
            file = nil
            try File.writeAtomically(path, framer.frame(payload), durable: false, mode: 0o600)
        }
    }
}
