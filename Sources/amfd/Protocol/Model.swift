import SAFTypes

/// The configuration of everything that amfd keeps available. Names are relative; ``DN`` builds distinguished names.
///
/// The names of the properties are the keys of the YAML model. Source: SAI-AIS-AMF-B.02.01 §9, saf-ais A5.12.
public struct AmfModel: Hashable, Sendable {
    /// RDN value of safAmfCluster.
    public var cluster = "swiftsaf"
    /// How long the first assignment of a service group waits for its preferred service units.
    /// saAmfClusterStartupTimeout.
    public var startupTimeout: Duration = .seconds(10)
    public var adminState: AdminState = .unlocked
    /// How often amfd asks each of the middleware's own daemons whether it is well; zero: never. Their deaths are seen
    /// at once in any case; this finds one that hangs.
    public var daemonHealthcheckPeriod: Duration = .seconds(5)
    public var nodes: [NodeModel] = []
    public var applications: [ApplicationModel] = []
    public init() {}
}

public struct NodeModel: Hashable, Sendable {
    public var name = ""
    public var id = NodeID(0)
    public var adminState: AdminState = .unlocked
    /// Service unit fail-overs on this node within the probation before the whole node fails over.
    /// saAmfNodeSuFailoverMax.
    public var suFailoverMax: UInt32 = 10
    public var suFailoverProbation: Duration = .seconds(60)
    public var autoRepair = true
    public init() {}
    public init(name: String, id: NodeID) { (self.name, self.id) = (name, id) }
}

public struct ApplicationModel: Hashable, Sendable {
    public var name = ""
    public var adminState: AdminState = .unlocked
    public var serviceGroups: [ServiceGroupModel] = []
    public var serviceInstances: [ServiceInstanceModel] = []
    public init() {}
    public init(name: String) { self.name = name }
}

public struct ServiceGroupModel: Hashable, Sendable {
    public var name = ""
    public var adminState: AdminState = .unlocked
    public var redundancyModel: RedundancyModel = .twoN
    /// Re-instantiate failed service units. saAmfSGAutoRepair.
    public var autoRepair = true
    /// Move assignments back to better-ranked units; carried, not acted on by 2N and no redundancy. saAmfSGAutoAdjust.
    public var autoAdjust = false
    public var autoAdjustProbation: Duration = .seconds(10)
    /// 0: the default of the redundancy model (2N: 2; others: every service unit).
    public var preferredInServiceSUs: UInt32 = 0
    public var preferredAssignedSUs: UInt32 = 0
    public var preferredActiveSUs: UInt32 = 1
    public var preferredStandbySUs: UInt32 = 1
    /// 0: no limit. Used by the N+M and N-way models.
    public var maxActiveSIsPerSU: UInt32 = 0
    public var maxStandbySIsPerSU: UInt32 = 0
    /// Component restarts within the probation before the service unit is restarted; 0 skips the level.
    public var componentRestartMax: UInt32 = 5
    public var componentRestartProbation: Duration = .seconds(10)
    /// Service unit restarts within the probation before it fails over; 0 skips the level.
    public var suRestartMax: UInt32 = 5
    public var suRestartProbation: Duration = .seconds(20)
    /// Groups of lower levels on a node are up before this one starts; the middleware uses 1…3.
    public var bootLevel: UInt8 = ServiceGroupModel.applicationBootLevel
    public var serviceUnits: [ServiceUnitModel] = []
    public static let applicationBootLevel: UInt8 = 10
    public init() {}
    public init(name: String, _ redundancyModel: RedundancyModel) {
        (self.name, self.redundancyModel) = (name, redundancyModel)
    }
}

public struct ServiceUnitModel: Hashable, Sendable {
    public var name = ""
    public var adminState: AdminState = .unlocked
    /// 1 is the best; 0 is the worst. saAmfSURank.
    public var rank: UInt32 = 0
    /// The name of the node that hosts it. saAmfSUHostNodeOrNodeGroup.
    public var node = ""
    /// A component fail-over fails over the whole service unit. saAmfSUFailover.
    public var failover = true
    public var components: [ComponentModel] = []
    public init() {}
    public init(name: String, node: String, rank: UInt32 = 0) {
        (self.name, self.node, self.rank) = (name, node, rank)
    }
}

/// How a component takes part. Source: SAI-AIS-AMF-B.02.01 §3.1.2.
public enum ComponentCategory: UInt8, Hashable, Sendable, CaseIterable {
    /// Registers with amfd and answers its callbacks.
    case saAware = 1
    /// Knows nothing of amfd: runs while its service unit is active, gets the CSI attributes as environment.
    case nonSaAware = 2
}

