import EngineKit
import OSAL

/// Finding and removing labs: everything of one carries the name of its folder.
enum LeftBehind {
    static let parent = "/tmp"
    static let prefix = "saflab-"
    /// In the environment of every process of a lab: its folder.
    static let mark = "SAF_LAB"

    /// The folders of all labs on this machine, or of those called `name`.
    static func folders(named name: String? = nil) -> [String] {
        let wanted = name.map { prefix + $0 + "-" } ?? prefix
        return ((try? File.list(parent)) ?? []).filter { $0.hasPrefix(wanted) && (name == nil || isOf(name, $0)) }
            .map { parent + "/" + $0 }
    }

    /// saflab-NAME-PID, and not saflab-NAME-MORE-PID.
    private static func isOf(_ name: String?, _ folder: String) -> Bool {
        folder.dropFirst(prefix.utf8.count + (name ?? "").utf8.count + 1).allSatisfy(\.isNumber)
    }

    /// Whether nobody will ever bring this lab down: its owner has ended, and did not mean to leave it.
    static func isAbandoned(_ folder: String) -> Bool {
        let words = ((try? File.readText(folder + "/owner")) ?? "").split(whereSeparator: \.isWhitespace)
        guard let owner = ProcessIdentity(words: words) else {
            // Made, but the owner's name is not in it yet: only the number in the folder's name is known.
            let pid = folder.split(separator: "-").last.flatMap { Int32($0) } ?? 0
            return Process.information(of: pid) == nil
        }
        let isKept = words.last == "kept" && File.exists(folder + "/state")
        return !owner.isAlive && !isKept
    }

    /// Removes every lab that is abandoned; returns their folders.
    @discardableResult
    static func sweep() throws -> [String] {
        let abandoned = folders().filter(isAbandoned)
        for folder in abandoned { try remove(folder) }
        return abandoned
    }

    /// Every process that was started in a lab, wherever it is now.
    static func processes(of folder: String) -> [Int32] {
        let text = "\(mark)=\(folder)"
        let pids = ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }
        return pids.filter { pid in
            guard pid != Environment.processID, let environment = try? File.readAll("/proc/\(pid)/environ") else {
                return false
            }
            return environment.split(separator: 0).contains { $0.elementsEqual(text.utf8) }
        }
    }

    /// Ends all processes of a lab and removes what it had. Its namespaces go with the processes.
    static func remove(_ folder: String) throws {
        let deadline = MonotonicClock.now() + .seconds(10)
        while true {
            // Until there is none: one may have been starting another.
            let found = processes(of: folder).compactMap { ProcessIdentity(of: $0) }
            if found.isEmpty { break }
            for process in found { try Process.kill(process.pid, .kill) }
            try awaitEnd(of: found, until: deadline)
        }
        try removeGroups(of: folder, until: deadline)
        try File.removeTree(folder)
    }

    /// Waits until killed processes have ended, and buries those that are our children.
    ///
    /// Of the others it is enough that they are ending: the init of a node lasts until its last process has been
    /// buried, and some parents take their time.
    static func awaitEnd(of processes: [ProcessIdentity], until deadline: Instant) throws {
        var left = processes
        while true {
            left.removeAll { process in
                _ = Process.reap(process.pid)
                guard let information = Process.information(of: process.pid) else { return true }
                let isOurs = information.parent == Environment.processID
                return information.startTime != process.startTime || (information.isExiting && !isOurs)
            }
            if left.isEmpty { return }
            guard MonotonicClock.now() < deadline else {
                throw LabError("the processes \(left.map(\.pid)) of the lab do not end")
            }
            ClusterLab.pause(.milliseconds(1))
        }
    }

    private static func removeGroups(of folder: String, until deadline: Instant) throws {
        guard let root = Freezer.root, let name = folder.split(separator: "/").last else { return }
        for group in try File.list(root) where group.hasPrefix(name + "-n") {
            while true {
                do {
                    try File.removeEmptyDirectory("\(root)/\(group)")
                    break
                } catch {
                    // Busy until the last process in it has been buried.
                    guard MonotonicClock.now() < deadline else { throw error }
                    ClusterLab.pause(.milliseconds(2))
                }
            }
        }
    }
}
