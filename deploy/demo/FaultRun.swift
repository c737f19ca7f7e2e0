import AmfClient
import AmfProtocol
import EngineKit
import IOC
import OSAL
import SafLab
import SafStage

/// Does to a cluster what was planned while the text is being counted.
final class FaultRun {
    /// What came of a fault.
    struct Made {
        var fault: Fault
        var node: Int
        /// It took away who was active, so that another had to become it.
        var needsFailover: Bool
        /// Until another was active; nil: nobody had to be.
        var failover: Duration?
        /// The longest time without a commit until all was well again.
        var gap: Duration
    }

    let lab: ClusterLab
    let observer: Observer
    /// Of the text; less once it has been cut.
    var size: UInt64
    /// How long anything may take before the run is given up.
    static let patience = Duration.seconds(60)
    /// Shown while waiting.
    var onProgress: () -> Void = {}

    /// Told before each, and after.
    var onFault: (Fault, Int) -> Void = { _, _ in }
    var onMade: (Made) -> Void = { _ in }

    private(set) var made: [Made] = []
    private(set) var current: Fault?

    init(lab: ClusterLab, observer: Observer, size: UInt64) {
        self.lab = lab
        self.observer = observer
        self.size = size
    }

    /// Returns when all has been done and overcome, or the text has come to its end before.
    func run(_ plan: [Fault]) throws {
        try awaitWhole()
        for fault in plan where observer.position < size {
            PrivateNode.pause(fault.delay)
            current = fault
            try perform(fault)
        }
        current = nil
    }

    private func perform(_ fault: Fault) throws {
        guard let active = observer.active, let node = node(of: fault.place, active) else {
            throw StageError("nobody is active")
        }
        let target = process(of: fault, on: node)
        _ = observer.takeLongestGap()
        let at = MonotonicClock.now()
        onFault(fault, node)
        try begin(fault, on: node, target)
        PrivateNode.pause(fault.lasts)
        try end(fault, on: node)
        let isActiveLost =
            fault.kind == .killed(.active) || fault.kind == .nodeKilled && LabOptions.nodeName(node) == active.host
        if isActiveLost { try wait("another is active") { next(after: active, at) } }
        if let target { try wait("the killed process is gone") { target.isAlive ? nil : true } }
        try awaitWhole()
        let failover = next(after: active, at).map { $0.at - at }
        let result = Made(
            fault: fault, node: node, needsFailover: isActiveLost, failover: failover, gap: observer.takeLongestGap())
        made.append(result)
        onMade(result)
    }

    private func begin(_ fault: Fault, on node: Int, _ target: ProcessIdentity?) throws {
        switch fault.kind {
        case .killed(let kind):
            guard let target else { throw StageError("\(kind.rawValue) does not run on node \(node)") }
            try Process.kill(target.pid, .kill)
        case .nodeKilled: try lab.kill(node)
        case .nodeFrozen: try lab.freeze(node)
        case .nodeCutOff: try lab.partition([[node]])
        case .planeCut: try lab.cut(plane: fault.plane)
        case .allCut: for plane in lab.options.allPlanes { try lab.cut(plane: plane) }
        case .corosyncStopped: try lab.signal(.stop, "corosync", on: node)
        case .corosyncKilled: try lab.endCorosync(on: node, .kill)
        }
    }

    private func end(_ fault: Fault, on node: Int) throws {
        switch fault.kind {
        case .killed: break
        case .nodeKilled:
            try lab.boot([node])
            try lab.startNode(node)
        case .nodeFrozen: try lab.thaw(node)
        case .nodeCutOff, .planeCut, .allCut: try lab.heal()
        case .corosyncStopped: try lab.signal(.continue, "corosync", on: node)
        case .corosyncKilled: try lab.startCorosync(on: node)
        }
    }

    /// Waits until the whole text is counted; throws when there is no progress for ``patience``.
    func awaitEnd() throws {
        while observer.position < size {
            let before = observer.commits
            try wait("there is progress") { observer.commits > before || observer.position >= size ? true : nil }
        }
    }

    // MARK: Who is who

