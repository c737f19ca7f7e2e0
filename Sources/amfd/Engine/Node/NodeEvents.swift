import AmfProtocol
import EngineKit
import SAFTypes

/// One process life of a component: an order or a report about another instance is about another process.
public typealias InstanceNumber = UInt32

/// What the cluster engine wants of a component on one node. Every order may be given twice.
public enum NodeOrder: Hashable, Sendable {
    /// Start the component as `instance`; a living older instance is cleaned up first. `environment`: CSI attributes of
    /// a non-SA-aware component.
    case instantiate(SaName, InstanceNumber, environment: [EnvironmentVariable])
    /// Stop gracefully, then clean up.
    case terminate(SaName, InstanceNumber)
    /// Kill and clean up. Also for an instance that is gone: then it is reported at once.
    case cleanup(SaName, InstanceNumber)
    /// The cluster engine believes that this instance lives: report it if not.
    case confirm(SaName, InstanceNumber)
    case csiSet(CSISetOrder)
    case csiRemove(CSIRemoveOrder)

    public var component: SaName {
        switch self {
        case .instantiate(let component, _, _), .terminate(let component, _), .cleanup(let component, _),
            .confirm(let component, _):
            component
        case .csiSet(let order): order.component
        case .csiRemove(let order): order.component
        }
    }
}

public struct CSISetOrder: Hashable, Sendable {
    public var invocation: InvocationID
    public var component: SaName
    public var instance: InstanceNumber
    public var haState: HAState
    public var descriptor: CSIDescriptor
}

public struct CSIRemoveOrder: Hashable, Sendable {
    public var invocation: InvocationID
    public var component: SaName
    public var instance: InstanceNumber
    /// Nil: all that the component holds.
    public var csi: SaName?
}

/// What a node engine tells the cluster engine: a command of the replicated engine.
public enum NodeReport: Hashable, Sendable {
    /// Spawned and, if SA-aware, registered. `startedAt`: UTC.
    case instantiated(SaName, InstanceNumber, pid: Int32, startedAt: SaTime)
    /// A living component of a former life of amfd registered again with what it holds.
    case adopted(SaName, InstanceNumber, pid: Int32, startedAt: SaTime, held: [HeldAssignment])
    /// The undelayed attempts are used up; it goes on trying.
    case instantiationDelayed(SaName, InstanceNumber, reason: String)
    /// Every attempt failed; nothing of it lives.
    case instantiationFailed(SaName, InstanceNumber, reason: String)
    /// No process of this or an earlier instance lives, and clean-up is done.
    case uninstantiated(SaName, InstanceNumber)
    case terminationFailed(SaName, InstanceNumber, reason: String)
    /// An error. `isDead`: the process executes nothing any more.
    case failed(SaName, InstanceNumber, recovery: RecommendedRecovery, isDead: Bool, cause: FailureCause)
    /// How the process of a death that was reported ended: "killed by SIGKILL after 29 s".
    case exited(SaName, InstanceNumber, reason: String)
    /// A CSISet or CSIRemove was answered with OK.
    case answered(SaName, InstanceNumber, InvocationID)
    case quiescingComplete(SaName, InstanceNumber)
    /// saAmfComponentErrorClear().
    case errorCleared(SaName)

    public var component: SaName {
        switch self {
        case .instantiated(let name, _, _, _), .adopted(let name, _, _, _, _), .instantiationDelayed(let name, _, _),
            .instantiationFailed(let name, _, _), .uninstantiated(let name, _), .terminationFailed(let name, _, _),
            .failed(let name, _, _, _, _), .answered(let name, _, _), .quiescingComplete(let name, _),
            .exited(let name, _, _),
            .errorCleared(let name):
            name
        }
    }
}

/// Why a component failed.
public enum FailureCause: UInt8, Hashable, Sendable, CaseIterable {
    case died = 1, errorReport, registerTimeout, csiSetTimeout, csiSetRefused, csiRemoveTimeout, csiRemoveRefused
    case quiescingTimeout, quiescingRefused, healthcheckTimeout, healthcheckRefused, healthcheckMissed, unregistered
    case adoptionTimeout, connectionLost, spawnFailed, exited
}

/// What happens on this node.
public enum NodeEvent: Hashable, Sendable {
    /// The configuration, middleware included; components of other nodes are ignored.
    case model(AmfModel)
    case order(NodeOrder)
    /// At the start of amfd, before anything else but the model: processes of a former life that still live.
    case adopt([LivingComponent])
    /// Right after that: a process of a former life ended while nobody looked, or its clean-up was interrupted. Its
    /// clean-up is still to be done.
    case ended(SaName, InstanceNumber)

