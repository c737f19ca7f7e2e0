import Glibc

/// What an observer of the demonstration wants to know, in two files of a folder that all components share.
///
/// `progress`: how far, when, and the longest pause. One component writes it at a time: the active one.
/// position u64 · time of the last commit u64 (monotonic, ns) · longest gap between two commits u64 (ns) · commits u64.
///
/// `acts`: a line for every assignment, and one each millisecond from whoever acts as active: what, when (monotonic,
/// ns), process number, machine. The lines of all are in one order, so they show whether ever two acted at once.
final class Progress: @unchecked Sendable {
    private let words: UnsafeMutablePointer<UInt64>
    private let acts: Int32
    private let who: String

    /// Nil when the folder cannot be written.
    init?(folder: String) {
        let file = open(folder + "/progress", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        acts = open(folder + "/acts", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0, acts >= 0, ftruncate(file, 4_096) == 0,
            let page = mmap(nil, 4_096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), page != MAP_FAILED
        else { return nil }
        close(file)
        words = page.bindMemory(to: UInt64.self, capacity: 4)
        var machine = [CChar](repeating: 0, count: 256)
        gethostname(&machine, machine.count - 1)
        who = "\(getpid()) \(String(decoding: machine.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))"
    }

    deinit {
        munmap(words, 4_096)
        close(acts)
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

    /// A single write to an appended file is not torn.
    func tell(_ what: String) {
        let line = Array("\(what) \(Self.now()) \(who)\n".utf8)
        _ = write(acts, line, line.count)
    }

    /// Tells each millisecond that this component acts, until the task is cancelled.
    func tellActing() async {
        while !Task.isCancelled {
            tell("acts")
            try? await Task.sleep(for: .milliseconds(1))
        }
    }
}
