public import ClmProtocol
public import EngineKit
public import SAFTypes

/// Which service addresses are bound to which ports, cluster-wide; the same on every node that is fed the same
/// commands.
///
/// A binding belongs to the session that made it last, so a process that lost its connection and bound again under a
/// new session keeps its bindings when the old session is reported gone.
public struct NameTable: Engine, Hashable, Sendable {
    public enum Command: Hashable, Sendable {
        case bind(NameBinding, by: ClientSession)
        case withdraw(NameBinding, by: ClientSession)
        /// The client died or hung up: everything it bound goes.
        case sessionLeft(ClientSession)
        case nodeLeft(NodeID)
    }

    public enum Outcome: Hashable, Sendable {
        case published(NameBinding)
        case withdrawn(NameBinding)
        /// Answers a bind that could not be done; a bind that is not refused was done.
        case refused(NameBinding, by: ClientSession, AisError)
    }

    public struct Limits: Hashable, Sendable {
        public var bindingsMax: Int
        public var bindingsPerSessionMax: Int

        public init(bindingsMax: Int = 65_536, bindingsPerSessionMax: Int = 1_024) {
            self.bindingsMax = bindingsMax
            self.bindingsPerSessionMax = bindingsPerSessionMax
        }
    }

    let limits: Limits
    private var owners: [NameBinding: ClientSession] = [:]
    private var bindingsBySession: [ClientSession: Set<NameBinding>] = [:]

    public init(limits: Limits = Limits()) { self.limits = limits }

    public var count: Int { owners.count }

    public mutating func handle(_ command: Command, at now: Instant) -> [Outcome] {
        defer { checkInvariants() }
        switch command {
        case .bind(let binding, let session): return bind(binding, by: session)
        case .withdraw(let binding, let session):
            return owners[binding] == session ? remove([binding]) : []
        case .sessionLeft(let session): return remove((bindingsBySession[session] ?? []).sorted())
        case .nodeLeft(let node): return remove(owners.keys.filter { $0.address.node == node }.sorted())
        }
    }

    private mutating func bind(_ binding: NameBinding, by session: ClientSession) -> [Outcome] {
        if let owner = owners[binding] {
            if owner != session { give(binding, to: session, from: owner) }
            return []
        }
        guard owners.count < limits.bindingsMax,
            bindingsBySession[session, default: []].count < limits.bindingsPerSessionMax
        else { return [.refused(binding, by: session, .noResources)] }
        owners[binding] = session
        bindingsBySession[session, default: []].insert(binding)
        return [.published(binding)]
    }

    private mutating func give(_ binding: NameBinding, to session: ClientSession, from owner: ClientSession) {
        owners[binding] = session
        bindingsBySession[session, default: []].insert(binding)
        forget(binding, of: owner)
    }

    private mutating func remove(_ gone: [NameBinding]) -> [Outcome] {
        var outcomes: [Outcome] = []
        for binding in gone {
            guard let owner = owners.removeValue(forKey: binding) else { continue }
            forget(binding, of: owner)
            outcomes.append(.withdrawn(binding))
        }
        return outcomes
    }

    private mutating func forget(_ binding: NameBinding, of session: ClientSession) {
        bindingsBySession[session]?.remove(binding)
        if bindingsBySession[session]?.isEmpty == true { bindingsBySession[session] = nil }
    }

    private func checkInvariants() {
        invariant(owners.count <= limits.bindingsMax, "the table stays within its limit")
        invariant(bindingsBySession.count <= owners.count, "a session without bindings is forgotten")
    }
}

extension NameTable {
    /// The whole table, sorted, with who bound what.
    public var entries: [(binding: NameBinding, session: ClientSession)] {
        owners.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// What a session owns.
    func bindings(of session: ClientSession) -> Set<NameBinding> { bindingsBySession[session] ?? [] }

    func owner(of binding: NameBinding) -> ClientSession? { owners[binding] }

    /// The sessions that own at least one binding, sorted.
    public var sessions: [ClientSession] { bindingsBySession.keys.sorted() }
}

extension NameTable: WireCodable {
    private static let snapshotVersion: UInt16 = 1

    /// version u16 · count u32 · (session · binding)…, sorted by binding. The limits are not part of the state.
    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.snapshotVersion)
        writer.integer(UInt32(owners.count))
        for entry in entries {
            writer.value(entry.session)
            writer.value(entry.binding)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        self.init()
        let version = try reader.integer(UInt16.self)
        guard version == Self.snapshotVersion else { throw .badValue("name table version \(version); 1 expected") }
        let count = Int(try reader.integer(UInt32.self))
        guard count <= limits.bindingsMax else {
            throw .badValue("\(count) bindings; at most \(limits.bindingsMax) expected")
        }
        for _ in 0..<count {
            let session = try reader.value(ClientSession.self)
            let binding = try reader.value(NameBinding.self)
            guard bind(binding, by: session) == [.published(binding)] else {
                throw .badValue("binding \(binding.range) twice, or too many of one session")
            }
        }
    }
}

extension NameTable.Command: WireCodable {
    /// kind u8 · body.
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .bind(let binding, let session):
            writer.integer(UInt8(1))
            writer.value(binding)
            writer.value(session)
        case .withdraw(let binding, let session):
            writer.integer(UInt8(2))
            writer.value(binding)
            writer.value(session)
        case .sessionLeft(let session):
            writer.integer(UInt8(3))
            writer.value(session)
        case .nodeLeft(let node):
            writer.integer(UInt8(4))
            writer.value(node)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .bind(try reader.value(), by: try reader.value())
        case 2: self = .withdraw(try reader.value(), by: try reader.value())
        case 3: self = .sessionLeft(try reader.value())
        case 4: self = .nodeLeft(try reader.value())
        default: throw .badValue("name table command of kind \(kind); 1 to 4 expected")
        }
    }
}
