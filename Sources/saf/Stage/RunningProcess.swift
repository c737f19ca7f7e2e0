import OSAL

/// A process of a private node.
public struct RunningProcess: Equatable, Sendable {
    public let pid: Int32
    /// The name of its program.
    public let program: String
    public let arguments: [String]

    /// The tiny parent of amfd.
    public var isGuard: Bool { program == "amfd" && arguments.contains("--guard") }
}

extension PrivateNode {
    /// Every living process that was started in this node's environment, by pid; this program is not among them.
    public func processes() -> [RunningProcess] { Self.processes(in: places) }

    static func processes(in places: Places) -> [RunningProcess] {
        let mark = "SAF_RUN_DIR=" + places.runDirectory
        let pids = ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.sorted()
        return pids.compactMap { pid in
            guard pid != Environment.processID, let information = Process.information(of: pid), !information.isExiting,
                let environment = try? File.readAll("/proc/\(pid)/environ"),
                environment.split(separator: 0).contains(where: { $0.elementsEqual(mark.utf8) }),
                let line = try? File.readAll("/proc/\(pid)/cmdline")
            else { return nil }
            let arguments = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            let path = arguments.first ?? information.name
            return RunningProcess(
                pid: pid, program: String(path.split(separator: "/").last ?? ""), arguments: arguments)
        }
    }

    /// The process of a daemon, or of the guard; nil while it is being restarted.
    public func process(of program: String, isGuard: Bool = false) -> RunningProcess? {
        processes().first { $0.program == program && $0.isGuard == isGuard }
    }
}
