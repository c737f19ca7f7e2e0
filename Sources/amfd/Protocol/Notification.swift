import SAFTypes

/// A change of one AMF state, as amfd publishes it on ``channelName``.
public struct AmfNotification: Hashable, Sendable {
    /// The well-known event channel.
    public static let channelName = SaName("safChnl=AmfNotifications")!  // 24 octets
    public static let wireVersion: UInt16 = 1

    /// What changed. Raw values: SaAmfStateT, and above 100 what is no state.
    public enum Attribute: UInt8, Hashable, Sendable, CaseIterable {
        case readiness = 1, ha, presence, operational, admin, assignment
        /// 1: left, 2: joined.
        case membership = 101
        /// An error of a component; `text` says which.
        case error = 102
        /// A recovery became a bigger one; `text` says why, with counter and limit.
        case escalation = 103
    }

    public var attribute: Attribute = .presence
    /// The component, service unit, service instance, group, application or node.
    public var dn = SaName.none
    /// For ``Attribute/ha``: `dn` is the SI or CSI and this the service unit or component it is assigned to.
    public var assignee: SaName?
    /// Raw values of the state's type; 0: none (an assignment that did not exist, or is gone).
    public var old: UInt8 = 0
    public var new: UInt8 = 0
    /// The node where it happened; 0: none.
    public var node = NodeID(0)
    /// UTC; filled in when it is published.
    public var time: SaTime = 0
    public var text = ""
    public init() {}
    public init(_ attribute: Attribute, _ dn: SaName, old: UInt8, new: UInt8) {
        (self.attribute, self.dn, self.old, self.new) = (attribute, dn, old, new)
    }
}

extension AmfNotification: WireFields {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.wireVersion)
        var copy = self
        var coder = FieldWriter(writer: writer)
        copy.fields(&coder)
        writer = coder.writer
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard version == Self.wireVersion else {
            throw .badValue("notification version \(version); \(Self.wireVersion) expected")
        }
        self.init()
        var coder = FieldReader(reader: reader)
        try fields(&coder)
        reader = coder.reader
    }

    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&attribute)
        try coder.value(&dn)
        try coder.optional(&assignee)
        try coder.integer(&old)
        try coder.integer(&new)
        try coder.value(&node)
        try coder.integer(&time)
        try coder.text(&text)
    }
}

extension AmfNotification {
    /// The old and new state in words: "active", "in-service"; empty for none.
    public var oldText: String { word(old) }
    public var newText: String { word(new) }

    private func word(_ raw: UInt8) -> String {
        switch attribute {
        case .readiness: ReadinessState(rawValue: raw)?.word ?? ""
        case .ha: HAState(rawValue: raw)?.word ?? ""
        case .presence: PresenceState(rawValue: raw)?.word ?? ""
        case .operational: OperationalState(rawValue: raw)?.word ?? ""
        case .admin: AdminState(rawValue: raw)?.word ?? ""
        case .assignment: AssignmentState(rawValue: raw)?.word ?? ""
        case .membership: raw == 2 ? "joined" : raw == 1 ? "left" : ""
        case .error, .escalation: ""
        }
    }
}
