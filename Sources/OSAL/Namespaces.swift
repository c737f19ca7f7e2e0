internal import COSAL
internal import Glibc

/// Kinds of namespaces. Source: namespaces(7).
public struct Namespaces: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let mount = Namespaces(rawValue: COSAL_NAMESPACE_MOUNT.rawValue)
    public static let network = Namespaces(rawValue: COSAL_NAMESPACE_NETWORK.rawValue)
    /// Process numbers: the first process born here is init, and everything dies with it.
    public static let process = Namespaces(rawValue: COSAL_NAMESPACE_PROCESS.rawValue)
    public static let hostName = Namespaces(rawValue: COSAL_NAMESPACE_HOST_NAME.rawValue)
    /// System V IPC and POSIX message queues.
    public static let ipc = Namespaces(rawValue: COSAL_NAMESPACE_IPC.rawValue)
    public static let all: Namespaces = [.mount, .network, .process, .hostName, .ipc]
}

/// Something to see at `target`, in a new mount namespace only.
public enum Mount: Hashable, Sendable {
    /// The file or folder `source` is seen at `target`, which exists. Source: mount(2), MS_BIND.
    case bind(String, at: String)
    /// A new file system such as "tmpfs" or "proc".
    case fileSystem(String, at: String)
}

/// The namespaces that a program is started in. Needs CAP_SYS_ADMIN.
public enum NamespaceChoice: Hashable, Sendable {
    /// New ones. With `.process` the child is their init: orphans are buried without it, and SIGKILL for it ends all.
    case new(Namespaces, hostName: String? = nil, mounts: [Mount] = [])
    /// Those of the process behind a pidfd, borrowed until the call returns. Source: setns(2), Linux 5.8.
    case of(pidfd: Int32, Namespaces)

    /// Calls `body` with the C form, which lives as long as the call.
    static func withRaw(_ choice: NamespaceChoice?, _ body: (UnsafePointer<cosal_namespaces>?) -> pid_t) -> pid_t {
        guard let choice else { return body(nil) }
        var raw = cosal_namespaces()
        raw.pidfd = -1
        var texts: [UnsafeMutablePointer<CChar>] = []
        defer { for text in texts { free(text) } }
        func text(_ string: String) -> UnsafePointer<CChar>? {
            guard let copy = strdup(string) else { return nil }
            texts.append(copy)
            return UnsafePointer(copy)
        }
        var mounts: [cosal_mount] = []
        switch choice {
        case .of(let pidfd, let kinds):
            raw.enter = kinds.rawValue
            raw.pidfd = pidfd
        case .new(let kinds, let hostName, let wanted):
            raw.create = kinds.rawValue
            raw.host_name = hostName.flatMap { text($0) }
            mounts = wanted.map { mount in
                switch mount {
                case .bind(let source, let target):
                    cosal_mount(source: text(source), target: text(target), type: nil)
                case .fileSystem(let type, let target):
                    cosal_mount(source: text(type), target: text(target), type: text(type))
                }
            }
        }
        return mounts.withUnsafeBufferPointer { buffer in
            raw.mounts = buffer.baseAddress
            raw.mount_count = Int32(buffer.count)
            return withUnsafePointer(to: raw) { body($0) }
        }
    }
}

extension Process {
    /// Every process in the pid namespace of `pid` that this process can see, by number; empty when it is gone. Those
    /// in namespaces below it are not among them.
    public static func inPidNamespace(of pid: Int32) -> [Int32] {
        guard let wanted = try? File.readLink("/proc/\(pid)/ns/pid") else { return [] }
        let pids = ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }
        return pids.filter { (try? File.readLink("/proc/\($0)/ns/pid")) == wanted }.sorted()
    }
}
