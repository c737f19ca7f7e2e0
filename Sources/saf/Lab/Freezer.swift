import EngineKit
import OSAL

/// Stops every process of a node at once and lets them go on: by a control group where the kernel has version 2 of
/// them, else by SIGSTOP and SIGCONT.
///
/// A control group does not interfere with who else uses those signals, and nothing slips through by forking.
/// Source: cgroup-v2, cgroup.freeze.
struct Freezer {
    /// Where version 2 is mounted; nil: nowhere.
    static let root: String? = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].first {
        File.exists($0 + "/cgroup.controllers")
    }

    /// The control group of a node; nil where there are none.
    let group: String?

    init(lab: String, node: Int) { group = Self.root.map { "\($0)/\(lab)-n\(node)" } }

    var isFrozen: Bool {
        guard let group, let text = try? File.readText(group + "/cgroup.events") else { return false }
        return text.contains("frozen 1")
    }

    /// Returns when none of them runs any more.
    func freeze(_ pids: () -> [Int32]) throws {
        let deadline = MonotonicClock.now() + .seconds(5)
        guard let group else { return try stopEach(pids, deadline) }
        try File.makeDirectories(group)
        try write("1", "cgroup.freeze")
        // One that is moved in after it was listed may have forked meanwhile: until there is nobody new.
        var moved: Set<Int32> = []
        while true {
            let new = pids().filter { !moved.contains($0) }
            if new.isEmpty { break }
            for pid in new {
                moved.insert(pid)
                do { try write("\(pid)", "cgroup.procs") } catch let error as OSError where error.isNoProcess {}
            }
        }
        try wait(until: deadline) { isFrozen }
    }

    func thaw(_ pids: () -> [Int32]) throws {
        if let group {
            if File.exists(group) { try write("0", "cgroup.freeze") }
        } else {
            for pid in pids() { try Process.kill(pid, .continue) }
        }
    }

    private func stopEach(_ pids: () -> [Int32], _ deadline: Instant) throws {
        try wait(until: deadline) {
            let running = pids().filter { Process.information(of: $0)?.isStopped == false }
            for pid in running { try Process.kill(pid, .stop) }
            return running.isEmpty
        }
    }

    private func wait(until deadline: Instant, _ condition: () throws -> Bool) throws {
        while try !condition() {
            guard MonotonicClock.now() < deadline else { throw LabError("\(group ?? "a node"): not frozen in time") }
            ClusterLab.pause(.milliseconds(1))
        }
    }

    /// Control files are written in place: they cannot be replaced.
    private func write(_ text: String, _ file: String) throws {
        let descriptor = try File.open("\(group ?? "")/\(file)", writable: true)
        var text = text
        try text.withUTF8 { try IO.writeAll(descriptor.raw, UnsafeRawBufferPointer($0)) }
    }
}
