import Glibc

/// What an observer of the demonstration wants to know, in a small shared file: how far, when, and the longest pause.
///
/// One component writes it at a time: the active one.
///
/// position u64 · time of the last commit u64 (monotonic, ns) · longest gap between two commits u64 (ns) · commits u64.
final class Progress: @unchecked Sendable {
    private let words: UnsafeMutablePointer<UInt64>
    private let assignments: Int32

    /// Nil when the folder cannot be written.
    init?(folder: String) {
        let file = open(folder + "/progress", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        assignments = open(folder + "/assignments", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0, assignments >= 0, ftruncate(file, 4_096) == 0,
            let page = mmap(nil, 4_096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), page != MAP_FAILED
        else { return nil }
        close(file)
        words = page.bindMemory(to: UInt64.self, capacity: 4)
    }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    func committed(position: UInt64) {
        let now = Self.now()
        if words[1] != 0, now > words[1] { words[2] = max(words[2], now - words[1]) }
        words[0] = position
        words[1] = now
        words[3] += 1
    }

    /// One line per assignment: what, when, who. A single write to an appended file is not torn.
    func assigned(_ what: String) {
        let line = Array("\(what) \(Self.now()) \(getpid())\n".utf8)
        _ = write(assignments, line, line.count)
    }
}
