import EngineKit
import OSAL

/// What the command line and the environment say.
struct AmfOptions: Sendable {
    enum Mode: Sendable, Equatable { case help, version, `guard`, daemon }

    var mode: Mode = .daemon
    /// The living amfd that a new guard takes over.
    var adopt: ProcessIdentity?
    /// The guard that started this amfd.
    var guardedBy: ProcessIdentity?
    /// A service manager starts a guard that dies again.
    var isSupervised = false
    /// How long an orderly stop may take before what is left is killed.
    var stopDeadline: Duration = .seconds(30)
    /// This program's own file.
    var executable: String

    static let help = """
        amfd: starts, watches and fails over the components of this node (SwiftSAF availability management).

        usage: amfd --guard [--stop-deadline SECONDS]     the normal way: a guard that keeps amfd alive
               amfd [--stop-deadline SECONDS]             without a guard, for debugging
               amfd --help | --version

        Starts the middleware (clmd, logd, ckptd, eventd, cliserver), then the applications that `saf config check`
        accepts: $SAF_CONFIG_DIR/cluster.yaml and $SAF_CONFIG_DIR/model/*.yaml. `saf status` shows what runs.
        SIGTERM stops everything in reverse order; nothing is left behind. kill -9 of this process stops nothing: its
        guard starts it again and it adopts what lives.

          --guard                  stay as a small parent: start amfd, start it again when it dies, pass SIGTERM on
          --stop-deadline SECONDS  kill what has not stopped by then (default 30, 1 to 3600)

        environment (default as root; for other users below XDG_RUNTIME_DIR, /dev/shm, ~/.local/state, ~/.config):
          SAF_RUN_DIR     sockets and locks of this node   /run/swiftsaf
          SAF_SHM_DIR     RAM files (tmpfs)                /dev/shm/swiftsaf
          SAF_STATE_DIR   what survives a reboot           /var/lib/swiftsaf
          SAF_LOG_DIR     log files                        /var/log/swiftsaf
          SAF_CONFIG_DIR  cluster.yaml and model/          /etc/swiftsaf
          SAF_NODE_NAME   name of this node                host name
          SAF_NODE_ID     number of a node alone           1
          SAF_BIN_DIR     the other programs of SwiftSAF   the directory of this program
          NOTIFY_SOCKET   set by systemd: it is told when the node serves (deploy/systemd)
          SAF_LOG_STDERR  1: what is logged also goes to stderr (as it does when stderr is a terminal)

        A component finds all of these, as amfd has them, and SA_AMF_COMPONENT_NAME, its distinguished name.

        Several nodes run on one host when each has its own directories. Exit status: 0 stopped in order, 1 a failure
        that may pass, 100 starting again would not help (wrong arguments, the node is already served).

        """

    /// Throws a sentence for the user.
    init(arguments: [String], executable: String) throws(OptionError) {
        self.executable = executable
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "--help", "-h": mode = .help
            case "--version": mode = .version
            case "--guard": mode = .guard
            case "--adopt": adopt = try Self.identity(argument, rest.popFirst())
            case "--guarded-by": guardedBy = try Self.identity(argument, rest.popFirst())
            case "--supervised": isSupervised = true
            case "--stop-deadline": stopDeadline = try Self.seconds(argument, rest.popFirst())
            default: throw OptionError(text: "unknown argument \(argument); amfd --help lists what there is")
            }
        }
    }

    private static func identity(_ name: String, _ value: String?) throws(OptionError) -> ProcessIdentity {
        guard let value, let identity = ProcessIdentity(parsing: value) else {
            throw OptionError(text: "\(name) takes PID:STARTTIME; it is used between amfd and its guard only")
        }
        return identity
    }

    private static func seconds(_ name: String, _ value: String?) throws(OptionError) -> Duration {
        guard let value, let seconds = Int64(value), (1...3_600).contains(seconds) else {
            throw OptionError(text: "\(name) takes a whole number of seconds, 1 to 3600, not \(value ?? "nothing")")
        }
        return .seconds(seconds)
    }

    private var stopDeadlineArguments: [String] { ["--stop-deadline", String(stopDeadline.components.seconds)] }

    func daemonArguments(guardedBy identity: ProcessIdentity, isSupervised: Bool) -> [String] {
        stopDeadlineArguments + (isSupervised ? ["--supervised"] : []) + [
            "--guarded-by", "\(identity.pid):\(identity.startTime)",
        ]
    }

    func guardArguments(adopting identity: ProcessIdentity) -> [String] {
        ["--guard"] + stopDeadlineArguments + ["--adopt", "\(identity.pid):\(identity.startTime)"]
    }
}

struct OptionError: Error, Sendable { let text: String }

/// Words to whoever started us; dropped when they would have to wait for a reader.
enum Say {
    static func error(_ text: String) {
        // A pipe is writable while a short text fits; a failure to find out is no reason to wait.
        let isWritable = (try? IO.waitUntil(StandardError.raw, writable: true, deadline: .start)) ?? false
        if isWritable { StandardError.write(String(text.prefix(2_000)) + "\n") }
    }
}
