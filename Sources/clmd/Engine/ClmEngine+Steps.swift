import ClmProtocol
import EngineKit
import SAFTypes

/// Planned changes as far as they concern this node: whose answers are outstanding, and who asked for them.
struct ChangeSteps: Sendable {
    struct Open: Sendable {
        var change: UInt64
        var step: ChangeStep
        var waiting: [UInt64: ClientSession] = [:]
    }
    private(set) var open: Open?
    private var lastInvocation: UInt64 = 0
    /// The last step that this node has dealt with.
    private var known: (change: UInt64, step: ChangeStep)?
    private(set) var isRejected = false
    /// Operations that clients of this node wait for, until their proposal is done.
    private var asked: Set<ClmEngine.RequestID> = []
    /// Those of them that the group may have dealt with before the table became another: nobody tells their outcome.
    private var doubtful: Set<ClmEngine.RequestID> = []
    /// Proposals that are done, whose outcome is to be told yet.
    private var untold: Set<ClmEngine.RequestID> = []
    /// What was answered in doubt: an outcome that is told after all is nobody's answer.
    private var answeredInDoubt: Set<ClmEngine.RequestID> = []
    private var askers: [UInt64: ClmEngine.RequestID] = [:]

    mutating func begin(_ change: PlannedChange) {
        known = (change.number, change.step)
        isRejected = false
        open = Open(change: change.number, step: change.step)
    }

    func isKnown(_ change: PlannedChange) -> Bool { known.map { $0 == (change.number, change.step) } ?? false }

    /// The invocation that this tracker answers.
    mutating func expect(_ session: ClientSession) -> UInt64 {
        lastInvocation += 1
        open?.waiting[lastInvocation] = session
        return lastInvocation
    }

    mutating func answer(_ invocation: UInt64, from session: ClientSession) -> Bool {
        guard open?.waiting[invocation] == session else { return false }
        open?.waiting[invocation] = nil
        return true
    }

    mutating func leave(_ session: ClientSession) -> Bool {
        guard let waiting = open?.waiting, waiting.values.contains(session) else { return false }
        open?.waiting = waiting.filter { $0.value != session }
        return true
    }

    /// Nobody else needs to answer.
    mutating func reject() {
        open = nil
        isRejected = true
    }

    /// The step that everybody here has answered, once.
    mutating func finish() -> Open? {
        guard let open, open.waiting.isEmpty else { return nil }
        self.open = nil
        return open
    }

    mutating func end(_ change: UInt64) {
        if open?.change == change { open = nil }
        askers[change] = nil
    }

    /// The table is another as a whole: those who wait for something else than this change, which will not be told any
    /// more.
    mutating func endAll(but change: UInt64?) -> [ClmEngine.RequestID] {
        if open?.change != change { open = nil }
        defer { (doubtful, untold, answeredInDoubt) = (asked, [], []) }
        return (askers.filter { $0.key != change }.map(\.value) + untold).sorted()
    }

    mutating func propose(_ request: ClmEngine.RequestID) { asked.insert(request) }

    /// The proposal of one that was asked for is done; true when its outcome may never be told.
    mutating func done(_ request: ClmEngine.RequestID) -> Bool {
        asked.remove(request)
        let isDoubtful = doubtful.remove(request) != nil
        if askers.values.contains(request) { return false }
        if isDoubtful { answeredInDoubt.insert(request) } else { untold.insert(request) }
        return isDoubtful
    }

    /// Whose outcome is told; nil when he has his answer.
    mutating func told(_ request: ClmEngine.RequestID) -> ClmEngine.RequestID? {
        untold.remove(request)
        return answeredInDoubt.remove(request) == nil ? request : nil
    }

    mutating func note(_ request: ClmEngine.RequestID, asksFor change: UInt64) { askers[change] = request }
    func asker(of change: UInt64) -> ClmEngine.RequestID? { askers[change] }
    func isProposed(_ request: ClmEngine.RequestID) -> Bool { asked.contains(request) }
    /// Whether its proposal was not done yet.
    mutating func forget(_ request: ClmEngine.RequestID) -> Bool {
        askers = askers.filter { $0.value != request }
        untold.remove(request)
        doubtful.remove(request)
        return asked.remove(request) != nil
    }
}

