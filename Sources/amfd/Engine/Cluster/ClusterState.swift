import AmfProtocol
import EngineKit
import SAFTypes

// The entities: what the model says of each (`let`), and what happens to it (`run`, the part a snapshot holds).
// Entities refer to each other by their position in the engine's lists, which are in the order of the model.

struct NodeEntity: Sendable {
    let name: SaName
    let model: NodeModel
    var units: [Int] = []
    var run: NodeRun
}

struct NodeRun: Hashable, Sendable {
    var isMember = false
    var incarnation: UInt64 = 0
    var adminState: AdminState = .unlocked
    var isDisabled = false
    var isStopping = false
    var hasStopped = false
    /// Service units of groups up to this boot level may start.
    var bootLevel: UInt8 = 0
    var suFailovers = Counter()
    init() {}
}

struct ApplicationEntity: Sendable {
    let name: SaName
    let model: ApplicationModel
    var groups: [Int] = []
    var run: ApplicationRun
}

struct ApplicationRun: Hashable, Sendable {
    var adminState: AdminState = .unlocked
    init() {}
}

struct GroupEntity: Sendable {
    let name: SaName
    let model: ServiceGroupModel
    let application: Int
    /// In the order of preference: rank, then model.
    var units: [Int] = []
    /// In the order of importance: rank, then model.
    var instances: [Int] = []
    /// Groups with instances that depend on one of this group's.
    var dependents: [Int] = []
    var run: GroupRun
}

struct GroupRun: Hashable, Sendable {
    var adminState: AdminState = .unlocked
    /// The first assignment was made: later ones do not wait.
    var isStarted = false
    /// SI_SWAP under way: the unit that becomes active.
    var swapTarget: UInt32?
    init() {}
}

struct UnitEntity: Sendable {
    let name: SaName
    let model: ServiceUnitModel
    let group: Int
    let node: Int
    var components: [Int] = []
    /// All its components run only while they are active.
    let isNonPreInstantiable: Bool
    /// One of the middleware's own: what happens to its node for an application's sake does not touch it.
    let isMiddleware: Bool
    var run: UnitRun
}

enum UnitPhase: UInt8, Hashable, Sendable, CaseIterable {
    case normal = 1
    /// All components are restarted; assignments are kept.
    case restarting
    /// All components are cleaned up; assignments move.
    case failingOver
    /// One component failed over by itself; the assignments of the others move too.
    case evacuating
}

struct UnitRun: Hashable, Sendable {
    var adminState: AdminState = .unlocked
    var isDisabled = false
    var phase: UnitPhase = .normal
    /// An administrator asked for the repair of a failed unit.
    var isBeingRepaired = false
    /// It failed over too often: only an administrator brings it back.
    var isGivenUp = false
    var failovers = Counter()
    var componentRestarts = Counter()
    var restarts = Counter()
    /// What was told last.
    var toldPresence: PresenceState = .uninstantiated
    var toldReadiness: ReadinessState = .outOfService
    init() {}
}

struct ComponentEntity: Sendable {
    let name: SaName
    let model: ComponentModel
    let unit: Int
    let node: Int
    var isPreInstantiable: Bool { model.category == .saAware }
    var run: ComponentRun
}

/// What a node was asked to do about a process and has not reported done.
enum OpenOrder: UInt8, Hashable, Sendable, CaseIterable {
    case instantiate = 1, terminate, cleanup
}

struct ComponentRun: Hashable, Sendable {
    var presence: PresenceState = .uninstantiated
    var isDisabled = false
    var instance: InstanceNumber = 0
    var pid: Int32 = 0
    var startedAt: SaTime = 0
    var starts: UInt32 = 0
    var lastError = ""
    /// Nanoseconds of the engine's time.
    var lastErrorAt: UInt64 = 0
    var order: OpenOrder?
    /// The process executes nothing any more; its clean-up is not reported yet.
    var isDead = false
    /// Instantiation fails again and again; others do not wait for it.
    var isDelayed = false
    var assignments: [Assignment] = []
    var pending: PendingHA?
    var toldPresence: PresenceState = .uninstantiated
    var toldDisabled = false
    init() {}
}

/// One CSI of one component.
struct Assignment: Hashable, Sendable {
    var csi: UInt32 = 0
    /// What was asked last.
    var wanted: HAState = .active
    /// What the present process acknowledged; nil: nothing yet.
    var state: HAState?
    /// The CSISet(quiescing) whose completion is awaited.
    var quiescing: UInt64 = 0
    /// The process was asked to become active, the answer is awaited no more, and it may still live: it may be active.
    var isDoubtful = false
    init() {}
    init(csi: Int, _ wanted: HAState) { (self.csi, self.wanted) = (UInt32(csi), wanted) }
}

/// The one outstanding CSISet or CSIRemove of a component.
struct PendingHA: Hashable, Sendable {
    var invocation: UInt64 = 0
    /// Nil: remove.
    var haState: HAState?
    var flags: CSIFlags = .addOne
    var csis: [UInt32] = []
    var transition: TransitionDescriptor = .newAssign
    var activeComponent: SaName?
    init() {}
}

struct InstanceEntity: Sendable {
    let name: SaName
    let model: ServiceInstanceModel
    let group: Int
    /// Sponsors before dependents, else by rank.
    var csis: [Int] = []
    var sponsors: [Int] = []
    var run: InstanceRun
}

struct InstanceRun: Hashable, Sendable {
    var adminState: AdminState = .unlocked
    var toldAssignment: AssignmentState = .unassigned
    init() {}
}

struct CSIEntity: Sendable {
    let name: SaName
    let model: CSIModel
    let instance: Int
    /// CSIs of the same service instance that must be active before.
    var sponsors: [Int] = []
    var dependents: [Int] = []
    var run: CSIRun
}

struct CSIRun: Hashable, Sendable {
    /// Who was active last, and how it ceased: for the transition descriptor.
    var formerActive: SaName?
    var formerWasQuiesced = false
    /// The CSISet that made somebody active for it last.
    var epoch: UInt64 = 0
    init() {}
}

/// Events within a window that starts with the first. Source: saf-ais A5.7.
struct Counter: Hashable, Sendable {
    var count: UInt32 = 0
    var start: UInt64 = 0
    init() {}

    func isRunning(_ probation: Duration, at now: Instant) -> Bool {
        count > 0 && now - Instant(nanoseconds: start) < probation
    }

    /// Counts one more if that is allowed.
    mutating func allows(max: UInt32, within probation: Duration, at now: Instant) -> Bool {
        if !isRunning(probation, at: now) { count = 0 }
        guard count < max else { return false }
        if count == 0 { start = now.nanoseconds }
        count += 1
        return true
    }
}

/// An administrative operation that is not answered yet.
struct PendingAdmin: Hashable, Sendable {
    /// Names its timer.
    var number: UInt32 = 0
    var ticket = AdminTicket()
    var operation: AdminOperation = .unlock
    var name = SaName.none
    init() {}
}

/// Where a name leads.
enum Entity: Hashable, Sendable {
    case cluster
    case node(Int), application(Int), group(Int), unit(Int), component(Int), instance(Int), csi(Int)
}
