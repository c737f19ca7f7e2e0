import AmfProtocol
import SAFTypes

/// What a component holds and owes: pure, shared by the application's and the daemons' client.
///
/// Answers outlive amfd: an invocation that comes again after amfd's death is answered from memory, one that is still
/// being worked on is not delivered twice, and what could not be sent goes along with the next registration.
struct ComponentSession: Hashable, Sendable {
    /// What to do with a push.
    enum Delivery: Hashable, Sendable {
        /// Deliver these, each with its part of the invocation.
        case work(InvocationID, [Assignment.Action])
        case healthcheck(InvocationID, key: String)
        case answerAgain(InvocationAnswer)
        case ignore
    }

    private struct Open: Hashable, Sendable {
        var actions: [Assignment.Action]
        var isAnswered: [Bool]
        var error: AisError?
    }

    /// Remembered answers; amfd never has this many questions open to one component.
    static let answersMax = 256

    let component: SaName
    let pid: Int32
    private(set) var held: [SaName: HAState] = [:]
    private var assigned: [SaName: AssignedCSI] = [:]
    private var open: [InvocationID: Open] = [:]
    private var answers: [InvocationAnswer] = []
    private var unsent: [InvocationAnswer] = []
    private var quiescing: [SaName: InvocationID] = [:]

    init(component: SaName, pid: Int32) {
        self.component = component
        self.pid = pid
    }

    var registration: Registration {
        // Every key is present: the default is never taken.
        let assignments = held.keys.sorted().map { HeldAssignment(csi: $0, held[$0] ?? .active) }
        return Registration(component: component, pid: pid, held: assignments, answers: unsent)
    }

    /// The registration with these answers has been accepted.
    mutating func registered(sending answers: [InvocationAnswer]) { unsent.removeAll { answers.contains($0) } }

    mutating func receive(_ push: AmfPush) -> Delivery {
        let id = push.invocation
        if let answer = answers.last(where: { $0.invocation == id }) { return .answerAgain(answer) }
        if open[id] != nil { return .ignore }
        let actions: [Assignment.Action]
        switch push {
        case .csiSet(_, _, let haState, let descriptor): actions = set(haState, descriptor)
        case .csiRemove(_, _, let csi): actions = names(csi).map { .remove(known($0)) }
        case .terminate: actions = [.terminate]
        case .healthcheck(_, _, let key):
            open[id] = Open(actions: [], isAnswered: [])
            return .healthcheck(id, key: key)
        }
        // "All" of a component that holds nothing is done already.
        if actions.isEmpty { return .answerAgain(remember(InvocationAnswer(id))) }
        open[id] = Open(actions: actions, isAnswered: actions.map { _ in false })
        return .work(id, actions)
    }

    /// One part of an invocation is answered; what to send once all are. Nil: not yet, or answered before.
    mutating func answer(_ id: InvocationID, part: Int = 0, _ error: AisError?) -> InvocationAnswer? {
        guard var entry = open[id] else { return nil }
        if part < entry.isAnswered.count {
            if entry.isAnswered[part] { return nil }
            entry.isAnswered[part] = true
        }
        entry.error = entry.error ?? error
        open[id] = entry
        guard !entry.isAnswered.contains(false) else { return nil }
        open[id] = nil
        if entry.error == nil { for action in entry.actions { apply(action, id) } }
        return remember(InvocationAnswer(id, entry.error))
    }

    /// The answer could not be sent: it goes with the next registration.
    mutating func notSent(_ answer: InvocationAnswer) { if !unsent.contains(answer) { unsent.append(answer) } }

    /// The invocations of the CSISet(quiescing) whose completion is now told; nil is all CSIs.
    mutating func quiescingComplete(_ csi: SaName?) -> [InvocationID] {
        let names = csi.map { [$0] } ?? quiescing.keys.sorted()
        var ids: [InvocationID] = []
        for name in names {
            guard let id = quiescing.removeValue(forKey: name) else { continue }
            held[name] = .quiesced
            if !ids.contains(id) { ids.append(id) }
        }
        return ids
    }

    private func set(_ haState: HAState, _ descriptor: CSIDescriptor) -> [Assignment.Action] {
        names(descriptor.csi).map { name in
            var own = descriptor
            if descriptor.flags != .addOne { own.attributes = assigned[name]?.attributes ?? descriptor.attributes }
            return .set(haState, AssignedCSI(name: name, own))
        }
    }

    private func names(_ csi: SaName?) -> [SaName] { csi.map { [$0] } ?? held.keys.sorted() }

    private func known(_ name: SaName) -> AssignedCSI { assigned[name] ?? AssignedCSI(name: name, CSIDescriptor()) }

    private mutating func apply(_ action: Assignment.Action, _ id: InvocationID) {
        switch action {
        case .set(let haState, let csi):
            held[csi.name] = haState
            assigned[csi.name] = csi
            quiescing[csi.name] = haState == .quiescing ? id : nil
        case .remove(let csi):
            held[csi.name] = nil
            assigned[csi.name] = nil
            quiescing[csi.name] = nil
        case .terminate: break
        }
    }

    private mutating func remember(_ answer: InvocationAnswer) -> InvocationAnswer {
        if answers.count >= Self.answersMax { answers.removeFirst() }
        answers.append(answer)
        return answer
    }
}
