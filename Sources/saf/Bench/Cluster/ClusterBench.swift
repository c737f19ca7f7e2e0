import EngineKit
import OSAL
import SafLab
import SafStage

/// What several nodes cost, in a lab on this machine: each node has its own network, processes and corosync.
///
/// Everything is measured by processes inside the nodes, which write down what they saw with the one clock of the
/// machine.
enum ClusterBench {
    /// A lab of the bench, formed.
    static func lab(nodes: Int, name: String, isEncrypted: Bool = false) throws -> ClusterLab {
        var options = LabOptions()
        options.nodes = nodes
        options.name = name
        options.areLinksEncrypted = isEncrypted
        if let obstacle = ClusterLab.obstacle() { throw StageError(obstacle) }
        let lab = try ClusterLab.up(options)
        let folder = lab.folder
        Interruption.atEnd(folder) { try? ClusterLab.remove(folder: folder) }  // what is left is swept by the next lab
        try lab.awaitFormed(timeout: .seconds(60))
        return lab
    }
}

extension ClusterLab {
    /// Starts a role of the bench in a node; what it complains of is seen.
    func startRole(_ role: String, _ arguments: [String] = [], on node: Int) throws -> SpawnedProcess {
        try spawn(
            [Environment.executablePath ?? "saf", Peer.command, role] + arguments, on: node,
            descriptors: [DescriptorMapping(2, as: 2)])
    }

    /// Runs a role of the bench in a node to its end.
    func runRole(_ role: String, _ arguments: [String] = [], on node: Int, timeout: Duration) throws {
        let process = try startRole(role, arguments, on: node)
        guard try IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + timeout) else {
            throw StageError("\(role) on node \(node): not done within \(timeout)")
        }
        // Its status is this program's to take: the lab only buries what nobody has asked for.
        guard Process.reap(process.pid) == .exited(code: 0) else { throw StageError("\(role) on node \(node) failed") }
    }
}

/// A file of lines `NAME NUMBER…` that processes in nodes append to, and the bench reads.
struct Record {
    struct Line {
        var name: String
        var values: [UInt64]
    }

    let path: String

    func open() throws(OSError) -> Descriptor { try File.openForAppending(path) }

    /// Whole lines only go out, each with one write: several processes may append.
    static func append(_ name: String, _ values: [UInt64], to fd: Int32) throws(OSError) {
        let line = Array(([name] + values.map(String.init)).joined(separator: " ").utf8) + [10]
        var failure: OSError?
        line.withUnsafeBytes { bytes in
            do throws(OSError) { try IO.writeAll(fd, bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    var lines: [Line] {
        let text = (try? File.readText(path, limit: 1 << 28)) ?? ""  // not there yet: nothing was seen yet
        return text.split(separator: "\n").map { line in
            let words = line.split(separator: " ")
            return Line(name: words.first.map(String.init) ?? "", values: words.dropFirst().compactMap { UInt64($0) })
        }
    }

    /// The first values of the lines of that name, in µs from ns.
    func microseconds(_ name: String) -> Samples {
        Samples(lines.filter { $0.name == name }.compactMap { $0.values.first.map { Double($0) / 1_000 } })
    }
}
