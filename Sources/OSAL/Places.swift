/// Where this node keeps its things. Every directory can be overridden, so that several nodes can run on one host.
public struct Places: Hashable, Sendable {
    /// Sockets, locks, what is of this boot: `SAF_RUN_DIR`, else `/run/swiftsaf`.
    public var runDirectory: SystemString
    /// Shared memory (tmpfs): `SAF_SHM_DIR`, else `/dev/shm/swiftsaf`.
    public var shmDirectory: SystemString
    /// What survives a reboot: `SAF_STATE_DIR`, else `/var/lib/swiftsaf`.
    public var stateDirectory: SystemString
    /// Log files: `SAF_LOG_DIR`, else `/var/log/swiftsaf`.
    public var logDirectory: SystemString
    /// `cluster.yaml` and `model/`: `SAF_CONFIG_DIR`, else `/etc/swiftsaf`.
    public var configDirectory: SystemString
    /// This node's name: `SAF_NODE_NAME`, else the host's.
    public var nodeName: SystemString

    public init(
        runDirectory: SystemString, shmDirectory: SystemString, stateDirectory: SystemString,
        logDirectory: SystemString,
        configDirectory: SystemString, nodeName: SystemString
    ) {
        self.runDirectory = runDirectory
        self.shmDirectory = shmDirectory
        self.stateDirectory = stateDirectory
        self.logDirectory = logDirectory
        self.configDirectory = configDirectory
        self.nodeName = nodeName
    }

    /// The places of this process.
    public static func fromEnvironment() -> Places {
        from({ Environment.get($0) }, userID: Environment.userID, hostName: Environment.hostName())
    }

    /// The rule behind ``fromEnvironment()``: without an override root gets the system's directories, and any other
    /// user his own (`XDG_RUNTIME_DIR`, `XDG_STATE_HOME`, `XDG_CONFIG_HOME` or their usual values). An empty variable
    /// counts as absent.
    public static func from(_ variable: (SystemString) -> SystemString?, userID: UInt32, hostName: SystemString)
        -> Places
    {
        func value(_ name: SystemString) -> SystemString? {
            guard let text = variable(name), !text.isEmpty else { return nil }
            let bytes = text.utf8
            return bytes.count > 1 && bytes.last == 0x2f
                ? SystemString(decoding: bytes.dropLast(), as: UTF8.self) : text
        }
        let isRoot = userID == 0
        let home = value("HOME") ?? "/tmp/swiftsaf-\(userID)"
        let userState = (value("XDG_STATE_HOME") ?? home + "/.local/state") + "/swiftsaf"
        let userRun = value("XDG_RUNTIME_DIR").map { $0 + "/swiftsaf" } ?? "/tmp/swiftsaf-\(userID)"
        let userConfig = (value("XDG_CONFIG_HOME") ?? home + "/.config") + "/swiftsaf"
        return Places(
            runDirectory: value("SAF_RUN_DIR") ?? (isRoot ? "/run/swiftsaf" : userRun),
            shmDirectory: value("SAF_SHM_DIR") ?? (isRoot ? "/dev/shm/swiftsaf" : "/dev/shm/swiftsaf-\(userID)"),
            stateDirectory: value("SAF_STATE_DIR") ?? (isRoot ? "/var/lib/swiftsaf" : userState),
            logDirectory: value("SAF_LOG_DIR") ?? (isRoot ? "/var/log/swiftsaf" : userState + "/log"),
            configDirectory: value("SAF_CONFIG_DIR") ?? (isRoot ? "/etc/swiftsaf" : userConfig),
            nodeName: value("SAF_NODE_NAME") ?? hostName)
    }

    /// Named semaphores of this node; amfd gives back what the dead held in them.
    public var semaphoreDirectory: SystemString { shmDirectory + "/sem" }

    /// The same as environment variables, for a child.
    public var environment: [SystemString] {
        [
            "SAF_RUN_DIR=" + runDirectory, "SAF_SHM_DIR=" + shmDirectory, "SAF_STATE_DIR=" + stateDirectory,
            "SAF_LOG_DIR=" + logDirectory, "SAF_CONFIG_DIR=" + configDirectory, "SAF_NODE_NAME=" + nodeName,
        ]
    }
}
