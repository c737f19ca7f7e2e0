import SAFTypes

// The states in words, as status, events and errors show them.

extension ReadinessState {
    public var word: String {
        switch self {
        case .outOfService: "out-of-service"
        case .inService: "in-service"
        case .stopping: "stopping"
        }
    }
}

extension HAState {
    public var word: String {
        switch self {
        case .active: "active"
        case .standby: "standby"
        case .quiesced: "quiesced"
        case .quiescing: "quiescing"
        }
    }
}

extension PresenceState {
    public var word: String {
        switch self {
        case .uninstantiated: "uninstantiated"
        case .instantiating: "instantiating"
        case .instantiated: "instantiated"
        case .terminating: "terminating"
        case .restarting: "restarting"
        case .instantiationFailed: "instantiation-failed"
        case .terminationFailed: "termination-failed"
        }
    }
}

extension OperationalState {
    public var word: String { self == .enabled ? "enabled" : "disabled" }
}

extension AdminState {
    public var word: String {
        switch self {
        case .unlocked: "unlocked"
        case .locked: "locked"
        case .lockedInstantiation: "locked-instantiation"
        case .shuttingDown: "shutting-down"
        }
    }
}

extension AssignmentState {
    public var word: String {
        switch self {
        case .unassigned: "unassigned"
        case .fullyAssigned: "fully-assigned"
        case .partiallyAssigned: "partially-assigned"
        }
    }
}

extension RedundancyModel {
    public var word: String {
        switch self {
        case .twoN: "2n"
        case .nPlusM: "n+m"
        case .nWay: "n-way"
        case .nWayActive: "n-way-active"
        case .noRedundancy: "no-redundancy"
        }
    }
}

extension RecommendedRecovery {
    public var word: String {
        switch self {
        case .noRecommendation: "no-recommendation"
        case .componentRestart: "component-restart"
        case .componentFailover: "component-failover"
        case .nodeSwitchover: "node-switchover"
        case .nodeFailover: "node-failover"
        case .nodeFailfast: "node-failfast"
        case .clusterReset: "cluster-reset"
        case .applicationRestart: "application-restart"
        case .containerRestart: "container-restart"
        }
    }
}
