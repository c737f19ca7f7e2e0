import OSAL

/// Faults of the network. They stay until healed, also over a node's death and return.
extension ClusterLab {
    /// Splits the nodes: those of different groups do not hear each other. Unnamed ones are one more group.
    public func partition(_ groups: [[Int]]) throws {
        let all = groups.flatMap { $0 }
        for node in all { try check(node) }
        guard !groups.isEmpty, Set(all).count == all.count, groups.allSatisfy({ !$0.isEmpty }) else {
            throw LabError("partition \(groups): groups of nodes are expected, each node in one of them")
        }
        try change { $0.groups = groups }
    }

    /// A node that hears nobody and is heard by nobody, while its cables are in.
    public func isolate(_ node: Int) throws {
        try check(node)
        try change { if !$0.isolated.contains(node) { $0.isolated.append(node) } }
    }

    /// Loses so many of 1000 packets to and from a node, on all planes; 0: none any more.
    public func lose(permille: Int, on node: Int) throws {
        try check(node)
        guard (0...1000).contains(permille) else { throw LabError("loss of \(permille) of 1000 packets") }
        try change { $0.lossPermille[node] = permille == 0 ? nil : permille }
    }

    /// Pulls a node's cable out of a plane; the interface loses its carrier and keeps its address.
    public func unplug(_ node: Int, plane: Int) throws { try setPlugged(false, [node], plane) }

    /// Puts it in again.
    public func plug(_ node: Int, plane: Int) throws { try setPlugged(true, [node], plane) }

    /// Cuts a whole plane: all cables out.
    public func cut(plane: Int) throws { try setPlugged(false, Array(options.allNodes), plane) }

    /// All cables of a plane in again.
    public func restore(plane: Int) throws { try setPlugged(true, Array(options.allNodes), plane) }

    /// Takes every fault of the network away: partition, isolation, loss, delay, pulled cables. Frozen nodes stay
    /// frozen.
    public func heal() throws {
        let before = state.faults
        state.faults = NetworkFaults()
        for plane in options.allPlanes {
            try setLinks(before.unplugged.filter { $0.plane == plane }.map(\.node), plane, "up")
        }
        for node in upNodes {
            try applyRules(on: node)
        }
        for plug in before.delayed { try shorten(plug) }
        try save()
    }

    private func change(_ body: (inout NetworkFaults) -> Void) throws {
        body(&state.faults)
        for node in upNodes { try applyRules(on: node) }
        try save()
    }

    /// Everything that is wrong with the network of a node that has just come up; its cables know already.
    func applyFaults(on node: Int) throws {
        if state.faults != NetworkFaults() { try applyRules(on: node) }
        for plug in state.faults.delayed where plug.node == node { try lengthen(plug) }
    }

    private func applyRules(on node: Int) throws {
        let file = "\(folder(of: node))/nft-rules"
        try File.writeAtomically(file, text: state.faults.rules(for: node, options: options), durable: false)
        try runTool(["nft", "-f", file], in: try requireUp(node))
    }

    private func setPlugged(_ isPlugged: Bool, _ nodes: [Int], _ plane: Int) throws {
        for node in nodes { try check(node) }
        guard options.allPlanes.contains(plane) else {
            throw LabError("plane \(plane): this lab has the planes 0 to \(options.planes - 1)")
        }
        let plugs = nodes.map { NetworkFaults.Plug(plane: plane, node: $0) }
        try setLinks(nodes, plane, isPlugged ? "up" : "down")
        state.faults.unplugged.removeAll { plugs.contains($0) }
        if !isPlugged { state.faults.unplugged += plugs }
        try save()
    }

    /// The switch's end of the cables; one of a node without power is set when it comes up.
    private func setLinks(_ nodes: [Int], _ plane: Int, _ word: String) throws {
        let lines = nodes.filter(isUp).map { "link set v\($0)p\(plane) \(word)" }
        try configureLinks(of: state.switchProcess, lines)
    }
}
