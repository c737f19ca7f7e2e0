import EngineKit
import OSAL
import SafLab

/// A program in a node of a lab that is moved by lines and tells lines. Killed when this goes.
final class LabProcess {
    let node: Int
    let pid: Int32
    private let pidfd: Descriptor
    private let input: Descriptor
    private let output: Descriptor
    private var rest: [UInt8] = []
    private var isOver = false
    /// Everything it said.
    private(set) var lines: [String] = []

    init(_ lab: ClusterLab, _ arguments: [String], on node: Int) throws {
        self.node = node
        let commands = try makePipe()
        let answers = try makePipe()
        let process = try lab.spawn(
            arguments, on: node,
            descriptors: [
                DescriptorMapping(commands.first.raw, as: 0), DescriptorMapping(answers.second.raw, as: 1),
            ])
        pid = process.pid
        pidfd = process.takePidfd()
        input = try commands.second.duplicate()
        output = try answers.first.duplicate()
    }

    deinit { kill() }

    /// Returns when it is gone, its exit status taken: the lab waits for every process of its nodes.
    func kill() {
        guard !isOver else { return }
        isOver = true
        _ = try? Process.kill(pid, .kill)
        _ = try? IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10))
        _ = Process.reap(pid)
    }

    func tell(_ line: String) throws {
        let bytes = ContiguousArray((line + "\n").utf8)
        try bytes.withUnsafeBufferPointer { try IO.writeAll(input.raw, UnsafeRawBufferPointer($0)) }
    }

    /// Takes what it has said meanwhile.
    func listen() throws {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while try IO.waitUntil(output.raw, readable: true, deadline: MonotonicClock.now()) {
            guard let count = try chunk.withUnsafeMutableBytes({ try IO.read(output.raw, into: $0) }), count > 0 else {
                return  // it has ended
            }
            rest += chunk[..<count]
            while let end = rest.firstIndex(of: 10) {
                lines.append(String(decoding: rest[..<end], as: UTF8.self))
                rest.removeFirst(end + 1)
            }
        }
    }
}

/// A line "view ID [1,2] +[…] -[…] quorate of 3" of `groupmember`.
struct ToldView: Equatable {
    var id: String
    var members: [Int]
    var isQuorate: Bool

    init?(_ line: String) {
        let words = line.split(separator: " ")
        guard words.count > 5, words[0] == "view" else { return nil }
        id = String(words[1])
        members = words[2].dropFirst().dropLast().split(separator: ",").compactMap { Int($0) }
        isQuorate = words[5] == "quorate"
    }
}

/// Several members of one group, one on each node.
struct LabMembers {
    let lab: ClusterLab
    /// Of the members that are started from now on.
    var kind: String
    let group: String
    var processes: [Int: LabProcess] = [:]

    init(_ lab: ClusterLab, _ kind: String, _ group: String) { (self.lab, self.kind, self.group) = (lab, kind, group) }

    mutating func start(_ node: Int) throws {
        processes[node] = try LabProcess(
            lab, ["groupmember", kind, "\(node)", "\(lab.options.nodes)", group], on: node)
    }

    mutating func kill(_ node: Int) {
        processes[node]?.kill()
        processes[node] = nil
    }

    func tell(_ node: Int, _ line: String) throws { try processes[node]?.tell(line) }

    func lines(_ node: Int) -> [String] { processes[node]?.lines ?? [] }

    /// What a member says next that begins so.
    func ask(_ node: Int, _ line: String, answer: String) throws -> String {
        let known = lines(node).count
        try tell(node, line)
        return try wait("\(line) of node \(node)") {
            lines(node).dropFirst(known).first { $0.hasPrefix(answer) }
        }
    }

    func wait<Value>(_ what: String, _ condition: () throws -> Value?) throws -> Value {
        do {
            return try lab.wait(for: what, timeout: .seconds(30)) {
                for process in processes.values { try process.listen() }
                return try condition()
            }
        } catch let error as LabError {
            let said = processes.keys.sorted().map { "node \($0): \(lines($0).suffix(5))" }
            throw LabError("\(error.description). Said: \(said.joined(separator: "; "))")
        }
    }

    func lastView(_ node: Int) -> ToldView? { lines(node).lazy.reversed().compactMap { ToldView($0) }.first }

    /// Waits until these are, and see, one view of exactly them.
    @discardableResult
    func awaitView(_ nodes: [Int], isQuorate: Bool = true) throws -> ToldView {
        try wait("\(nodes) in one view") {
            guard let first = nodes.first, let view = lastView(first), view.members == nodes,
                view.isQuorate == isQuorate
            else { return nil }
            return nodes.allSatisfy { lastView($0) == view } ? view : nil
        }
    }

    /// What a node has said from a view on, views and messages only, without what differs from member to member.
    func story(_ node: Int, from view: ToldView) -> [String] {
        let told = lines(node).drop { ToldView($0) != view }
        return told.compactMap { line in
            if let view = ToldView(line) { return "\(view)" }
            return line.hasPrefix("message") ? line : nil
        }
    }
}
