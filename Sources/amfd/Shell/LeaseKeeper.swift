import AmfEngine
import EOLoop
import EOReplicated
import EngineKit
import IOC
import IOCCluster
import IOCCorosync
import IOCGroups
import IOCLinks
import OSAL
import SAFTypes

/// Keeps this node's lease and enforces it: active components are stopped when it ends, continued when it is held
/// again. Its views are those of a group of its own. Probes go through that group, which finds its way when a network
/// is cut, and over peer links, which go on while Corosync forms a new ring; the answer comes the way the probe came.
/// Loop thread only.
final class LeaseKeeper {
    /// What the node was active for may be given to others.
    var onReleased: (NodeID) -> Void = { _ in }
    /// The cluster went on without this node, and what was active here is ended: say what is left.
    var onSeparated: () -> Void = {}
    var onNote: (ShellNote) -> Void = { _ in }

    let page: LeasePage
    private let loop: Loop
    private var group: NodeGroup
    private var lease: MajorityLease
    private var gate: ActivityGate
    private var views = LeaseViews()
    private let links: PeerLinks
    /// The node whose probe came over a link and is being answered.
    private var asker: NodeID?
    static let messageCode: UInt16 = 1
    /// A request: which build are you?
    static let versionCode: UInt16 = 2
    private var message = LeaseMessage()
    private var watches: [(descriptor: Int32, id: WatchID)] = []
    private var leaseDue: Instant?
    private var gateDue: Instant?
    private var timer: LoopTimer?
    private var timerAt: Instant?
    private var rejoinDelay = LeaseKeeper.rejoinDelayMin
    private var isClosed = false

    static let rejoinDelayMin: Duration = .milliseconds(50)
    static let rejoinDelayMax: Duration = .seconds(1)
    static let groupName = "amf-lease"

    init(loop: Loop, description: ClusterDescription, incarnation: UInt64, page: LeasePage) throws(LinkError) {
        (self.loop, self.page) = (loop, page)
        links = try PeerLinks(loop: loop, service: .amfd, description: description, incarnation: incarnation)
        group = NodeGroup.make(description, incarnation: incarnation)
        let now = MonotonicClock.bootTime()
        lease = MajorityLease(
            configuration: Self.configuration(description), answeredBefore: description.others.map(\.id), at: now)
        gate = ActivityGate(inherited: page.end, grace: description.quorumLossGrace, at: now)
    }

    static func configuration(_ description: ClusterDescription) -> LeaseConfiguration {
        LeaseConfiguration(
            node: description.localNode, nodesExpected: description.nodes.count, token: description.token,
            leasePercent: description.leasePercent)
    }

    /// Active components may run.
    var isOpen: Bool { gate.isOpen }
    var isHeld: Bool { lease.isHeld }

    func start() {
        links.onMessage = { [unowned self] node, code, _, body in
            check()
            if code == Self.messageCode { receive(Array(body), from: node, byLink: true) }
            flush()
        }
        links.onRequest = { request, _ in
            guard request.code == Self.versionCode else {
                return request.fail(.notSupported, "amfd knows no request \(request.code)")
            }
            request.reply(BuildVersion.own.encoded)
        }
        links.onTrouble = { [unowned self] in onNote(.links($0)) }
        if !gate.isOpen { stop() }
        feed(.tick)
        join()
    }

    /// The cluster has other nodes: `description` those with an address here, `nodes` how many there are.
    func update(_ description: ClusterDescription, nodes: Int) {
        do throws(LinkError) {
            try links.update(nodes: description.nodes)
        } catch {
            onNote(.links("\(error.text)"))
        }
        lease.expect(nodes: nodes)
        group.expect(nodes: nodes)
        feed(.tick)
    }

    /// Asks the amfd of every node which build it is; nil: it did not say within `timeout`.
    func askVersions(of nodes: [NodeID], timeout: Duration, then: @escaping ([NodeID: BuildVersion?]) -> Void) {
        var answers: [NodeID: BuildVersion?] = [:]
        if nodes.isEmpty { return then(answers) }
        for node in nodes {
            links.call(Self.versionCode, [], to: node, timeout: timeout) { result in
                let body = try? result.get()
                answers[node] = .some(body.flatMap { try? BuildVersion(decoding: $0) })
                if answers.count == nodes.count { then(answers) }
            }
        }
    }

    func close() {
        isClosed = true
        if let timer { loop.cancel(timer) }
        unwatch()
        group.leave()
        links.close()
    }

    /// Before anything else after every wake-up: the lease may have ended meanwhile.
    func check() {
        guard let timerAt, timerAt <= MonotonicClock.bootTime() else { return }
        tick()
    }

    /// The cluster's state has this amfd and what lives here.
    func joined() { feed(gate: .joined) }

