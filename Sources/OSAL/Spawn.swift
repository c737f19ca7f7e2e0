internal import COSAL
internal import Glibc

/// A limit the kernel enforces on a process. Source: setrlimit(2).
public struct ResourceLimit: Hashable, Sendable {
    public enum Resource: Sendable, CaseIterable {
        /// Seconds of CPU time.
        case cpuSeconds
        /// Bytes of a file it writes.
        case fileBytes
        case dataBytes
        case stackBytes
        /// Bytes of a core file; 0: none.
        case coreBytes
        /// Processes of its user.
        case processes
        case openFiles
        case lockedBytes
        /// Bytes of address space.
        case addressSpaceBytes

        var number: Int32 {
            switch self {
            case .cpuSeconds: Int32(COSAL_RLIMIT_CPU.rawValue)
            case .fileBytes: Int32(COSAL_RLIMIT_FSIZE.rawValue)
            case .dataBytes: Int32(COSAL_RLIMIT_DATA.rawValue)
            case .stackBytes: Int32(COSAL_RLIMIT_STACK.rawValue)
            case .coreBytes: Int32(COSAL_RLIMIT_CORE.rawValue)
            case .processes: Int32(COSAL_RLIMIT_NPROC.rawValue)
            case .openFiles: Int32(COSAL_RLIMIT_NOFILE.rawValue)
            case .lockedBytes: Int32(COSAL_RLIMIT_MEMLOCK.rawValue)
            case .addressSpaceBytes: Int32(COSAL_RLIMIT_AS.rawValue)
            }
        }
    }

    public static let unlimited = UInt64.max
    public var resource: Resource
    /// What is enforced.
    public var soft: UInt64
    /// How far the process may raise `soft` by itself.
    public var hard: UInt64

    public init(_ resource: Resource, soft: UInt64, hard: UInt64) {
        self.resource = resource
        self.soft = soft
        self.hard = hard
    }

    public init(_ resource: Resource, _ value: UInt64) { self.init(resource, soft: value, hard: value) }

    /// The limit of this process.
    public static func current(_ resource: Resource) throws(OSError) -> ResourceLimit {
        var value = cosal_limit()
        try retrying("getrlimit", "\(resource)") { cosal_get_limit(resource.number, &value) }
        return ResourceLimit(resource, soft: value.soft, hard: value.hard)
    }

    /// Applies it to this process.
    public func apply() throws(OSError) {
        try retrying("setrlimit", "\(resource)") { cosal_set_limit(resource.number, soft, hard) }
    }
}

/// A descriptor of ours and the number it shall have in the child.
public struct DescriptorMapping: Hashable, Sendable {
    /// Borrowed until the call returns; -1 stands for /dev/null.
    public var source: Int32
    public var target: Int32
    public init(_ source: Int32, as target: Int32) {
        self.source = source
        self.target = target
    }
}

/// What to start and how. The child has no descriptor but the given ones, default signal handlers and an empty mask.
public struct SpawnOptions: Sendable {
    /// The program, executed as it is: no search in PATH, relative to the caller's directory.
    public var path: String
    /// argv, the first is the program's name for itself.
    public var arguments: [String]
    /// NAME=VALUE; all of it, nothing is inherited.
    public var environment: [String]
    public var workingDirectory: String?
    /// Any that is missing of 0, 1 and 2 becomes /dev/null, so that nothing else gets these numbers.
    public var descriptors: [DescriptorMapping] = []
    /// An already opened program to execute instead of `path` (a binary, not a script), as it was checked.
    public var executable: Int32?
    /// nil keeps the caller's user; else also `groupID`, and `groups` as the supplementary groups.
    public var userID: UInt32?
    public var groupID: UInt32?
    public var groups: [UInt32] = []
    public var limits: [ResourceLimit] = []
    /// A new session and process group, led by the child.
    public var newSession = true
    /// set-user-ID programs gain nothing. Source: PR_SET_NO_NEW_PRIVS(2const).
    public var noNewPrivileges = false
    /// Sent to the child when this process ends, however it ends.
    public var deathSignal: SignalNumber?
    /// -1000 (never killed for memory) … 1000 (first); nil keeps the caller's.
    public var outOfMemoryScore: Int32?
    /// -20 (first) … 19 (last); nil keeps the caller's.
    public var niceness: Int32?
    /// nil: the caller's.
    public var namespaces: NamespaceChoice?

    public init(path: String, arguments: [String] = [], environment: [String] = Environment.all) {
        self.path = path
        self.arguments = arguments.isEmpty ? [path] : arguments
        self.environment = environment
    }
}

/// A child just started. Take `pidfd` out with ``takePidfd()`` to keep it.
public struct SpawnedProcess: ~Copyable, Sendable {
    public let pid: Int32
    /// Readable when the child has ended. It names this very process: no pid reuse.
    private let pidfd: Descriptor

    init(pid: Int32, pidfd: consuming Descriptor) {
        self.pid = pid
        self.pidfd = pidfd
    }

    public var rawPidfd: Int32 { pidfd.raw }

    public consuming func takePidfd() -> Descriptor { pidfd }
}

