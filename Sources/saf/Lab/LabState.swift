import OSAL

/// A process by number and start time, so that a reused number is not taken for it.
public struct ProcessIdentity: Equatable, Sendable {
    public var pid: Int32
    public var startTime: UInt64

    init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// nil when it has ended.
    public init?(of pid: Int32) {
        guard let startTime = Process.startTime(of: pid) else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    /// Reads "PID START".
    init?(words: [Substring]) {
        guard words.count >= 2, let pid = Int32(words[0]), let start = UInt64(words[1]), pid > 0 else { return nil }
        self.init(pid: pid, startTime: start)
    }

    var text: String { "\(pid) \(startTime)" }
    public var isAlive: Bool { Process.isAlive(pid, startTime: startTime) }
}

/// What the next command must know of a running lab; kept as lines of words in the lab's folder.
struct LabState: Equatable {
    var options: LabOptions
    /// Holds the network namespace with the bridges, one per plane.
    var switchProcess: ProcessIdentity?
    /// The first process of each node, by number of the node; one that was killed is still here, but not alive.
    var inits: [Int: ProcessIdentity] = [:]
    var faults = NetworkFaults()
    /// The processes that carry the frames of a long cable.
    var carriers: [NetworkFaults.Plug: ProcessIdentity] = [:]

    init(options: LabOptions) { self.options = options }

    var text: String {
        func list(_ nodes: [Int]) -> String { nodes.map(String.init).joined(separator: " ") }
        let two = options.isTwoNode.map { $0 ? "yes" : "no" } ?? "auto"
        var lines = [
            "name \(options.name)", "nodes \(options.nodes)", "planes \(options.planes)", "token \(options.token)",
            "encrypted \(options.isEncrypted)", "realtime \(options.isRealtime)", "two-node \(two)",
            "tie-breaker \(options.hasAutoTieBreaker)", "link-tls \(options.areLinksEncrypted)",
        ]
        if !options.payloads.isEmpty { lines.append("payloads \(list(options.payloads.sorted()))") }
        if let switchProcess { lines.append("switch \(switchProcess.text)") }
        for (node, identity) in inits.sorted(by: { $0.key < $1.key }) { lines.append("init \(node) \(identity.text)") }
        for group in faults.groups { lines.append("group \(list(group))") }
        if !faults.isolated.isEmpty { lines.append("isolated \(list(faults.isolated))") }
        for (node, loss) in faults.lossPermille.sorted(by: { $0.key < $1.key }) { lines.append("loss \(node) \(loss)") }
        for plug in faults.delayed {
            guard let delay = faults.delays[plug] else { continue }
            lines.append("delay \(plug.plane) \(plug.node) \(delay.milliseconds) \(delay.jitter)")
        }
        for (plug, carrier) in carriers.sorted(by: { ($0.key.node, $0.key.plane) < ($1.key.node, $1.key.plane) }) {
            lines.append("carrier \(plug.plane) \(plug.node) \(carrier.text)")
        }
        for plug in faults.unplugged { lines.append("unplugged \(plug.plane) \(plug.node)") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Throws for a line that this version did not write.
    init(text: String) throws(LabError) {
        self.init(options: LabOptions())
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let key = words.first, take(String(key), Array(words.dropFirst())) else {
                throw LabError("the lab's state has the line \"\(line)\", which this version does not know")
            }
        }
        try options.validate()
    }

    private mutating func take(_ key: String, _ words: [Substring]) -> Bool {
        let numbers = words.compactMap { Int($0) }
        let first = words.first.map(String.init) ?? ""
        switch (key, numbers.count) {
        case ("name", _): options.name = first
        case ("nodes", 1): options.nodes = numbers[0]
        case ("planes", 1): options.planes = numbers[0]
        case ("token", 1): options.token = numbers[0]
        case ("encrypted", 0): options.isEncrypted = first == "true"
        case ("realtime", 0): options.isRealtime = first == "true"
        case ("two-node", 0): options.isTwoNode = first == "auto" ? nil : first == "yes"
        case ("link-tls", 0): options.areLinksEncrypted = first == "true"
        case ("tie-breaker", 0): options.hasAutoTieBreaker = first == "true"
        case ("payloads", 1...): options.payloads = Set(numbers)
        case ("switch", 2): switchProcess = ProcessIdentity(words: words)
        case ("init", 3): inits[numbers[0]] = ProcessIdentity(words: Array(words.dropFirst()))
        case ("group", 1...): faults.groups.append(numbers)
        case ("isolated", 1...): faults.isolated = numbers
        case ("loss", 2): faults.lossPermille[numbers[0]] = numbers[1]
        case ("delay", 4):
            let plug = NetworkFaults.Plug(plane: numbers[0], node: numbers[1])
            faults.delays[plug] = NetworkFaults.Delay(milliseconds: numbers[2], jitter: numbers[3])
        case ("carrier", 4):
            let plug = NetworkFaults.Plug(plane: numbers[0], node: numbers[1])
            carriers[plug] = ProcessIdentity(words: Array(words.dropFirst(2)))
        case ("unplugged", 2): faults.unplugged.append(NetworkFaults.Plug(plane: numbers[0], node: numbers[1]))
        default: return false
        }
        return true
    }
}
