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
    var nextAdmin: UInt32 = 1
    init() {}
}

extension ClusterEngine {
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
        runs.nextAdmin = nextAdmin
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
        nextAdmin = runs.nextAdmin
    }

    /// The versions of commands and snapshots this build reads and writes.
    public static let versions: ClosedRange<UInt16> = 1...3

    /// model · runs · from version 2 on: of each CSI the epoch u64. Equal states have equal bytes.
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        writer.value(model)
        writer.value(runs)
        if version >= 2 { for csi in csis { writer.integer(csi.run.epoch) } }
    }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        guard Self.versions.contains(version) else {
            throw .badValue("snapshot version \(version); \(Self.versions) expected")
        }
        self.init()
        let model = try reader.value(AmfModel.self)
        let runs = try reader.value(Runs.self)
        guard model.nodes.isEmpty || model.validate().isEmpty else {
            throw .badValue("snapshot's model has errors")
        }
        build(model)
        try check(runs)
        restore(runs)
        if version >= 2 { for csi in csis.indices { csis[csi].run.epoch = try reader.integer() } }
        if let contradiction = contradiction(in: Array(groups.indices)) {
            throw .badValue("snapshot contradicts itself: \(contradiction)")
        }
    }

    /// Positions are taken for granted by the engine, so they must be right.
    private func check(_ runs: Runs) throws(DecodeError) {
        let fits =
            runs.nodes.count == nodes.count && runs.applications.count == applications.count
            && runs.groups.count == groups.count && runs.units.count == units.count
            && runs.components.count == components.count && runs.instances.count == instances.count
            && runs.csis.count == csis.count
        guard fits else { throw .badValue("snapshot's states do not fit its model") }
        for component in runs.components {
            let named = component.assignments.map(\.csi) + (component.pending?.csis ?? [])
            guard named.allSatisfy({ $0 < csis.count }) else {
                throw .badValue("snapshot names a CSI beyond the model's \(csis.count)")
            }
        }
        for group in runs.groups {
            if let target = group.swapTarget, target >= units.count {
                throw .badValue("snapshot swaps to unit \(target) of \(units.count)")
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
        try coder.integer(&nextAdmin)
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
        try coder.flag(&isGivenUp)
        try coder.value(&failovers)
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
        try coder.integer(&lastErrorAt)
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
        try coder.flag(&isDoubtful)
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
        try coder.integer(&number)
        try coder.value(&ticket)
        try coder.raw(&operation)
        try coder.value(&name)
    }
}