extension ClmEngine {
    /// A step that waits for this node: asked about if it is news here, and told again if the group may not have heard.
    mutating func resume(_ change: PlannedChange) -> [Effect] {
        guard change.awaiting.contains(localNode) else { return [] }
        guard steps.isKnown(change) else { return ask(about: change, for: nil) }
        guard steps.open == nil else { return [] }
        return [stepDone(change.number, change.step, isRejected: steps.isRejected)]
    }

    private func stepDone(_ change: UInt64, _ step: ChangeStep, isRejected: Bool) -> Effect {
        .propose(.stepDone(localNode, change: change, step, isRejected: isRejected), answering: nil)
    }

    /// An operation gets its answer now; its proposal may not be done yet.
    mutating func close(_ request: RequestID) { if steps.forget(request) { answeredEarly.insert(request) } }

    /// Asks the trackers that want to be asked; without any this node has nothing against it.
    mutating func ask(about change: PlannedChange, for request: RequestID?) -> [Effect] {
        if let request { steps.note(request, asksFor: change.number) }
        guard change.awaiting.contains(localNode) else { return [] }
        let flag: TrackFlags = change.step == .validate ? .validateStep : .startStep
        steps.begin(change)
        var effects: [Effect] = []
        for session in trackers.keys.sorted() {
            guard let flags = trackers[session], flags.contains(flag), concerns(change, flags) else { continue }
            effects.append(.pushView(view(of: change, flags, invocation: steps.expect(session)), to: session))
        }
        return effects + finishStep(isRejected: false)
    }

    private func concerns(_ change: PlannedChange, _ flags: TrackFlags) -> Bool {
        !flags.contains(.local) || change.administration.node == localNode
    }

    private func view(of change: PlannedChange, _ flags: TrackFlags, invocation: UInt64) -> ClusterView {
        let administration = change.administration
        let kind: ClusterChange = administration.operation == .shutdown ? .shutdown : .left
        let changes = members[administration.node].map { [ClusterNotification(node: $0, change: kind)] } ?? []
        var view = view(restricted(flags.contains(.changes) ? everybody(changed: changes) : changes, flags))
        view.step = change.step
        view.invocation = invocation
        view.rootCause = administration.node
        if invocation != 0, administration.operation == .lock {
            view.timeSupervision = limits.lockSupervision.nanoseconds
        }
        return view
    }

    mutating func respond(_ id: RequestID, _ response: ChangeResponse, from session: ClientSession) -> [Effect] {
        guard steps.answer(response.invocation, from: session) else {
            return [.reply(id, .failed(.notExist, "response: invocation \(response.invocation) is not open"))]
        }
        let isRejected = response.answer == .rejected && steps.open?.step == .validate
        return [.reply(id, .done)] + finishStep(isRejected: isRejected)
    }

    mutating func forgetSteps(of session: ClientSession) -> [Effect] {
        steps.leave(session) ? finishStep(isRejected: false) : []
    }

    /// One rejection is enough.
    private mutating func finishStep(isRejected: Bool) -> [Effect] {
        guard let done = isRejected ? steps.open : steps.finish() else { return [] }
        if isRejected { steps.reject() }
        return [stepDone(done.change, done.step, isRejected: isRejected)]
    }

    /// Those that were asked whether it may happen hear that it does not.
    mutating func abort(_ change: PlannedChange) -> [Effect] {
        var effects: [Effect] = []
        for session in trackers.keys.sorted() {
            guard let flags = trackers[session], concerns(change, flags) else { continue }
            guard !flags.isDisjoint(with: [.validateStep, .startStep]) else { continue }
            effects.append(.pushView(view(of: change, flags, invocation: 0), to: session))
        }
        if let asker = steps.asker(of: change.number) {
            close(asker)
            let administration = change.administration
            let text = "\(administration.operation) node \(administration.node): an application rejected it"
            effects.append(.reply(asker, .failed(.failedOperation, text)))
        }
        steps.end(change.number)
        return effects
    }
}
