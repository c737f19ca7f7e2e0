import EngineKit
import OSAL
import SafLab

/// Carries out one command; returns the exit status.
func perform(_ arguments: inout [String]) throws -> Int32 {
    guard let command = arguments.first, !["help", "--help", "-h"].contains(command) else {
        StandardOutput.write(help)
        return arguments.isEmpty ? 64 : 0
    }
    arguments.removeFirst()
    if command == "exec" { return try execute(arguments) }
    if command == "carry" { return try carry(&arguments) }
    let name = try arguments.takeOption("--name") ?? LabOptions().name
    switch command {
    case "up": try bringUp(name, &arguments)
    case "down": try bringDown(name, &arguments)
    case "status":
        try arguments.end()
        StandardOutput.write(try statusText(of: open(name)))
    case "kill", "boot", "stop", "cont", "slow", "corosync", "saf": try machine(command, open(name), &arguments)
    case "partition", "isolate", "loss", "cut-plane", "restore-plane", "delay-proxy", "heal":
        try network(command, open(name), &arguments)
    default: throw UsageError("unknown command \"\(command)\"")
    }
    return 0
}

private func open(_ name: String) throws -> ClusterLab {
    guard Environment.userID == 0 else { throw LabError("the lab needs root: sudo deploy/lab …") }
    return try ClusterLab.open(name: name)
}

private func bringUp(_ name: String, _ arguments: inout [String]) throws {
    var options = LabOptions()
    options.name = name
    if let token = try arguments.takeNumberOption("--token") { options.token = token }
    if let planes = try arguments.takeNumberOption("--planes") { options.planes = planes }
    if let twoNode = try arguments.takeOption("--two-node") {
        guard ["yes", "no"].contains(twoNode) else { throw UsageError("--two-node: yes or no expected") }
        options.isTwoNode = twoNode == "yes"
    }
    if let payloads = try arguments.takeOption("--payload") {
        options.payloads = Set(try nodes(payloads))
    }
    options.isEncrypted = !arguments.takeFlag("--plain")
    options.areLinksEncrypted = arguments.takeFlag("--link-tls")
    options.isRealtime = !arguments.takeFlag("--no-realtime")
    options.hasAutoTieBreaker = arguments.takeFlag("--tie-breaker")
    if let nodes = arguments.takeNumberIfAny() { options.nodes = nodes }
    try arguments.end()
    let start = MonotonicClock.now()
    let lab = try ClusterLab.up(options, isKept: true)
    try lab.awaitFormed()
    let milliseconds = (MonotonicClock.now() - start).nanoseconds / 1_000_000
    StandardOutput.write(
        """
        \(options.nodes) nodes are a cluster after \(milliseconds) ms; everything of them is in \(lab.folder)
        Now: lab status, lab exec 1 COMMAND, lab kill 2, lab partition 1 2,3, lab heal; lab down at the end.

        """)
}

private func bringDown(_ name: String, _ arguments: inout [String]) throws {
    try arguments.end()
    guard Environment.userID == 0 else { throw LabError("the lab needs root: sudo deploy/lab down") }
    for folder in try ClusterLab.removeAbandoned() { StandardOutput.write("removed what was left of \(folder)\n") }
    guard let lab = try? ClusterLab.open(name: name) else {
        StandardOutput.write("no lab \"\(name)\" is up\n")
        return
    }
    try lab.down()
}

private func machine(_ command: String, _ lab: ClusterLab, _ arguments: inout [String]) throws {
    let node = try arguments.takeNumber("the node's number")
    switch command {
    case "kill": try lab.kill(node)
    case "boot": try lab.boot([node])
    case "stop", "cont":
        let isStop = command == "stop"
        if let program = arguments.first {
            arguments.removeFirst()
            guard try lab.signal(isStop ? .stop : .continue, program, on: node) > 0 else {
                throw LabError("no process \"\(program)\" on node \(node)")
            }
        } else {
            try isStop ? lab.freeze(node) : lab.thaw(node)
        }
    case "slow":
        let stopped = try arguments.takeNumberOption("--stopped") ?? 90
        let running = try arguments.takeNumberOption("--running") ?? 10
        let seconds = try arguments.takeNumberOption("--seconds") ?? 10
        let program = try arguments.take("the program's name")
        try lab.slow(
            program, on: node, stopped: .milliseconds(stopped), running: .milliseconds(running), for: .seconds(seconds))
    case "saf":
        switch try arguments.take("start or end") {
        case "start": try lab.startNode(node)
        case "end": try lab.stopNode(node)
        case let other: throw UsageError("saf: start or end expected, not \"\(other)\"")
        }
    default:
        switch try arguments.take("start, end or kill") {
        case "start": try lab.startCorosync(on: node)
        case "end": try lab.endCorosync(on: node)
        case "kill": try lab.endCorosync(on: node, .kill)
        case let other: throw UsageError("corosync: start, end or kill expected, not \"\(other)\"")
        }
    }
    try arguments.end()
}