    private func node(of place: Fault.Place, _ active: Observer.Assignment) -> Int? {
        let acting = lab.options.allNodes.first { LabOptions.nodeName($0) == active.host }
        return switch place {
        case .active: acting
        case .standby: lab.options.allNodes.first { $0 != acting && !lab.options.payloads.contains($0) }
        case .payload: lab.options.payloads.min()
        }
    }

    private func next(after active: Observer.Assignment, _ at: Instant) -> Observer.Assignment? {
        observer.assignments().first {
            $0.haState == "active" && $0.at > at && ($0.pid, $0.host) != (active.pid, active.host)
        }
    }

    /// The process that a fault kills.
    private func process(of fault: Fault, on node: Int) -> ProcessIdentity? {
        guard case .killed(let target) = fault.kind else { return nil }
        let name = target == .active ? "wordcount" : target == .guardian ? "amfd" : target.rawValue
        let found = lab.processes(of: node).first { process in
            process.name == name && (name != "amfd" || isGuard(process.pid) == (target == .guardian))
        }
        return found.flatMap { ProcessIdentity(of: $0.pid) }
    }

    private func isGuard(_ pid: Int32) -> Bool {
        let line = (try? File.readAll("/proc/\(pid)/cmdline")) ?? []  // one that has ended is none
        return line.split(separator: 0).contains { $0.elementsEqual("--guard".utf8) }
    }

    // MARK: Waiting

    /// Waits until every node sees all nodes, all work is assigned, the checkpoint is held twice, and it goes on.
    func awaitWhole() throws {
        var missing = ""
        do {
            try wait("the cluster is whole") { () -> Bool? in
                for node in lab.options.allNodes {
                    guard let lack = self.missing(node) else { continue }
                    missing = lack
                    return nil
                }
                missing = missingReplicas() ?? ""
                return missing.isEmpty ? true : nil
            }
        } catch {
            throw StageError("\(error); \(missing)")
        }
        let before = observer.commits
        try wait("there is progress") { observer.commits > before || observer.position >= size ? true : nil }
    }

    /// What a node lacks, in words; nil: nothing.
    private func missing(_ node: Int) -> String? {
        let client = AdminClient(places: lab.places(of: node))
        defer { client.close() }
        let report: StatusReport
        do throws(CallError) {
            report = try client.status(timeout: .seconds(2))
        } catch {
            return "node \(node): \(error)"
        }
        let silent = report.nodes.filter { !$0.isMember || !$0.isHeard }.map(\.name)
        if !silent.isEmpty || !report.isQuorate { return "node \(node) misses \(silent.joined(separator: ", "))" }
        if !report.problems.isEmpty { return report.problems.joined(separator: "; ") }
        let instance = report.applications.flatMap(\.serviceInstances).first { $0.assignmentState != .fullyAssigned }
        return instance.map { "node \(node): \($0.dn) is \($0.assignmentState.word)" }
    }

    /// What the checkpoint lacks, in words; nil: nothing. What a killed node has must be elsewhere, too.
    private func missingReplicas() -> String? {
        let arguments = ["saf", "console", "--json", "ckptd", "replicas"]
        guard let node = lab.options.allNodes.last, let result = try? lab.run(arguments, on: node), result.isSuccess
        else { return "ckptd does not tell where the checkpoint is" }
        func count(_ text: String) -> Int { result.output.ranges(of: text).count }
        let isActive = count("\"active\":") == 1 && count("\"active\":null") == 0
        let (all, current) = (count("\"state\":"), count("\"state\":\"current\""))
        return isActive && all == current && current >= 2 ? nil : "replicas of the checkpoint: \(result.output)"
    }

    @discardableResult
    private func wait<Value>(_ what: String, _ condition: () throws -> Value?) throws -> Value {
        let deadline = MonotonicClock.now() + Self.patience
        while true {
            onProgress()
            if let value = try condition() { return value }
            guard MonotonicClock.now() < deadline else {
                let last = current.map { " after \($0.kind.name) (\($0.place) node, \($0.lasts.short))" } ?? ""
                throw StageError("\(what): not within \(Self.patience)\(last), fault \(made.count + 1)")
            }
            PrivateNode.pause(.milliseconds(5))
        }
    }
}
