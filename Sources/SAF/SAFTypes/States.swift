// The states of AMF entities. Raw values: saAmf.h; names: SAI-AIS-AMF-B.02.01 §3.2.

public enum HAState: UInt8, Hashable, Sendable, CaseIterable {
    case active = 1, standby, quiesced, quiescing
}

public enum ReadinessState: UInt8, Hashable, Sendable, CaseIterable {
    case outOfService = 1, inService, stopping
}

public enum PresenceState: UInt8, Hashable, Sendable, CaseIterable {
    case uninstantiated = 1, instantiating, instantiated, terminating, restarting, instantiationFailed,
        terminationFailed
}

public enum OperationalState: UInt8, Hashable, Sendable, CaseIterable {
    case enabled = 1, disabled
}

public enum AdminState: UInt8, Hashable, Sendable, CaseIterable {
    case unlocked = 1, locked, lockedInstantiation, shuttingDown
}

public enum AssignmentState: UInt8, Hashable, Sendable, CaseIterable {
    case unassigned = 1, fullyAssigned, partiallyAssigned
}

public enum RedundancyModel: UInt8, Hashable, Sendable, CaseIterable {
    case twoN = 1, nPlusM, nWay, nWayActive, noRedundancy
}

/// SaAmfRecommendedRecoveryT.
public enum RecommendedRecovery: UInt8, Hashable, Sendable, CaseIterable {
    case noRecommendation = 1, componentRestart, componentFailover, nodeSwitchover, nodeFailover, nodeFailfast
    case clusterReset, applicationRestart, containerRestart
}

/// SaAmfCSITransitionDescriptorT: why a component becomes active.
public enum TransitionDescriptor: UInt8, Hashable, Sendable, CaseIterable {
    case newAssign = 1, quiesced, notQuiesced, stillActive
}
