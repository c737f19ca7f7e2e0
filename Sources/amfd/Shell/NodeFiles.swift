import EngineKit
import OSAL

/// The files by which amfd, its guard and their successors find each other.
public struct NodeFiles: Sendable {
    public enum Role: String, Sendable { case amfd, `guard` }

    public let places: Places

    public init(places: Places) { self.places = places }

    /// Sockets are elsewhere ($SAF_RUN_DIR/ioc); here are locks and who holds them.
    public var runDirectory: String { places.runDirectory + "/amfd" }
    /// RAM files that outlive amfd.
    public var shmDirectory: String { places.shmDirectory + "/amfd" }
    public var childrenPath: String { shmDirectory + "/children" }
    public var journalPath: String { shmDirectory + "/journal" }
    public var leasePath: String { shmDirectory + "/lease" }
    public var assignmentsPath: String { shmDirectory + "/assignments" }

    func lockPath(_ role: Role) -> String { "\(runDirectory)/\(role.rawValue).lock" }

    public func makeDirectories() throws(OSError) {
        try File.makeDirectories(runDirectory, mode: 0o755)
        try File.makeDirectories(shmDirectory, mode: 0o755)
    }

    /// Who says to be this node's amfd or guard; whether he lives must be checked.
    public func holder(_ role: Role) -> ProcessIdentity? { noteText(role).flatMap { ProcessIdentity(parsing: $0) } }

    /// A missing or unreadable note means that nobody is known.
    private func noteText(_ role: Role) -> String? { try? File.readText(lockPath(role), limit: 4_096) }

    /// Whether the amfd that was this process had stopped in order.
    func hasStoppedInOrder(_ identity: ProcessIdentity) -> Bool {
        guard let text = noteText(.amfd) else { return false }  // no note, no order
        return ProcessIdentity(parsing: text) == identity && text.split(separator: " ").contains("stopped")
    }

    /// Octets of a note: always the same, so that the next one needs no space.
    static let noteLength = 64

    /// Writes who holds the lock into its own file, over what stood there: a full file system stops nobody whose
    /// predecessor has been there.
    func note(_ lock: borrowing Descriptor, _ identity: ProcessIdentity, hasStopped: Bool = false) throws(OSError) {
        let text = identity.text + (hasStopped ? " stopped" : "")
        let padding = String(repeating: " ", count: max(0, Self.noteLength - 1 - text.utf8.count))
        let bytes = ContiguousArray((text + padding + "\n").utf8)
        let raw = lock.raw
        let count = try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
            try IO.write(raw, UnsafeRawBufferPointer(buffer), at: 0)
        }
        guard count == bytes.count else { throw .outOfSpace("the note of pid \(identity.pid)") }
    }

    /// Becomes this node's amfd or guard for as long as the result lives.
    ///
    /// A predecessor that has just been killed may hold its lock for a moment longer; it is waited for.
    /// - Parameter warn: told when the lock is held, but nobody can read by whom.
    func claim(_ role: Role, warn: (String) -> Void) throws(Refusal) -> Descriptor {
        let deadline = MonotonicClock.now() + .seconds(2)
        while true {
            do throws(OSError) {
                if let lock = try File.fileLock(lockPath(role), mode: 0o644) {
                    noteOwn(lock, role, warn)
                    return lock
                }
            } catch {
                throw Refusal(
                    text: "cannot claim \(lockPath(role)): \(error); SAF_RUN_DIR must be writable", isPermanent: false)
            }
            let last = holder(role)
            guard last?.isAlive != true, MonotonicClock.now() < deadline else { throw refusal(role) }
            awaitEnd(of: last, until: deadline)
        }
    }

    private func noteOwn(_ lock: borrowing Descriptor, _ role: Role, _ warn: (String) -> Void) {
        do throws(OSError) {
            try note(lock, ProcessIdentity.own)
        } catch {
            warn("cannot write into \(lockPath(role)) who serves this node: \(error); all else goes on")
        }
    }

    /// The amfd that served last, or still does, and did not stop in order; nil: none.
    func unstoppedAmfd() -> ProcessIdentity? { holder(.amfd).flatMap { hasStoppedInOrder($0) ? nil : $0 } }

    /// Until a dying holder is gone; a moment when nobody knows who holds the lock.
    private func awaitEnd(of holder: ProcessIdentity?, until deadline: Instant) {
        let moment = min(deadline, MonotonicClock.now() + .milliseconds(10))
        if let holder, Process.startTime(of: holder.pid) == holder.startTime,
            let pidfd = try? Process.pidfdOpen(holder.pid)
        {
            // Not waited for in vain: a failure costs one more turn.
            _ = try? IO.waitUntil(pidfd.raw, readable: true, deadline: deadline)
            return
        }
        var word: UInt32 = 0
        _ = try? Futex.wait(&word, expected: 0, deadline: moment)  // a pause
    }

    private func refusal(_ role: Role) -> Refusal {
        let name = role == .amfd ? "amfd" : "amfd --guard"
        let who = holder(role).map { "pid \($0.pid)" } ?? "a process that left no pid"
        return Refusal(
            text: """
                node \(places.nodeName) is already served by \(name), \(who), in run directory \(places.runDirectory); \
                stop that one first (kill \(holder(role).map { String($0.pid) } ?? "PID")), \
                or give this one its own SAF_RUN_DIR
                """,
            isPermanent: true)
    }
}

/// Why amfd or its guard does not start.
struct Refusal: Error, Sendable {
    let text: String
    /// Trying again would not help.
    let isPermanent: Bool
}

/// A process for good: a pid is used again, a pid with its start time is not.
public struct ProcessIdentity: Hashable, Sendable {
    public let pid: Int32
    /// Clock ticks since boot; proc(5), stat field 22.
    public let startTime: UInt64

    public init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    public static var own: ProcessIdentity {
        let pid = Environment.processID
        return ProcessIdentity(pid: pid, startTime: Process.startTime(of: pid) ?? 0)
    }

    /// The process that has this pid now.
    public init?(living pid: Int32) {
        guard pid > 0, let startTime = Process.startTime(of: pid) else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    /// "PID STARTTIME", whatever follows.
    public init?(parsing text: String) {
        let words = text.split(whereSeparator: { $0 == " " || $0 == "\n" || $0 == ":" })
        guard words.count >= 2, let pid = Int32(words[0]), pid > 0, let startTime = UInt64(words[1]) else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    public var text: String { "\(pid) \(startTime)" }

    public var isAlive: Bool { Process.startTime(of: pid) == startTime && !Process.isExiting(pid) }
}

extension OSError {
    /// ENOSPC, for a limit of our own.
    static func outOfSpace(_ subject: String) -> OSError { OSError(code: 28, call: "amfd", subject: subject) }
}
