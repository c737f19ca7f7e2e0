import AmfProtocol
import EngineKit
import SAFTypes

// The state of the cluster engine as bytes: for members that join, for the journal, for digests.

/// Everything that changes, in the order of the model.
struct Runs: Hashable, Sendable {
    var nodes: [NodeRun] = []
    var applications: [ApplicationRun] = []
    var groups: [GroupRun] = []
    var units: [UnitRun] = []
    var components: [ComponentRun] = []
    var instances: [InstanceRun] = []
    var csis: [CSIRun] = []
    var adminState: AdminState = .unlocked
    var isStarted = false
    var nextInvocation: UInt64 = 1
    var pendingAdmin: [PendingAdmin] = []
    init() {}
}

extension ClusterEngine {
    public static let snapshotVersion: UInt16 = 1

    var runs: Runs {
        var runs = Runs()
        runs.nodes = nodes.map(\.run)
        runs.applications = applications.map(\.run)
        runs.groups = groups.map(\.run)
        runs.units = units.map(\.run)
        runs.components = components.map(\.run)
        runs.instances = instances.map(\.run)
        runs.csis = csis.map(\.run)
        runs.adminState = adminState
        runs.isStarted = isStarted
        runs.nextInvocation = nextInvocation
        runs.pendingAdmin = pendingAdmin
        return runs
    }

    /// Gives the first entities their state back; the ones after them keep the model's.
    mutating func restore(_ runs: Runs) {
        for (index, run) in runs.nodes.enumerated() { nodes[index].run = run }
        for (index, run) in runs.applications.enumerated() { applications[index].run = run }
        for (index, run) in runs.groups.enumerated() { groups[index].run = run }
        for (index, run) in runs.units.enumerated() { units[index].run = run }
        for (index, run) in runs.components.enumerated() { components[index].run = run }
        for (index, run) in runs.instances.enumerated() { instances[index].run = run }
        for (index, run) in runs.csis.enumerated() { csis[index].run = run }
        adminState = runs.adminState
        isStarted = runs.isStarted
        nextInvocation = runs.nextInvocation
        pendingAdmin = runs.pendingAdmin
    }

    /// u16 version · model · runs. Equal states have equal bytes.
    public var snapshot: [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.snapshotVersion)
        writer.value(model)
        writer.value(runs)
        return writer.bytes
    }

    public init(snapshot: [UInt8]) throws(DecodeError) {
        let content = try Snapshot(decoding: snapshot)
        self.init()
        build(content.model)
        try content.check(against: self)
        restore(content.runs)
    }
}

private struct Snapshot: WireCodable {
    let model: AmfModel
    let runs: Runs

    func encode(to writer: inout ByteWriter) {
        writer.integer(ClusterEngine.snapshotVersion)
        writer.value(model)
        writer.value(runs)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard version == ClusterEngine.snapshotVersion else {
            throw .badValue("snapshot version \(version); \(ClusterEngine.snapshotVersion) expected")
        }
        model = try reader.value()
        runs = try reader.value()
    }

    /// Positions are taken for granted by the engine, so they must be right.
    func check(against engine: ClusterEngine) throws(DecodeError) {
        let fits =
            runs.nodes.count == engine.nodes.count && runs.applications.count == engine.applications.count
            && runs.groups.count == engine.groups.count && runs.units.count == engine.units.count
            && runs.components.count == engine.components.count && runs.instances.count == engine.instances.count
            && runs.csis.count == engine.csis.count
        guard fits else { throw .badValue("snapshot's states do not fit its model") }
        for component in runs.components {
            let named = component.assignments.map(\.csi) + (component.pending?.csis ?? [])
            guard named.allSatisfy({ $0 < engine.csis.count }) else {
                throw .badValue("snapshot names a CSI beyond the model's \(engine.csis.count)")
            }
            let isSound =
                (component.pending == nil || component.presence == .instantiated)
                && (!component.isDead || component.presence != .instantiated)
            guard isSound else { throw .badValue("snapshot of a component contradicts itself") }
        }
        for group in runs.groups {
            if let target = group.swapTarget, target >= engine.units.count {
                throw .badValue("snapshot swaps to unit \(target) of \(engine.units.count)")
            }
        }
    }
}

extension Runs: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.list(&nodes)
        try coder.list(&applications)
        try coder.list(&groups)
        try coder.list(&units)
        try coder.list(&components)
        try coder.list(&instances)
        try coder.list(&csis)
        try coder.raw(&adminState)
        try coder.flag(&isStarted)
        try coder.integer(&nextInvocation)
        try coder.list(&pendingAdmin)
    }
}

extension NodeRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.flag(&isMember)
        try coder.integer(&incarnation)
        try coder.raw(&adminState)
        try coder.flag(&isDisabled)
        try coder.flag(&isStopping)
        try coder.flag(&hasStopped)
        try coder.integer(&bootLevel)
        try coder.value(&suFailovers)
    }
}

extension ApplicationRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) { try coder.raw(&adminState) }
}

extension GroupRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&adminState)
        try coder.flag(&isStarted)
        var target = swapTarget.map { $0 &+ 1 } ?? 0
        try coder.integer(&target)
        swapTarget = target == 0 ? nil : target - 1
    }
}

extension UnitRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&adminState)
        try coder.flag(&isDisabled)
        try coder.raw(&phase)
        try coder.flag(&isBeingRepaired)
        try coder.value(&componentRestarts)
        try coder.value(&restarts)
        try coder.raw(&toldPresence)
        try coder.raw(&toldReadiness)
    }
}

extension ComponentRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&presence)
        try coder.flag(&isDisabled)
        try coder.integer(&instance)
        try coder.integer(&pid)
        try coder.integer(&startedAt)
        try coder.integer(&starts)
        try coder.text(&lastError)
        try coder.optionalRaw(&order)
        try coder.flag(&isDead)
        try coder.flag(&isDelayed)
        try coder.list(&assignments)
        try coder.optional(&pending)
        try coder.raw(&toldPresence)
        try coder.flag(&toldDisabled)
    }
}

extension Assignment: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.integer(&csi)
        try coder.raw(&wanted)
        try coder.optionalRaw(&state)
        try coder.integer(&quiescing)
    }
}

extension PendingHA: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.integer(&invocation)
        try coder.optionalRaw(&haState)
        try coder.raw(&flags)
        var list = csis.map(Position.init)
        try coder.list(&list)
        csis = list.map(\.value)
        try coder.raw(&transition)
        try coder.optional(&activeComponent)
    }
}

private struct Position: WireFields {
    var value: UInt32 = 0
    init() {}
    init(_ value: UInt32) { self.value = value }
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) { try coder.integer(&value) }
}

extension InstanceRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&adminState)
        try coder.raw(&toldAssignment)
    }
}

extension CSIRun: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.optional(&formerActive)
        try coder.flag(&formerWasQuiesced)
    }
}

extension Counter: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.integer(&count)
        try coder.integer(&start)
    }
}

extension PendingAdmin: WireFields {
    mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&ticket)
        try coder.raw(&operation)
        try coder.value(&name)
    }
}
