import SAFTypes

/// Raw values: SaAmfAdminOperationIdT.
public enum AdminOperation: UInt8, Hashable, Sendable, CaseIterable {
    case unlock = 1, lock, lockInstantiation, unlockInstantiation, shutdown, restart, siSwap, sgAdjust, repaired
}

extension AdminOperation: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unlock: "unlock"
        case .lock: "lock"
        case .lockInstantiation: "lock-instantiation"
        case .unlockInstantiation: "unlock-instantiation"
        case .shutdown: "shutdown"
        case .restart: "restart"
        case .siSwap: "swap"
        case .sgAdjust: "adjust"
        case .repaired: "repaired"
        }
    }
}

/// Who asked for an administrative operation; comes back with the answer.
public struct AdminTicket: Hashable, Sendable {
    public var node = NodeID(0)
    /// Chosen by the asking node, unique in its life.
    public var number: UInt64 = 0
    public init() {}
    public init(node: NodeID, number: UInt64) { (self.node, self.number) = (node, number) }
}

extension AdminTicket: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&node)
        try coder.integer(&number)
    }
}
