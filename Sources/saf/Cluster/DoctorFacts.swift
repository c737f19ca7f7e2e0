import IOCCluster

/// What `saf doctor` saw; nil and empty: it could not be seen.
public struct DoctorFacts: Sendable {
    public var plan: ClusterPlan
    /// Names as of sysctl(8).
    public var kernelSettings: [String: Int] = [:]
    /// Where the kernel's settings are written down on this machine.
    public var sysctlFile = "deploy/sysctl/60-swiftsaf.conf"
    public var clock: Clock?
    public var corosync: Corosync?
    /// By node name: what the resolver says.
    public var resolved: [String: [String]] = [:]
    /// The numeric addresses of this machine.
    public var ownAddresses: [String] = []
    /// Where checkpoints live, and what is free there.
    public var sharedMemory: Space?
    /// Why the engine of the databases on disk cannot be used here; nil: it can.
    public var databaseTrouble: String?
    public var ports: [Port] = []
    public var isNodeRunning = false
    /// Who, and which version: this program first.
    public var versions: [Version] = []
    /// What the amfd of each node says, this one first; empty when none runs here.
    public var builds: [Build] = []
    public var certificates: Certificates?

    public init(_ plan: ClusterPlan) { self.plan = plan }

    public struct Clock: Hashable, Sendable {
        public var isSynchronised: Bool
        public var maximumError: Duration
        public init(isSynchronised: Bool, maximumError: Duration) {
            self.isSynchronised = isSynchronised
            self.maximumError = maximumError
        }
    }

    public struct Corosync: Equatable, Sendable {
        /// Nil when it does not run.
        public var pid: Int32?
        /// Of its main thread.
        public var isRealtime = false
        public var path = CorosyncConfiguration.systemPath
        /// Nil when it cannot be read.
        public var configuration: String?
        /// The file mode of the common key; nil when there is none.
        public var keyMode: UInt32?
        public var quorum: QuorumStatus?
        public init() {}
    }

    public struct Space: Hashable, Sendable {
        public var path: String
        public var freeBytes: Int
        public init(path: String, freeBytes: Int) { (self.path, self.freeBytes) = (path, freeBytes) }
    }

    public struct Port: Hashable, Sendable {
        public enum State: Hashable, Sendable {
            case free, inUse
            /// What the system said.
            case refused(String)
        }

        public var service: String
        public var address: String
        public var number: UInt16
        public var state: State

        public init(service: String, address: String, number: UInt16, state: State) {
            (self.service, self.address, self.number, self.state) = (service, address, number, state)
        }
    }

    public struct Version: Hashable, Sendable {
        public var who: String
        /// Nil: it does not say.
        public var version: String?
        public init(who: String, version: String?) { (self.who, self.version) = (who, version) }
    }

    /// The amfd of one node.
    public struct Build: Hashable, Sendable {
        public var node: String
        /// Nil: it does not answer, or is of a build that does not say.
        public var version: String?
        /// The versions of the cluster's commands that it understands.
        public var commands: ClosedRange<UInt16>?
        public init(node: String, version: String? = nil, commands: ClosedRange<UInt16>? = nil) {
            (self.node, self.version, self.commands) = (node, version, commands)
        }

        /// A line of `amfd versions`: node, version, oldest and newest commands; or node and `silent`.
        public init?(line: Substring) {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 4, let oldest = UInt16(words[2]), let newest = UInt16(words[3]), oldest <= newest
            else {
                guard words.count == 2, words[1] == "silent" else { return nil }
                self.init(node: words[0])
                return
            }
            self.init(node: words[0], version: words[1], commands: oldest...newest)
        }
    }

    /// What is in the certificate folder.
    public enum Certificates: Hashable, Sendable {
        /// Why they cannot be used.
        case unusable(String)
        /// `cluster` and `node` as they stand in the certificate; days until it is no longer valid.
        case read(identity: String, expected: String, daysLeft: Int, isSigned: Bool, keyMatches: Bool, isValidYet: Bool)
    }
}

/// One thing that was looked at.
public struct DoctorFinding: Hashable, Sendable {
    public enum Verdict: String, Hashable, Sendable, CaseIterable {
        case good
        /// Works, and might not when it matters.
        case attention
        case wrong
        /// Could not be seen.
        case unknown
    }

    public var check: String
    public var verdict: Verdict
    public var found: String
    public var expected: String
    /// How to mend it; empty when nothing is to be mended.
    public var remedy: String

    public init(_ check: String, _ verdict: Verdict, found: String, expected: String, remedy: String = "") {
        self.check = check
        self.verdict = verdict
        self.found = found
        self.expected = expected
        self.remedy = verdict == .good ? "" : remedy
    }
}
