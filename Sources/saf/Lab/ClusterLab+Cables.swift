import EngineKit
import OSAL

/// Long cables: a process of the lab's own program carries each one's frames.
extension ClusterLab {
    /// Puts a node farther away: a round trip to it takes so much longer, on one plane or on all. No delay: as before.
    ///
    /// The cable is out for a moment. What does not fit into it (64 MiB each way) is lost.
    public func delay(_ delay: NetworkFaults.Delay?, on node: Int, plane: Int? = nil) throws {
        try check(node)
        for plane in plane.map({ [$0] }) ?? Array(options.allPlanes) {
            guard options.allPlanes.contains(plane) else {
                throw LabError("plane \(plane): this lab has the planes 0 to \(options.planes - 1)")
            }
            if let delay, !(0...10_000).contains(delay.milliseconds) || !(0...10_000).contains(delay.jitter) {
                throw LabError("a delay of \(delay.milliseconds) ms, jitter \(delay.jitter) ms: 0 to 10000 expected")
            }
            let plug = NetworkFaults.Plug(plane: plane, node: node)
            let before = state.faults.delays[plug]
            guard before != delay else { continue }
            state.faults.delays[plug] = delay
            if isUp(node) { try delay == nil ? shorten(plug) : lengthen(plug) }
            try save()
        }
    }

    /// What the carrier of a long cable has told last: frames it has carried, and lost.
    public func carried(on node: Int, plane: Int) -> (frames: Int, lost: Int)? {
        let text = try? File.readText(reportPath(NetworkFaults.Plug(plane: plane, node: node)), limit: 4_096)
        let numbers = (text ?? "").split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
    }

    private func reportPath(_ plug: NetworkFaults.Plug) -> String {
        "\(folder(of: plug.node))/cable-\(plug.plane)"
    }

    /// The end of the cable comes out of the switch; between it and a new plug in the switch is the carrier.
    func lengthen(_ plug: NetworkFaults.Plug) throws {
        guard let delay = state.faults.delays[plug], let home = state.switchProcess else { return }
        try endCarrier(plug)
        let (cable, end, port) = names(plug)
        try configureLinks(
            of: home,
            [
                "link add \(end) type veth peer name \(port)",
                "link set \(end) addrgenmode none up", "link set \(cable) addrgenmode none nomaster",
                "link set \(port) master br\(plug.plane) up",
            ])
        let report = reportPath(plug)
        try File.removeTree(report)
        let pidfd = try hold(home)
        var spawning = SpawnOptions(
            path: try Tool.find("saflab", in: [binaries]),
            arguments: ["saflab", "carry", cable, end, "\(delay.milliseconds)", "\(delay.jitter)", report],
            environment: ["\(LeftBehind.mark)=\(folder)"])
        spawning.namespaces = .of(pidfd: pidfd.raw, .network)
        spawning.workingDirectory = "/"
        let process = try Process.spawn(spawning)
        guard let identity = ProcessIdentity(of: process.pid) else { throw LabError("the cable's carrier has ended") }
        state.carriers[plug] = identity
        _ = try wait(for: "the carrier of \(cable)", timeout: .seconds(10)) {
            guard identity.isAlive else { throw LabError("the carrier of \(cable) has ended: is CONFIG_PACKET there?") }
            return File.exists(report) ? true : nil
        }
    }

    /// As it was, if the node still has power.
    func shorten(_ plug: NetworkFaults.Plug) throws {
        try endCarrier(plug)
        guard isUp(plug.node) else { return }
        try configureLinks(of: state.switchProcess, ["link set \(names(plug).cable) master br\(plug.plane)"])
    }

    private func names(_ plug: NetworkFaults.Plug) -> (cable: String, end: String, port: String) {
        let place = "\(plug.node)p\(plug.plane)"
        return ("v" + place, "e" + place, "d" + place)
    }

    private func endCarrier(_ plug: NetworkFaults.Plug) throws {
        if let carrier = state.carriers.removeValue(forKey: plug), carrier.isAlive {
            let pidfd = try hold(carrier)
            try Process.pidfdSendSignal(pidfd.raw, .kill)
            _ = try IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(5))
            _ = Process.reap(carrier.pid)
        }
        let end = names(plug).end
        if try linkNames().contains(end) { removeLinks([end]) }
    }
}
