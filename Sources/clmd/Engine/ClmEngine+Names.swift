import ClmProtocol
import EngineKit
import SAFTypes

extension ClmEngine {
    mutating func bind(_ id: RequestID, _ binding: NameBinding, from session: ClientSession) -> [Effect] {
        guard binding.address.node == localNode else {
            return [.reply(id, .failed(.invalidParam, "bind: \(binding.address) is not on this node (\(localNode))"))]
        }
        guard binding.range.type >= ServiceRange.reservedTypes else {
            let text =
                "bind: service type \(binding.range.type) is reserved; "
                + "applications use \(ServiceRange.reservedTypes) and above"
            return [.reply(id, .failed(.invalidParam, text))]
        }
        guard
            owned[session, default: []].count < limits.bindingsPerSessionMax
                || owned[session]?.contains(binding) == true
        else {
            let text = "bind \(binding.range): at most \(limits.bindingsPerSessionMax) bindings of one process"
            return [.reply(id, .failed(.noResources, text))]
        }
        owned[session, default: []].insert(binding)
        return [.propose(.names(.bind(binding, by: session)), answering: id)]
    }

    func lookup(_ request: LookupRequest) -> Reply {
        let addresses = names.lookup(type: request.type, instance: request.instance, from: localNode)
        if !addresses.isEmpty { return .lookup(LookupReply(addresses: addresses)) }
        let service = "service \(request.type):\(request.instance)"
        if !isSettled { return .failed(.tryAgain, "\(service): clmd has just been restarted") }
        if isCutOff { return .failed(.tryAgain, "\(service): unknown here, and this node is not in the cluster now") }
        return .failed(.notExist, "\(service): nobody is bound to it")
    }

    mutating func subscribe(_ id: RequestID, _ request: SubscribeRequest, from session: ClientSession) -> [Effect] {
        var mine = subscriptions[session] ?? [:]
        mine[request.subscription] = request.range
        guard mine.count <= limits.subscriptionsPerSessionMax else {
            let text = "subscribe: at most \(limits.subscriptionsPerSessionMax) topology subscriptions of one process"
            return [.reply(id, .failed(.noResources, text))]
        }
        subscriptions[session] = mine
        var effects: [Effect] = [.reply(id, .done)]
        for binding in names.bindings(overlapping: request.range, from: localNode) {
            let notice = TopologyNotice(subscription: request.subscription, change: .published(binding))
            effects.append(.pushTopology(notice, to: session))
        }
        if isSettled {
            effects.append(
                .pushTopology(TopologyNotice(subscription: request.subscription, change: .settled), to: session))
        }
        return effects
    }

    mutating func changed(_ outcome: NameTable.Outcome, for request: RequestID?) -> [Effect] {
        switch outcome {
        case .refused(let binding, let session, let error):
            owned[session]?.remove(binding)
            guard let request else { return [] }
            answeredEarly.insert(request)
            return [.reply(request, .failed(error, "bind \(binding.range): the name table is full"))]
        case .published(let binding):
            let effects = names.insert(binding) ? tell(.published(binding), about: binding) : []
            return effects + compareIfLate(binding, isWanted: false)
        case .withdrawn(let binding):
            let effects = names.remove(binding) ? tell(.withdrawn(binding), about: binding) : []
            return effects + compareIfLate(binding, isWanted: true)
        }
    }

    /// A command that was long under way may undo what this node's clients have wanted since.
    private func compareIfLate(_ binding: NameBinding, isWanted: Bool) -> [Effect] {
        guard binding.address.node == localNode else { return [] }
        let isOwned = owned.contains { $0.value.contains(binding) }
        return isOwned == isWanted ? [.compare(after: limits.retryTime)] : []
    }

    private func tell(_ change: TopologyNotice.Change, about binding: NameBinding) -> [Effect] {
        guard NameIndex.isVisible(binding, from: localNode) else { return [] }
        var effects: [Effect] = []
        for session in subscriptions.keys.sorted() {
            let mine = subscriptions[session] ?? [:]
            for number in mine.keys.sorted() where mine[number]?.overlaps(binding.range) == true {
                effects.append(.pushTopology(TopologyNotice(subscription: number, change: change), to: session))
            }
        }
        return effects
    }

    mutating func settle() -> [Effect] {
        guard let gone = unconfirmed else { return [] }
        unconfirmed = nil
        seen.removeAll()
        for session in gone { owned[session] = nil }
        var effects: [Effect] = gone.sorted().map { .propose(.names(.sessionLeft($0)), answering: nil) }
        for session in subscriptions.keys.sorted() {
            for number in (subscriptions[session] ?? [:]).keys.sorted() {
                effects.append(.pushTopology(TopologyNotice(subscription: number, change: .settled), to: session))
            }
        }
        return effects
    }

    // MARK: The table as a whole

    /// While clients of an earlier life may come back, what the table says of them is what they want.
    mutating func adopt(_ table: NameTable) {
        guard unconfirmed != nil else { return }
        for session in table.sessions where session.node == localNode && owned[session] == nil {
            if seen.contains(session) { continue }
            owned[session] = table.bindings(of: session)
            unconfirmed?.insert(session)
        }
    }

    /// Subscribers hear the difference.
    mutating func replaceNames(with table: NameTable) -> [Effect] {
        let new = table.entries.map(\.binding)
        let (before, after) = (Set(names.all), Set(new))
        var effects: [Effect] = []
        for binding in names.all where !after.contains(binding) { effects += changed(.withdrawn(binding), for: nil) }
        for binding in new where !before.contains(binding) { effects += changed(.published(binding), for: nil) }
        return effects
    }

    /// What this node's clients want, and the table does not say; and the other way round.
    func missingNames(in table: NameTable) -> [Effect] {
        var effects: [Effect] = []
        func propose(_ command: NameTable.Command) { effects.append(.propose(.names(command), answering: nil)) }
        for session in table.sessions where session.node == localNode {
            guard let wanted = owned[session] else {
                propose(.sessionLeft(session))
                continue
            }
            for binding in table.bindings(of: session).subtracting(wanted).sorted() {
                propose(.withdraw(binding, by: session))
            }
        }
        for session in owned.keys.sorted() where unconfirmed?.contains(session) != true {
            for binding in (owned[session] ?? []).sorted() where table.owner(of: binding) != session {
                propose(.bind(binding, by: session))
            }
        }
        return effects
    }
}
