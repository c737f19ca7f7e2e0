import EOLoop
import LogClient
import LogProtocol
import OSAL
import Synchronization

/// All rings of the node, and who writes them. Loop thread only.
final class RingTable {
    final class Entry {
        let name: String
        let reader: RingReader
        fileprivate(set) var isWriterDead: Bool
        /// Not read any more: its content was impossible.
        fileprivate(set) var isSetAside = false
        fileprivate var pidfd: SharedDescriptor?
        fileprivate var watch: WatchID?

        fileprivate init(name: String, reader: RingReader, pidfd: SharedDescriptor?) {
            (self.name, self.reader, self.pidfd, isWriterDead) = (name, reader, pidfd, pidfd == nil)
        }
    }

    static let ringsMax = 2048

    /// By name.
    private(set) var entries: [Entry] = []
    private let loop: Loop
    private let directory: String
    private let note: (String) -> Void
    private let onDeath: () -> Void
    /// Files that are no rings, reported once.
    private var refused: Set<String> = []

    init(loop: Loop, directory: String, note: @escaping (String) -> Void, onDeath: @escaping () -> Void) {
        (self.loop, self.directory, self.note, self.onDeath) = (loop, directory, note, onDeath)
    }

    /// Looks which rings are there; true when there is a new one.
    func scan() -> Bool {
        guard let names = try? File.list(directory) else { return false }  // gone with the node's places
        var hasNew = false
        for name in names where RingLayout.parse(fileName: name) != nil && !refused.contains(name) {
            if let entry = entries.first(where: { $0.name == name }) {
                // Another program in the same process has replaced the ring: the old one has no writer any more.
                let inode = try? File.stat(directory + "/" + name).inode
                if inode != entry.reader.inode { markDead(entry) }
                continue
            }
            guard entries.count < Self.ringsMax else { break }
            do {
                let reader = try RingReader(directory: directory, name: name)
                entries.append(watched(Entry(name: name, reader: reader, pidfd: Self.writer(of: reader))))
                hasNew = true
            } catch {
                refuse(name, error)
            }
        }
        refused.formIntersection(names)
        return hasNew
    }

    /// Nobody will ever read it: it stays for as long as its process lives, and is reported once.
    private func refuse(_ name: String, _ error: any Error) {
        note("a log ring is not read: \(error)")
        if let (process, startTime) = RingLayout.parse(fileName: name), !Process.isAlive(process, startTime: startTime)
        {
            _ = try? File.remove(directory + "/" + name)
        } else {
            refused.insert(name)
        }
    }

    /// A descriptor of the very process that writes; nil when it is dead.
    private static func writer(of reader: RingReader) -> SharedDescriptor? {
        guard let pidfd = try? Process.pidfdOpen(reader.process) else { return nil }
        // The pid may have a new owner; start time 0 was written where there is no /proc.
        let startTime = Process.startTime(of: reader.process)
        guard reader.startTime == 0 || startTime == reader.startTime else { return nil }
        return SharedDescriptor(pidfd)
    }

    private func watched(_ entry: Entry) -> Entry {
        guard let pidfd = entry.pidfd else { return entry }
        entry.watch = try? loop.watch(pidfd.raw, [.read], lane: .low) { [weak self, weak entry] _ in
            guard let self, let entry else { return }
            markDead(entry)
            onDeath()
        }
        return entry
    }

    private func markDead(_ entry: Entry) {
        entry.watch.map { loop.unwatch($0) }
        entry.watch = nil
        entry.pidfd = nil
        entry.isWriterDead = true
    }

    /// A ring that cannot be trusted: its records are given up, the others are read on.
    func setAside(_ entry: Entry, _ error: RingError) {
        guard !entry.isSetAside else { return }
        entry.isSetAside = true
        note("a log ring is set aside, what its process logs from now on is lost: \(error)")
    }

    /// Removes a dead process's ring, of which nothing is wanted any more.
    func remove(_ entry: Entry) {
        markDead(entry)
        entries.removeAll { $0 === entry }
        // A new ring of the same name stays.
        let path = directory + "/" + entry.name
        if let inode = try? File.stat(path).inode, inode == entry.reader.inode { _ = try? File.remove(path) }
    }

    func close() {
        for entry in entries { markDead(entry) }
        entries = []
    }
}