private func network(_ command: String, _ lab: ClusterLab, _ arguments: inout [String]) throws {
    func everyNode(or node: Int?) -> [Int] { node.map { [$0] } ?? Array(lab.options.allNodes) }
    switch command {
    case "partition": try lab.partition(try groups(&arguments))
    case "isolate": try lab.isolate(try arguments.takeNumber("the node's number"))
    case "loss":
        let text = try arguments.take("the percentage")
        guard let percent = Double(text), (0...100).contains(percent) else {
            throw UsageError("loss: 0 to 100 percent expected, not \"\(text)\"")
        }
        for node in everyNode(or: arguments.takeNumberIfAny()) {
            try lab.lose(permille: Int((percent * 10).rounded()), on: node)
        }
    case "delay-proxy":
        let plane = try arguments.takeNumberOption("--plane")
        let jitter = try arguments.takeNumberOption("--jitter") ?? 0
        let node = try arguments.takeNumber("the node's number")
        let isOff = arguments.first == "off"
        if isOff { arguments.removeFirst() }
        let delay =
            isOff ? nil : NetworkFaults.Delay(milliseconds: try arguments.takeNumber("MS or off"), jitter: jitter)
        try lab.delay(delay, on: node, plane: plane)
    case "heal": try lab.heal()
    default:
        let plane = try arguments.takeNumber("the plane's number")
        for node in everyNode(or: arguments.takeNumberIfAny()) {
            try command == "cut-plane" ? lab.unplug(node, plane: plane) : lab.plug(node, plane: plane)
        }
    }
    try arguments.end()
}

/// "1 2,3" as [[1], [2, 3]].
private func groups(_ arguments: inout [String]) throws -> [[Int]] {
    defer { arguments = [] }
    return try arguments.map { try nodes($0) }
}

/// "2,3" as [2, 3].
private func nodes(_ text: String) throws -> [Int] {
    try text.split(separator: ",").map { word in
        guard let node = Int(word) else { throw UsageError("nodes like 2,3 expected, not \"\(text)\"") }
        return node
    }
}

/// `exec N COMMAND …`: with this terminal, until the command ends.
private func execute(_ arguments: [String]) throws -> Int32 {
    var arguments = arguments
    var name = LabOptions().name
    if arguments.first == "--name" {
        arguments.removeFirst()
        name = try arguments.take("the lab's name")
    }
    let node = try arguments.takeNumber("the node's number")
    if arguments.first == "--" { arguments.removeFirst() }
    guard !arguments.isEmpty else { throw UsageError("exec: the command is missing") }
    let process = try open(name).spawn(
        arguments, on: node, descriptors: (0...2).map { DescriptorMapping($0, as: $0) }, newSession: false)
    _ = try IO.waitUntil(process.rawPidfd, readable: true, deadline: nil)
    switch Process.reap(process.pid) {
    case .exited(let code): return code
    case .signaled(let signal): return 128 + signal.rawValue
    default: return 1
    }
}

/// The process that `delay-proxy` starts: `carry CABLE END MILLISECONDS JITTER REPORT`.
private func carry(_ arguments: inout [String]) throws -> Int32 {
    let (cable, end) = (try arguments.take("the cable"), try arguments.take("its other end"))
    let milliseconds = try arguments.takeNumber("the milliseconds")
    let delay = NetworkFaults.Delay(milliseconds: milliseconds, jitter: try arguments.takeNumber("the jitter"))
    let carrier = try CableCarrier(cable, end, delay: delay, report: try arguments.take("the report's file"))
    try arguments.end()
    try carrier.run()
    return 0
}

private func statusText(of lab: ClusterLab) -> String {
    var lines = [
        "lab \(lab.options.name): \(lab.options.nodes) nodes, \(lab.options.planes) planes, token "
            + "\(lab.options.token) ms, \(lab.folder)"
    ]
    for node in lab.options.allNodes { lines.append("node \(node)  \(nodeText(node, of: lab))") }
    let faults = lab.faults.summary
    lines += faults.isEmpty ? ["no faults of the network"] : faults.map { "fault: " + $0 }
    for plug in lab.faults.delays.keys.sorted(by: { ($0.node, $0.plane) < ($1.node, $1.plane) }) {
        guard let carried = lab.carried(on: plug.node, plane: plug.plane) else { continue }
        let cable = "the long cable of node \(plug.node) on plane \(plug.plane)"
        lines.append("\(cable): \(carried.frames) frames carried, \(carried.lost) lost")
    }
    return lines.joined(separator: "\n") + "\n"
}

private func nodeText(_ node: Int, of lab: ClusterLab) -> String {
    guard lab.isUp(node) else { return "no power" }
    let processes = lab.processes(of: node)
    if lab.isFrozen(node) { return "stopped, with \(processes.count) processes" }
    let others = processes.filter { $0.name != "corosync" }.map(\.name)
    let programs = others.isEmpty ? "" : "; runs " + others.joined(separator: " ")
    guard let corosync = lab.corosync(of: node) else { return "no corosync" + programs }
    if corosync.isStopped { return "corosync (\(corosync.pid)) stopped" + programs }
    guard let status = lab.quorum(of: node) else { return "corosync (\(corosync.pid)) does not answer" + programs }
    let members = status.members.map(String.init).joined(separator: ",")
    return "members \(members)  \(status.isQuorate ? "quorate" : "NOT quorate")  ring \(status.ringID)"
        + "  corosync \(corosync.pid)" + programs
}