extension Process {
    /// Starts a program; when this returns, it has been executed.
    ///
    /// The cost does not depend on the caller's size, and its memory is not copied (clone(2): CLONE_VM, CLONE_VFORK,
    /// CLONE_PIDFD). The caller's thread waits for the exec, about 0.1 ms.
    /// - Throws: the failure of the step named in `call`: "execve" with ENOENT, EACCES, ENOEXEC …; "chdir"; "setuid" …
    public static func spawn(_ options: SpawnOptions) throws(OSError) -> SpawnedProcess {
        try check(options)
        return options.deathSignal == nil ? try start(options) : try StarterThread.start(options)
    }

    /// As ``spawn(_:)``, of what was checked, on the calling thread but on the processors of `caller`; 0: its own.
    static func start(_ options: SpawnOptions, for caller: Int32 = 0) throws(OSError) -> SpawnedProcess {
        let descriptors = table(options.descriptors)
        let arguments = CStringArray(options.arguments)
        let environment = CStringArray(options.environment)
        let limits = options.limits.map { cosal_limit(resource: $0.resource.number, soft: $0.soft, hard: $0.hard) }
        let sources = descriptors.map(\.source)
        let targets = descriptors.map(\.target)
        var raw = cosal_spawn()
        raw.executable = options.executable ?? -1
        raw.arguments = UnsafePointer(arguments.base)
        raw.environment = UnsafePointer(environment.base)
        raw.descriptor_count = Int32(descriptors.count)
        raw.limit_count = Int32(limits.count)
        raw.group_count = Int32(options.groups.count)
        raw.change_user = options.userID != nil
        raw.user = options.userID ?? 0
        raw.group = options.groupID ?? options.userID.map { _ in getegid() } ?? 0
        raw.new_session = options.newSession
        raw.no_new_privileges = options.noNewPrivileges
        raw.death_signal = options.deathSignal?.rawValue ?? 0
        raw.oom_score = options.outOfMemoryScore ?? .min
        raw.process_priority = options.niceness ?? .min
        raw.processors_of = caller
        var pidfd: Int32 = -1
        var failed: (code: Int32, stage: String)?
        let pid = withExtendedLifetime((arguments, environment)) {
            options.path.withCString { path in
                withOptionalCString(options.workingDirectory) { directory in
                    sources.withUnsafeBufferPointer { sources in
                        targets.withUnsafeBufferPointer { targets in
                            limits.withUnsafeBufferPointer { limits in
                                options.groups.withUnsafeBufferPointer { groups in
                                    raw.path = path
                                    raw.directory = directory
                                    raw.sources = sources.baseAddress
                                    raw.targets = targets.baseAddress
                                    raw.limits = limits.baseAddress
                                    raw.groups = groups.baseAddress
                                    return NamespaceChoice.withRaw(options.namespaces) { namespaces in
                                        raw.namespaces = namespaces
                                        var stage: UnsafePointer<CChar>?
                                        let pid = cosal_spawn(&raw, &pidfd, &stage)
                                        // `stage` may be one of the texts that live only as long as this call.
                                        if pid < 0 { failed = (errno, stage.map { String(cString: $0) } ?? "clone") }
                                        return pid
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        if let failed { throw failure(code: failed.code, stage: failed.stage, options) }
        return SpawnedProcess(pid: pid, pidfd: Descriptor(owning: pidfd))
    }

    private static func check(_ options: SpawnOptions) throws(OSError) {
        let targets = options.descriptors.map(\.target)
        let texts = [options.path, options.workingDirectory ?? ""] + options.arguments + options.environment
        let complaint: String? =
            if texts.contains(where: { $0.utf8.contains(0) }) {
                "a zero byte in path, arguments, environment or directory"
            } else if Set(targets).count != targets.count || targets.contains(where: { $0 < 0 }) {
                "descriptor targets \(targets): each must be unique and not negative"
            } else if targets.count > Int(COSAL_SPAWN_DESCRIPTORS_MAX) - 3 {
                "\(targets.count) descriptors, at most \(COSAL_SPAWN_DESCRIPTORS_MAX - 3)"
            } else {
                nil
            }
        if let complaint { throw OSError(code: EINVAL, call: "spawn", subject: "\(options.path) (\(complaint))") }
    }

    /// The whole descriptor table of the child, ascending, with 0, 1 and 2 always there.
    private static func table(_ given: [DescriptorMapping]) -> [DescriptorMapping] {
        let missing = (0..<3).filter { number in !given.contains { $0.target == number } }
        return (given + missing.map { DescriptorMapping(-1, as: Int32($0)) }).sorted { $0.target < $1.target }
    }

    private static func failure(code: Int32, stage: String, _ options: SpawnOptions) -> OSError {
        switch stage {
        case "execve": OSError(code: code, call: "execve", subject: options.path)
        case "chdir":
            OSError(code: code, call: "chdir", subject: "\(options.workingDirectory ?? "") (for \(options.path))")
        default: OSError(code: code, call: "spawn", subject: "\(options.path) (\(stage))")
        }
    }
}

/// A NULL-terminated array of C strings, freed with its owner.
private final class CStringArray {
    let base: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ texts: [String]) {
        count = texts.count
        base = .allocate(capacity: texts.count + 1)
        for (index, text) in texts.enumerated() { (base + index).initialize(to: strdup(text)) }
        (base + texts.count).initialize(to: nil)
    }

    deinit {
        for index in 0..<count { free(base[index]) }
        base.deallocate()
    }
}

private func withOptionalCString<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
    if let text { return text.withCString { body($0) } }
    return body(nil)
}
