#if SAF_LIBRARY
    /// Where this node keeps its things, as far as the C libraries look for them.
    public struct Places: Hashable, Sendable {
        /// Sockets, locks, what is of this boot: `SAF_RUN_DIR`, else `/run/swiftsaf`.
        public var runDirectory: SystemString

        public init(runDirectory: SystemString) { self.runDirectory = runDirectory }

        /// The places of this process.
        public static func fromEnvironment() -> Places {
            let rule = PlaceRule(variable: { Environment.get($0) }, userID: Environment.userID)
            return Places(runDirectory: rule.runDirectory)
        }
    }
#else
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
        /// user his own (`XDG_RUNTIME_DIR`, `XDG_STATE_HOME`, `XDG_CONFIG_HOME` or their usual values). An empty
        /// variable counts as absent.
        public static func from(
            _ variable: @escaping (SystemString) -> SystemString?, userID: UInt32, hostName: SystemString
        ) -> Places {
            let rule = PlaceRule(variable: variable, userID: userID)
            let home = rule.value("HOME") ?? "/tmp/swiftsaf-\(userID)"
            let userState = (rule.value("XDG_STATE_HOME") ?? home + "/.local/state") + "/swiftsaf"
            let userConfig = (rule.value("XDG_CONFIG_HOME") ?? home + "/.config") + "/swiftsaf"
            let shm: SystemString = rule.isRoot ? "/dev/shm/swiftsaf" : "/dev/shm/swiftsaf-\(userID)"
            return Places(
                runDirectory: rule.runDirectory,
                shmDirectory: rule.value("SAF_SHM_DIR") ?? shm,
                stateDirectory: rule.value("SAF_STATE_DIR") ?? (rule.isRoot ? "/var/lib/swiftsaf" : userState),
                logDirectory: rule.value("SAF_LOG_DIR") ?? (rule.isRoot ? "/var/log/swiftsaf" : userState + "/log"),
                configDirectory: rule.value("SAF_CONFIG_DIR") ?? (rule.isRoot ? "/etc/swiftsaf" : userConfig),
                nodeName: rule.value("SAF_NODE_NAME") ?? hostName)
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
#endif

/// What the variables of a process say of its places.
private struct PlaceRule {
    let variable: (SystemString) -> SystemString?
    let userID: UInt32

    var isRoot: Bool { userID == 0 }

    var runDirectory: SystemString {
        if let told = value("SAF_RUN_DIR") { return told }
        if isRoot { return "/run/swiftsaf" }
        return value("XDG_RUNTIME_DIR").map { $0 + "/swiftsaf" } ?? "/tmp/swiftsaf-\(userID)"
    }

    func value(_ name: SystemString) -> SystemString? {
        guard let text = variable(name), !text.isEmpty else { return nil }
        let bytes = text.utf8
        return bytes.count > 1 && bytes.last == 0x2f ? SystemString(decoding: bytes.dropLast(), as: UTF8.self) : text
    }
}
