import AmfProtocol
import EngineKit
import SAFTypes

/// What the node engine knows of one component of its node.
struct LocalComponent: Sendable {
    let name: SaName
    let model: ComponentModel
    var state: LifeState = .absent
    /// The instance that is wanted, and the one whose process lives (or lived last).
    var instance: InstanceNumber = 0
    var processInstance: InstanceNumber = 0
    var pid: Int32 = 0
    var startedAt: SaTime = 0
    var environment: [EnvironmentVariable] = []
    /// Attempts to instantiate the present instance.
    var attempts: UInt32 = 0
    var hasReportedDelay = false
    /// Why the last attempt or clean-up failed.
    var reason = ""
    /// Deaths and kills in a row that came soon after the start: they slow the next start down.
    var quickDeaths: UInt32 = 0
    var readySince = Instant.start
    /// How long the process had been ready when it died, until its exit is known.
    var diedAfter: Duration?

    var timers = TimerGenerations()
    /// The one outstanding CSISet or CSIRemove.
    var pending: PendingInvocation?
    var lastAnswered: InvocationID?
    /// Answers that came with a re-registration, for orders that have not come again yet.
    var earlyAnswers: [InvocationAnswer] = []
    /// The CSISet(quiescing) that was answered and not completed.
    var quiescing: InvocationID?
    var terminateInvocation: InvocationID?
    var held: [HeldAssignment] = []
    /// Of what it was told to be active for in this life of amfd, by which CSISet; of some that it holds no more, too.
    var epochs: [Activity] = []
    var healthchecks: [RunningHealthcheck] = []

    let isMiddleware: Bool

    init(name: SaName, model: ComponentModel) {
        (self.name, self.model) = (name, model)
        var root = name
        while let parent = DN.parent(root) { root = parent }
        isMiddleware = MiddlewareModel.isMiddleware(DN.shortName(root))
    }

    var isRunning: Bool { state == .ready || state == .unconnected }

    /// A process of it executes, or may.
    var hasProcess: Bool {
        switch state {
        case .registering, .ready, .unconnected, .terminating, .killing, .terminationFailed: pid != 0
        case .absent, .spawning, .dying, .dead, .cleaning, .delaying, .instantiationFailed: false
        }
    }

    /// It could be working for an instance: its process lives, and it holds it as active or was asked to.
    var mayBeActive: Bool {
        guard hasProcess else { return false }
        if model.category == .nonSaAware { return true }
        if held.contains(where: { $0.haState == .active || $0.haState == .quiescing }) { return true }
        guard case .set(let order)? = pending else { return false }
        return order.haState == .active || order.haState == .quiescing
    }

    /// What its process may be working for, in the order of its coming.
    var activities: [Activity] {
        var activities = held.filter { $0.haState == .active || $0.haState == .quiescing }.map { assignment in
            epochs.first { $0.csi == assignment.csi } ?? Activity(csi: assignment.csi, epoch: 0)
        }
        guard case .set(let order)? = pending, order.haState == .active else { return activities }
        for csi in order.descriptor.csi.map({ [$0] }) ?? held.map(\.csi) {
            activities.removeAll { $0.csi == csi }
            activities.append(Activity(csi: csi, epoch: order.invocation.rawValue))
        }
        return activities
    }

    /// Forgets everything that belonged to the process that is gone.
    mutating func forgetProcess() {
        pid = 0
        startedAt = 0
        diedAfter = nil
        pending = nil
        lastAnswered = nil
        earlyAnswers = []
        quiescing = nil
        terminateInvocation = nil
        held = []
        epochs = []
        healthchecks = []
    }

    /// It has acknowledged an assignment.
    mutating func take(_ order: CSISetOrder) {
        if order.haState == .active {
            for csi in order.descriptor.csi.map({ [$0] }) ?? held.map(\.csi) {
                epochs.removeAll { $0.csi == csi }
                epochs.append(Activity(csi: csi, epoch: order.invocation.rawValue))
            }
        }
        hold(order.descriptor.csi, order.haState)
    }

    private mutating func hold(_ csi: SaName?, _ haState: HAState) {
        guard let csi else {
            for index in held.indices { held[index].haState = haState }
            return
        }
        if let index = held.firstIndex(where: { $0.csi == csi }) {
            held[index].haState = haState
        } else {
            held.append(HeldAssignment(csi: csi, haState))
        }
    }

    mutating func release(_ csi: SaName?) {
        held.removeAll { csi == nil || $0.csi == csi }
        epochs.removeAll { csi == nil || $0.csi == csi }
    }
}

enum PendingInvocation: Hashable, Sendable {
    case set(CSISetOrder)
    case remove(CSIRemoveOrder)

    var invocation: InvocationID {
        switch self {
        case .set(let order): order.invocation
        case .remove(let order): order.invocation
        }
    }

    var push: AmfPush {
        switch self {
        case .set(let order):
            .csiSet(order.invocation, component: order.component, order.haState, order.descriptor)
        case .remove(let order): .csiRemove(order.invocation, component: order.component, csi: order.csi)
        }
    }
}

struct RunningHealthcheck: Hashable, Sendable {
    let model: HealthcheckModel
    let invocation: HealthcheckInvocation
    let recovery: RecommendedRecovery
    /// The callback that is not answered yet.
    var outstanding: InvocationID?
}

/// The generation of each running timer, so that a late expiry of a replaced or cancelled one is told apart.
struct TimerGenerations: Sendable {
    private var last: UInt32 = 0
    private var running: [(kind: NodeTimer.Kind, generation: UInt32)] = []

    mutating func start(_ kind: NodeTimer.Kind) -> UInt32 {
        last &+= 1
        running.removeAll { $0.kind == kind }
        running.append((kind, last))
        return last
    }

    /// The generation to cancel, or nil when none runs.
    mutating func stop(_ kind: NodeTimer.Kind) -> UInt32? {
        guard let index = running.firstIndex(where: { $0.kind == kind }) else { return nil }
        return running.remove(at: index).generation
    }

    /// True once for the expiry of a timer that runs.
    mutating func expire(_ timer: NodeTimer) -> Bool {
        guard let index = running.firstIndex(where: { $0.kind == timer.kind && $0.generation == timer.generation })
        else { return false }
        running.remove(at: index)
        return true
    }

    mutating func stopAll() -> [(kind: NodeTimer.Kind, generation: UInt32)] {
        defer { running = [] }
        return running
    }
}
