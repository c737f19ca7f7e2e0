import ClmEngine
public import ClmProtocol
public import SAFTypes

/// What the console asks.
extension ClmDaemon {
    public var viewNumber: UInt64 { engine.viewNumber }
    /// Members and locked nodes.
    public var nodes: [ClusterNode] { host.core.nodes.map(\.node) }
    public func isLocked(_ node: NodeID) -> Bool { host.core.isLocked(node) }
    public var names: [NameBinding] { engine.visibleBindings }
    public var isLocalMember: Bool { engine.isLocalMember }
    /// How this clmd stands in its group, in a word.
    public var standing: String { isLocked(engine.localNode) ? "locked" : "\(host.status)" }

    /// `then` is called when it is done (nil) or was refused, in words.
    public func administer(_ administration: NodeAdministration, then: @escaping (String?) -> Void) {
        let console = ClientSession(node: engine.localNode, high: 0, low: 0)
        ask(.administer(administration), from: console) { reply in
            if case .failed(_, let text) = reply { then(text) } else { then(nil) }
        }
    }
}