public struct ComponentModel: Hashable, Sendable {
    public var name = ""
    public var category: ComponentCategory = .saAware
    /// Path of the program; relative ones are looked for beside amfd's own program. CLC-CLI INSTANTIATE.
    public var command = ""
    public var arguments: [String] = []
    public var environment: [EnvironmentVariable] = []
    /// Empty: the node's run directory.
    public var workingDirectory = ""
    /// Empty: amfd's own.
    public var user = ""
    public var group = ""
    public var limits: [ResourceLimitModel] = []
    /// Run after the process is gone, to remove what it left; empty: none. CLC-CLI CLEANUP.
    public var cleanupCommand = ""
    public var cleanupArguments: [String] = []
    /// Lower levels of a service unit are instantiated first and terminated last.
    public var instantiationLevel: UInt32 = 0
    public var timeouts = ComponentTimeouts()
    /// Attempts to instantiate without and with a delay between. saAmfNumMaxInstantiateWithoutDelay / WithDelay.
    public var instantiateWithoutDelayMax: UInt32 = 2
    public var instantiateWithDelayMax: UInt32 = 0
    public var instantiateDelay: Duration = .seconds(1)
    /// Recovery of a death, a timeout, a bad answer, or an error report without recommendation.
    public var recoveryOnError: RecommendedRecovery = .componentFailover
    /// Restart recovery is not allowed: treated as fail-over. saAmfCompDisableRestart.
    public var disableRestart = false
    public var csiTypes: [SupportedCSIType] = []
    public var healthchecks: [HealthcheckModel] = []
    public init() {}
    public init(name: String, command: String) { (self.name, self.command) = (name, command) }
}

public struct EnvironmentVariable: Hashable, Sendable {
    public var name = ""
    public var value = ""
    public init() {}
    public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
}

/// A resource of setrlimit(2).
public enum LimitedResource: UInt8, Hashable, Sendable, CaseIterable {
    case addressSpace = 1, coreSize, cpuSeconds, dataSize, fileSize, openFiles, processes, lockedMemory, stackSize
}

public struct ResourceLimitModel: Hashable, Sendable {
    public var resource: LimitedResource = .openFiles
    /// `UInt64.max`: without limit.
    public var soft: UInt64 = 0
    public var hard: UInt64 = 0
    public init() {}
    public init(_ resource: LimitedResource, soft: UInt64, hard: UInt64) {
        (self.resource, self.soft, self.hard) = (resource, soft, hard)
    }
}

public struct ComponentTimeouts: Hashable, Sendable {
    /// From the start of the process to its registration.
    public var instantiate: Duration = .seconds(20)
    public var terminate: Duration = .seconds(20)
    public var cleanup: Duration = .seconds(20)
    public var csiSet: Duration = .seconds(20)
    public var csiRemove: Duration = .seconds(20)
    public var quiescingComplete: Duration = .seconds(60)
    public init() {}
    public init(all duration: Duration) {
        (instantiate, terminate, cleanup) = (duration, duration, duration)
        (csiSet, csiRemove, quiescingComplete) = (duration, duration, duration)
    }
}

/// SaAmfCompCapabilityModelT.
public enum CapabilityModel: UInt8, Hashable, Sendable, CaseIterable {
    case xActiveAndYStandby = 1, xActiveOrYStandby, oneActiveOrYStandby, oneActiveOrOneStandby, xActive, oneActive
    case nonPreInstantiable
}

public struct SupportedCSIType: Hashable, Sendable {
    public var name = ""
    public var capability: CapabilityModel = .xActiveOrYStandby
    /// 0: as the capability says (1 for "one", else no limit).
    public var maxActive: UInt32 = 0
    public var maxStandby: UInt32 = 0
    public init() {}
    public init(_ name: String, _ capability: CapabilityModel = .xActiveOrYStandby) {
        (self.name, self.capability) = (name, capability)
    }
}

public struct HealthcheckModel: Hashable, Sendable {
    /// At most 32 octets.
    public var key = ""
    public var period: Duration = .seconds(10)
    /// How long an answer may take when amfd asks.
    public var maxDuration: Duration = .seconds(10)
    public init() {}
    public init(key: String, period: Duration, maxDuration: Duration) {
        (self.key, self.period, self.maxDuration) = (key, period, maxDuration)
    }
}

public struct ServiceInstanceModel: Hashable, Sendable {
    public var name = ""
    public var adminState: AdminState = .unlocked
    /// 1 is the most important; 0 is the least. saAmfSIRank.
    public var rank: UInt32 = 0
    /// The name of the group of the same application that protects it.
    public var serviceGroup = ""
    public var preferredActiveAssignments: UInt32 = 1
    public var preferredStandbyAssignments: UInt32 = 1
    public var dependencies: [SIDependencyModel] = []
    public var csis: [CSIModel] = []
    public init() {}
    public init(name: String, serviceGroup: String) { (self.name, self.serviceGroup) = (name, serviceGroup) }
}

public struct SIDependencyModel: Hashable, Sendable {
    /// The DN of the sponsor, or the name of one in the same application.
    public var sponsor = ""
    public var toleranceTime: Duration = .zero
    public init() {}
    public init(sponsor: String, toleranceTime: Duration = .zero) {
        (self.sponsor, self.toleranceTime) = (sponsor, toleranceTime)
    }
}

public struct CSIModel: Hashable, Sendable {
    public var name = ""
    /// A component that lists it among its csiTypes can be assigned.
    public var type = ""
    public var rank: UInt32 = 0
    public var attributes: [CSIAttribute] = []
    /// Names of CSIs of the same service instance that are active before this one. saAmfCSIDependencies.
    public var dependencies: [String] = []
    public init() {}
    public init(name: String, type: String) { (self.name, self.type) = (name, type) }
}

/// One name and value of SaAmfCSIAttributeListT; several values are several of these.
public struct CSIAttribute: Hashable, Sendable {
    public var name = ""
    public var value = ""
    public init() {}
    public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
}