    /// Answer to ``NodeEffect/spawn``: the process runs.
    case spawned(SaName, InstanceNumber, pid: Int32, startedAt: SaTime)
    /// …or could not be started: `reason` names the program and the cause.
    case spawnFailed(SaName, InstanceNumber, reason: String)
    /// The life lock came free and the process is really exiting. The exit itself follows.
    case lifeLockReleased(SaName, InstanceNumber)
    /// The process is reaped (pidfd), its group killed. `reason`: "exit status 3", "signal 9".
    case exited(SaName, InstanceNumber, reason: String)
    /// The connection of the registration is gone; the process may live (it reconnects) or not (life lock tells).
    case connectionLost(SaName, InstanceNumber)
    /// The clean-up command ended.
    case cleanedUp(SaName, InstanceNumber, succeeded: Bool, reason: String)

    /// A request of a process; `pid` by the peer's credentials. Answered by exactly one ``NodeEffect/reply``, at once.
    case request(AmfRequest, ticket: UInt64, pid: Int32)
    case timer(NodeTimer)
}

/// What a node knows of a component's process; one of a former life of amfd was found in the children table, and
/// verified by pid and start time.
public struct LivingComponent: Hashable, Sendable {
    public var component: SaName
    public var instance: InstanceNumber
    /// 0: none lives.
    public var pid: Int32
    public var startedAt: SaTime
    /// The highest number that an order gave it. In a part of the cluster that did not last it may have been one that
    /// the state does not know.
    public var lastInstance: InstanceNumber
    public init(
        component: SaName, instance: InstanceNumber, pid: Int32, startedAt: SaTime, lastInstance: InstanceNumber? = nil
    ) {
        (self.component, self.instance, self.pid, self.startedAt) = (component, instance, pid, startedAt)
        self.lastInstance = lastInstance ?? instance
    }
}

/// A process of an application that could be working for an instance.
public struct ActiveProcess: Hashable, Sendable {
    public var component: SaName
    public var instance: InstanceNumber
    public init(component: SaName, instance: InstanceNumber) {
        (self.component, self.instance) = (component, instance)
    }
}

/// A CSI that a component is active for, or may be, and the CSISet that made it so: a later one has a higher number.
public struct Activity: Hashable, Sendable {
    public var csi: SaName
    /// 0: not known, from before this life of amfd.
    public var epoch: UInt64
    public init(csi: SaName, epoch: UInt64) { (self.csi, self.epoch) = (csi, epoch) }
}

/// One timer each; starting one again replaces it. A late one, of another generation, is ignored.
public struct NodeTimer: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// Instantiate, retry delay, terminate, clean-up, adoption: one at a time.
        case life
        /// The outstanding CSISet or CSIRemove.
        case invocation
        case quiescing
        case healthcheckPeriod(String)
        case healthcheckAnswer(String)
    }
    public var component: SaName
    public var kind: Kind
    public var generation: UInt32
}

/// What the shell does, in this order.
public enum NodeEffect: Hashable, Sendable {
    /// Propose to the cluster engine.
    case report(NodeReport)
    /// Start the process; ``NodeEvent/spawned`` or ``NodeEvent/spawnFailed`` follows.
    case spawn(SaName, InstanceNumber, ComponentModel, environment: [EnvironmentVariable])
    /// Push to the component's registered connection; if it is not connected, drop it: it comes again.
    case push(AmfPush)
    /// SIGTERM to the leader.
    case signalTerminate(SaName, InstanceNumber)
    /// SIGKILL to the group; ``NodeEvent/exited`` follows (also if it was gone already).
    case kill(SaName, InstanceNumber)
    /// ``NodeEvent/cleanedUp`` follows; the shell ends it at the configured clean-up timeout.
    case runCleanup(SaName, InstanceNumber, ComponentModel)
    case reply(UInt64, NodeReply)
    case startTimer(NodeTimer, after: Duration)
    case cancelTimer(NodeTimer)
    case note(NodeNote)
}

public enum NodeReply: Hashable, Sendable {
    case done
    /// The connection is now that of this component: pushes go there. The shell adds lock and incarnation.
    case registered(SaName, InstanceNumber)
    case haState(HAState)
    case failed(AisError, String)
    /// Not a node matter: the shell takes it to the cluster engine (admin, status, model, stop).
    case forward
}

/// What an operator or engineer wants to read; the shell renders and logs it.
public enum NodeNote: Hashable, Sendable {
    case spawnFailed(SaName, reason: String)
    case instantiateTimeout(SaName, attempt: UInt32)
    case exitedEarly(SaName, reason: String)
    case failed(SaName, FailureCause, recovery: RecommendedRecovery)
    case ended(SaName, pid: Int32, reason: String)
    case lateAnswer(SaName, InvocationID)
    case adopted(SaName, pid: Int32)
    case notAdopted(SaName, pid: Int32)
    case instantiationFailed(SaName, reason: String)
    case terminationFailed(SaName, reason: String)
    case refusedRegistration(SaName, pid: Int32, reason: String)
}
