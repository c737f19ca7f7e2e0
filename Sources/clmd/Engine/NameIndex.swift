import ClmProtocol
import EngineKit
import SAFTypes

/// The bindings in the order in which they are looked for; built from what the ``NameTable`` publishes and withdraws.
struct NameIndex: Sendable {
    /// Sorted, so that every walk is the same everywhere.
    private var bindingsByType: [UInt32: [NameBinding]] = [:]

    /// False when it was there.
    @discardableResult
    mutating func insert(_ binding: NameBinding) -> Bool {
        var sameType = bindingsByType.removeValue(forKey: binding.range.type) ?? []
        let position = Self.position(of: binding, in: sameType)
        let isNew = position == sameType.count || sameType[position] != binding
        if isNew { sameType.insert(binding, at: position) }
        bindingsByType[binding.range.type] = sameType
        return isNew
    }

    /// False when it was not there.
    mutating func remove(_ binding: NameBinding) -> Bool {
        guard var sameType = bindingsByType.removeValue(forKey: binding.range.type) else { return false }
        let position = Self.position(of: binding, in: sameType)
        let isThere = position < sameType.count && sameType[position] == binding
        if isThere { sameType.remove(at: position) }
        if !sameType.isEmpty { bindingsByType[binding.range.type] = sameType }
        return isThere
    }

    /// Who provides `instance` of `type` for a process of `node`: its own node first, then by node and port.
    func lookup(type: UInt32, instance: UInt32, from node: NodeID) -> [PortAddress] {
        var near: [PortAddress] = []
        var far: [PortAddress] = []
        for binding in bindingsByType[type] ?? [] where binding.range.contains(instance) {
            guard Self.isVisible(binding, from: node) else { continue }
            if binding.address.node == node { near.append(binding.address) } else { far.append(binding.address) }
        }
        near.sort()
        far.sort()
        return Array((near + far).prefix(LookupReply.addressesMax))
    }

    /// The bindings that overlap `range` and that `node` may see, sorted.
    func bindings(overlapping range: ServiceRange, from node: NodeID) -> [NameBinding] {
        (bindingsByType[range.type] ?? []).filter { $0.range.overlaps(range) && Self.isVisible($0, from: node) }
    }

    /// Every binding, sorted.
    var all: [NameBinding] { bindingsByType.keys.sorted().flatMap { bindingsByType[$0] ?? [] } }

    static func isVisible(_ binding: NameBinding, from node: NodeID) -> Bool {
        binding.scope == .cluster || binding.address.node == node
    }

    /// Where `binding` is, or belongs, in a sorted list.
    private static func position(of binding: NameBinding, in sorted: [NameBinding]) -> Int {
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < binding { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
