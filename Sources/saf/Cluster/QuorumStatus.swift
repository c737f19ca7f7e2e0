/// What one node's corosync believes, as corosync-quorumtool prints it.
public struct QuorumStatus: Equatable, Sendable {
    /// Such as "1.8": changes with every membership.
    public var ringID: String
    /// Node ids, ascending.
    public var members: [Int]
    public var isQuorate: Bool
    /// Votes that the quorum device gives now; nil: none is registered here.
    public var deviceVotes: Int?

    /// Reads the output of `corosync-quorumtool -s`; nil when it is not that (corosync does not run, say).
    public init?(_ text: String) {
        var ring: String?
        var quorate: Bool?
        var members: [Int] = []
        var device: Int?
        var isInTable = false
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if line.hasPrefix("Ring ID:") { ring = words.last.map(String.init) }
            if line.hasPrefix("Quorate:") { quorate = words.last == "Yes" }
            if isInTable, let id = words.first.flatMap({ Int($0) }) {
                // The quorum device stands among the nodes as number 0.
                if id > 0 { members.append(id) } else { device = words.count > 1 ? Int(words[1]) : nil }
            }
            if words.first == "Nodeid" { isInTable = true }
        }
        guard let ring, let quorate, !members.isEmpty else { return nil }
        self.ringID = ring
        self.members = members.sorted()
        self.isQuorate = quorate
        deviceVotes = device
    }
}
