import EOLoop
import LogProtocol
import OSAL
import SAFTypes

/// Which processes of this node have which global stream open: until they close it, or end. Loop thread only.
///
/// Kept in a file in memory, so that a stream outlives a killed logd.
final class StreamOpeners {
    struct Opener: Hashable, Sendable, WireCodable {
        var process: Int32
        var startTime: UInt64
        var stream: StreamID

        init(process: Int32, startTime: UInt64, stream: StreamID) {
            (self.process, self.startTime, self.stream) = (process, startTime, stream)
        }

        func encode(to writer: inout ByteWriter) {
            writer.integer(process)
            writer.integer(startTime)
            writer.value(stream)
        }

        init(decoding reader: inout ByteReader) throws(DecodeError) {
            process = try reader.integer()
            startTime = try reader.integer()
            stream = try reader.value()
        }
    }

    static let openersMax = 4096

    /// Nobody of this node has it open any more.
    var onUnused: (StreamID) -> Void = { _ in }
    private let loop: Loop
    private let path: String
    private var openers: [Opener] = []
    private var watched: [Opener: (pidfd: SharedDescriptor, watch: WatchID)] = [:]

    init(loop: Loop, path: String) {
        (self.loop, self.path) = (loop, path)
        // As root the directory is everybody's.
        guard (try? File.stat(path, followLinks: false))?.userID == Environment.userID,
            let bytes = try? File.readAll(path, limit: 1 << 20)
        else { return }
        var found: [Opener] = []
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            found = (try? reader.list(max: Self.openersMax)) ?? []
        }
        openers = found.filter { Process.isAlive($0.process, startTime: $0.startTime) }
        for opener in openers { watch(opener) }
    }

    /// Ascending.
    var streams: [StreamID] { Array(Set(openers.map(\.stream))).sorted() }

    /// False when there are too many.
    func add(_ opener: Opener) -> Bool {
        if openers.contains(opener) { return true }
        guard openers.count < Self.openersMax else { return false }
        openers.append(opener)
        keep()
        watch(opener)
        return true
    }

    func remove(_ opener: Opener) {
        guard openers.contains(opener) else { return }
        openers.removeAll { $0 == opener }
        if let watched = watched.removeValue(forKey: opener) { loop.unwatch(watched.watch) }
        keep()
        if !openers.contains(where: { $0.stream == opener.stream }) { onUnused(opener.stream) }
    }

    private func watch(_ opener: Opener) {
        do throws(OSError) {
            let pidfd = SharedDescriptor(try Process.pidfdOpen(opener.process))
            let watch = try loop.watch(pidfd.raw, [.read], lane: .low) { [weak self] _ in self?.remove(opener) }
            watched[opener] = (pidfd, watch)
            if Process.isAlive(opener.process, startTime: opener.startTime) { return }
        } catch {}
        // It is dead already, or cannot be watched.
        loop.enqueue(.low) { [weak self] in self?.remove(opener) }
    }

    /// Without it a killed logd forgets who has a stream open, and another opener is needed to keep it.
    private func keep() {
        var writer = ByteWriter()
        writer.list(openers)
        _ = try? File.writeAtomically(path, writer.bytes, durable: false, mode: 0o600)
    }

    func close() {
        for (_, watched) in watched { loop.unwatch(watched.watch) }
        watched = [:]
    }
}
