import EngineKit
import OSAL

/// What the components tell about themselves in the shared folder, read from outside; see `Progress.swift` of the
/// example.
final class Observer {
    struct Assignment: Equatable {
        var haState: String
        var at: Instant
        var pid: Int32
    }

    private let folder: String
    private var page: Mapping?

    init(folder: String) { self.folder = folder }

    /// Bytes of the text that are counted and committed.
    var position: UInt64 { word(0) }
    /// The longest time between two commits.
    var longestGap: Duration { .nanoseconds(Int64(clamping: word(2))) }
    var commits: UInt64 { word(3) }

    /// Every assignment any component was given so far, in order.
    func assignments() -> [Assignment] {
        guard let text = try? File.readText(folder + "/assignments") else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 3, let time = UInt64(words[1]), let pid = Int32(words[2]) else { return nil }
            return Assignment(haState: String(words[0]), at: Instant(nanoseconds: time), pid: pid)
        }
    }

    private func word(_ index: Int) -> UInt64 {
        if page == nil { page = try? SharedFile.open(folder + "/progress", writable: false).mapping }
        guard let page, page.count >= 32 else { return 0 }
        return page.base.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
    }
}
