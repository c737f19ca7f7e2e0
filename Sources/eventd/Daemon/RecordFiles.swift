import EventEngine
import OSAL
import SAFTypes

/// Kept records, one file each in a RAM directory: written beside and renamed, so a kill leaves the old or the new one.
///
/// File: crc32c u32 of the record · record.
struct RecordFiles {
    private let directory: String

    init(places: Places) throws(OSError) {
        directory = places.shmDirectory + "/eventd"
        try File.makeDirectories(directory, mode: 0o700)
    }

    func keep(_ key: RecordKey, _ record: Record) throws(OSError) {
        let bytes = record.encoded
        var writer = ByteWriter()
        writer.integer(bytes.withUnsafeBytes { crc32c($0) })
        writer.raw(bytes)
        try File.writeAtomically("\(directory)/\(key)", writer.bytes, durable: false, mode: 0o600)
    }

    func forget(_ key: RecordKey) { _ = try? File.remove("\(directory)/\(key)") }

    /// What an earlier life kept; damaged files are moved aside and named in `damaged`.
    func load() -> (records: [(key: String, record: Record)], damaged: [String]) {
        var records: [(key: String, record: Record)] = []
        var damaged: [String] = []
        for name in ((try? File.list(directory)) ?? []).sorted() {
            let path = "\(directory)/\(name)"
            guard name.hasPrefix("channel-") || name.hasPrefix("event-") else {
                // Left by a kill while writing beside.
                if !name.hasPrefix("damaged-") { _ = try? File.remove(path) }
                continue
            }
            if let record = read(path) {
                records.append((name, record))
            } else {
                damaged.append(path)
                try? File.rename(path, to: "\(directory)/damaged-\(name)")
            }
        }
        return (records, damaged)
    }

    private func read(_ path: String) -> Record? {
        guard let bytes = try? File.readAll(path, limit: 1 << 20), bytes.count > 4 else { return nil }
        let body = Array(bytes[4...])
        let sum = bytes.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
        guard body.withUnsafeBytes({ crc32c($0) }) == sum else { return nil }
        return try? Record(decoding: body)
    }
}