    /// Whether a process may be active has changed; before it can hear of it.
    func set(_ process: ProcessIdentity, isActive: Bool) {
        guard isActive else { return page.unmark(process) }
        if !page.mark(process) { onNote(.leasePageFull) }
        // Gone already is as good: then it is not active.
        if !gate.isOpen { _ = try? Process.killGroup(process.pid, .stop) }
    }

    // MARK: Engines

    private func tick() {
        feed(.tick)
        feed(gate: .tick)
        flush()
    }

    private func feed(_ event: MajorityLease.Event) {
        let effects = lease.handle(event, at: MonotonicClock.bootTime())
        if lease.isHeld {
            page.end = lease.end
            if page.isStoppedByGuard, gate.isOpen { goOn() }
        }
        leaseDue = nil
        for effect in effects {
            switch effect {
            case .sendProbe(let probe, let node):
                message.probe = probe
                send(LeaseMessage(probe: probe), to: node)
            case .answer(let answer, let node):
                let answer = LeaseMessage.Answer(node: node, answer: answer)
                if asker == node {
                    send(LeaseMessage(answers: [answer]), to: node)
                } else {
                    message.answers.append(answer)
                }
            case .suspend: feed(gate: .over)
            case .resume: feed(gate: .held)
            case .excluded: feed(gate: .excluded)
            case .released(let node): onReleased(node)
            case .startTimer(let at): leaseDue = at
            }
        }
        schedule()
    }

    private func feed(gate event: ActivityGate.Event) {
        gateDue = nil
        for effect in gate.handle(event, at: MonotonicClock.bootTime()) {
            switch effect {
            case .suspend:
                stop()
                onNote(.suspended(page.active.count))
            case .resume: onNote(.resumed(goOn()))
            case .kill: onNote(.separated(page.signal(.kill)))
            case .joinAnew: onSeparated()
            case .startTimer(let at): gateDue = at
            }
        }
        schedule()
    }

    @discardableResult
    private func goOn() -> Int {
        page.isStoppedByGuard = false
        return page.signal(.continue)
    }

    private func stop() {
        page.signal(.stop)
        page.settled = page.end
    }

    private func schedule() {
        let next = [leaseDue, gateDue].compactMap { $0 }.min()
        guard next != timerAt else { return }
        if let timer { loop.cancel(timer) }
        (timer, timerAt) = (nil, next)
        guard let next else { return }
        timer = loop.schedule(after: max(.zero, next - MonotonicClock.bootTime())) { [unowned self] in
            (timer, timerAt) = (nil, nil)
            tick()
        }
    }

    // MARK: The group

    private func join() {
        guard !isClosed else { return }
        do throws(GroupError) {
            try group.join(Self.groupName)
            watch()
            pump()
        } catch {
            rejoin()
        }
    }

    private func rejoin() {
        unwatch()
        group.leave()
        views.lose()
        feed(.outside)
        let delay = rejoinDelay
        rejoinDelay = min(rejoinDelay * 2, Self.rejoinDelayMax)
        loop.schedule(after: delay) { [unowned self] in join() }
    }

    private func pump() {
        check()
        while let event = group.next() {
            switch event {
            case .view(let view): enter(view)
            case .message(let sender, let bytes): receive(bytes, from: sender.node, byLink: false)
            case .lost: return rejoin()
            }
        }
        flush()
        watch()
    }

    private func enter(_ view: GroupView) {
        rejoinDelay = Self.rejoinDelayMin
        for node in view.nodes where node != group.member.node { links.reach(node) }
        feed(.view(views.next(view)))
    }

    private func send(_ message: LeaseMessage, to node: NodeID) {
        // Not taken is as good as lost.
        message.encoded.withUnsafeBytes { _ = links.send(Self.messageCode, $0, to: node, lane: .control) }
    }

    private func receive(_ bytes: [UInt8], from sender: NodeID, byLink: Bool) {
        let own = group.member.node
        // Of another version or damaged: as if it had been lost, which the lease takes into account.
        guard sender != own, let message = try? LeaseMessage(decoding: bytes) else { return }
        if byLink { asker = sender }
        if let probe = message.probe { feed(.probed(probe, from: sender)) }
        asker = nil
        for answer in message.answers where answer.node == own { feed(.answered(answer.answer, from: sender)) }
    }

    /// What is to be said at this moment goes in one message; what the group does not take is as good as lost.
    private func flush() {
        guard !message.isEmpty else { return }
        _ = group.multicast(message.encoded)
        message = LeaseMessage()
    }

    private func watch() {
        let wanted = group.descriptors
        guard wanted != watches.map(\.descriptor) else { return }
        unwatch()
        do throws(OSError) {
            for descriptor in wanted {
                let id = try loop.watch(descriptor, .read, lane: .control) { [unowned self] _ in pump() }
                watches.append((descriptor, id))
            }
        } catch {
            rejoin()
        }
    }

    private func unwatch() {
        for watch in watches { loop.unwatch(watch.id) }
        watches.removeAll()
    }
}
