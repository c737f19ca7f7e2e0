import Containers
public import EngineKit
public import EventProtocol
public import SAFTypes

/// Names a channel for ever: another channel of the same name has another id.
///
/// The upper half is the lineage of the registry that gave it, the lower half counts. lineage · number u64.
public struct ChannelID: Hashable, Comparable, Sendable, WireCodable, CustomStringConvertible {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public var lineage: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
    public static func < (left: ChannelID, right: ChannelID) -> Bool { left.rawValue < right.rawValue }
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
    public var description: String { String(rawValue, radix: 16) }
}

/// What a node wants of a channel's events: those that match one of these lists of filters.
///
/// count u32 · lists of filters.
public struct Interest: Hashable, Sendable, WireCodable {
    /// A node with more different subscriptions wants everything: the registry stays small.
    public static let listsMax = 16

    public let lists: [[EventFilter]]

    public static let nothing = Interest(lists: [])
    public static let everything = Interest(lists: [[]])

    private init(lists: [[EventFilter]]) { self.lists = lists }

    /// Of subscriptions, each with its filters; the same for every order of them.
    public init(of subscriptions: [[EventFilter]]) {
        let forms = subscriptions.map { filters in
            var writer = ByteWriter()
            writer.list(filters)
            return (bytes: writer.bytes, filters: filters)
        }
        var lists: [[EventFilter]] = []
        var last: [UInt8] = []
        for form in forms.sorted(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) where form.bytes != last {
            if form.filters.isEmpty || lists.count == Self.listsMax {
                self = .everything
                return
            }
            last = form.bytes
            lists.append(form.filters)
        }
        self.lists = lists
    }

    /// Tells interests apart; the same on every node (FNV-1a over the encoded form).
    public var fingerprint: UInt64 {
        encoded.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
    }

    public func matches(_ patterns: [[UInt8]]) -> Bool { lists.contains { $0.match(patterns) } }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32(lists.count))
        for list in lists { writer.list(list) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let count = try reader.integer(UInt32.self)
        guard count <= Self.listsMax else { throw .badValue("\(count) lists of filters; at most \(Self.listsMax)") }
        var lists: [[EventFilter]] = []
        for _ in 0..<count { lists.append(try reader.list(max: EventLimits.filtersMax)) }
        self.lists = lists
    }
}

/// A channel as every node knows it. name · isUnlinked u8 · users.
public struct RegisteredChannel: Hashable, Sendable, WireCodable {
    /// A node that has the channel open. node · interest.
    public struct User: Hashable, Sendable, WireCodable {
        public var node: NodeID
        public var interest: Interest

        public init(node: NodeID, interest: Interest) {
            self.node = node
            self.interest = interest
        }

        public func encode(to writer: inout ByteWriter) {
            writer.value(node)
            writer.value(interest)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            node = try reader.value()
            interest = try reader.value()
        }
    }

    public var name: SaName
    public var isUnlinked = false
    /// Ascending by node.
    public private(set) var users: [User] = []

    public init(name: SaName) { self.name = name }

    public func interest(of node: NodeID) -> Interest? { users.first { $0.node == node }?.interest }

    mutating func set(_ interest: Interest?, of node: NodeID) {
        users.removeAll { $0.node == node }
        guard let interest else { return }
        let index = users.firstIndex { $0.node > node } ?? users.count
        users.insert(User(node: node, interest: interest), at: index)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(name)
        writer.bool(isUnlinked)
        writer.list(users)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.value()
        isUnlinked = try reader.bool()
        users = try reader.list(max: 65_536)
        for (one, next) in zip(users, users.dropFirst()) where one.node >= next.node {
            throw .badValue("users \(one.node), \(next.node) are out of order")
        }
    }
}

/// Which channels there are, cluster-wide; the same on every node that is fed the same commands.
///
/// A channel lives until it is unlinked and no node has it open any more. Source: SAI-AIS-EVT-B.01.01 §3.1.1.
public struct ChannelRegistry: Engine, Hashable, Sendable {
    public enum Command: Hashable, Sendable {
        /// A node opens a channel. `lineage`: not 0; the first command of all gives the registry its own.
        case open(SaName, creating: Bool, lineage: UInt32, by: NodeID)
        /// What a node wants of a channel now; nil: it has it open no more.
        case declare(ChannelID, by: NodeID, Interest?)
        case unlink(ChannelID)
        /// The node is gone, and what it had open with it.
        case nodeGone(NodeID)
    }

    public enum Outcome: Hashable, Sendable {
        /// For every node: the channel is like this now; nil: it is no more.
        case changed(ChannelID, RegisteredChannel?)
        /// Answers an open.
        case opened(ChannelID)
        /// Answers any command.
        case refused(AisError, String)
    }

    let channelsMax: Int
    /// 0: no channel was ever made.
    public private(set) var lineage: UInt32 = 0
    private var nextNumber: UInt32 = 1
    private var names: OrderedMap<SaName, ChannelID> = [:]
    public private(set) var channels: OrderedMap<ChannelID, RegisteredChannel> = [:]

    public init(channelsMax: Int = EventLimits.channelsMax) { self.channelsMax = channelsMax }

    public mutating func handle(_ command: Command, at now: Instant) -> [Outcome] {
        defer { checkInvariants() }
        switch command {
        case .open(let name, let creating, let lineage, let node):
            return open(name, creating: creating, lineage: lineage, by: node)
        case .declare(let id, let node, let interest): return declare(id, by: node, interest)
        case .unlink(let id): return unlink(id)
        case .nodeGone(let node):
            return channels.keys.flatMap { id in
                channels[id]?.interest(of: node) == nil ? [] : declare(id, by: node, nil)
            }
        }
    }

    private mutating func open(_ name: SaName, creating: Bool, lineage: UInt32, by node: NodeID) -> [Outcome] {
        if self.lineage == 0 { self.lineage = max(lineage, 1) }
        if let id = names[name] {
            guard channels[id]?.interest(of: node) == nil else { return [.opened(id)] }
            channels[id]?.set(.nothing, of: node)
            return [.changed(id, channels[id]), .opened(id)]
        }
        guard creating else { return [.refused(.notExist, "channel \(name) does not exist; open it with CREATE")] }
        guard channels.count < channelsMax, nextNumber < .max else {
            return [.refused(.noResources, "\(channels.count) channels exist already")]
        }
        let id = ChannelID(rawValue: UInt64(self.lineage) << 32 | UInt64(nextNumber))
        nextNumber += 1
        var channel = RegisteredChannel(name: name)
        channel.set(.nothing, of: node)
        names[name] = id
        channels[id] = channel
        return [.changed(id, channel), .opened(id)]
    }

    private mutating func declare(_ id: ChannelID, by node: NodeID, _ interest: Interest?) -> [Outcome] {
        guard var channel = channels[id] else { return [.refused(.notExist, "channel \(id) does not exist")] }
        guard channel.interest(of: node) != interest else { return [] }
        channel.set(interest, of: node)
        channels[id] = channel
        return settle(id)
    }

    private mutating func unlink(_ id: ChannelID) -> [Outcome] {
        guard let channel = channels[id], !channel.isUnlinked else {
            return [.refused(.notExist, "channel \(id) does not exist")]
        }
        names[channel.name] = nil
        channels[id]?.isUnlinked = true
        return settle(id)
    }

    /// An unlinked channel goes with its last opener.
    private mutating func settle(_ id: ChannelID) -> [Outcome] {
        if let channel = channels[id], channel.isUnlinked, channel.users.isEmpty { channels[id] = nil }
        return [.changed(id, channels[id])]
    }

    func checkInvariants() {
        invariant(names.count <= channels.count, "a name without a channel")
        invariant(channels.count <= channelsMax, "\(channels.count) channels")
    }
}

/// version u8 (1) · channelsMax u32 · lineage u32 · nextNumber u32 · count u32 · channels (id, channel).
extension ChannelRegistry: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt8(1))
        writer.integer(UInt32(channelsMax))
        writer.integer(lineage)
        writer.integer(nextNumber)
        writer.integer(UInt32(channels.count))
        for (id, channel) in channels {
            writer.value(id)
            writer.value(channel)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard version == 1 else { throw .badValue("registry version \(version); 1 expected") }
        channelsMax = Int(try reader.integer(UInt32.self))
        lineage = try reader.integer()
        nextNumber = try reader.integer()
        let count = try reader.integer(UInt32.self)
        guard count <= channelsMax else { throw .badValue("\(count) channels; at most \(channelsMax)") }
        for _ in 0..<count {
            let id: ChannelID = try reader.value()
            let channel: RegisteredChannel = try reader.value()
            guard !channels.contains(id), channel.isUnlinked || !names.contains(channel.name) else {
                throw .badValue("channel \(id) is there twice")
            }
            channels[id] = channel
            if !channel.isUnlinked { names[channel.name] = id }
        }
    }
}

/// kind u8: 1 open (name, creating u8, lineage u32, node) · 2 declare (id, node, optional interest) · 3 unlink (id) ·
/// 4 nodeGone (node).
extension ChannelRegistry.Command: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .open(let name, let creating, let lineage, let node):
            writer.integer(UInt8(1))
            writer.value(name)
            writer.bool(creating)
            writer.integer(lineage)
            writer.value(node)
        case .declare(let id, let node, let interest):
            writer.integer(UInt8(2))
            writer.value(id)
            writer.value(node)
            writer.optional(interest)
        case .unlink(let id):
            writer.integer(UInt8(3))
            writer.value(id)
        case .nodeGone(let node):
            writer.integer(UInt8(4))
            writer.value(node)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1:
            self = .open(
                try reader.value(), creating: try reader.bool(), lineage: try reader.integer(), by: try reader.value())
        case 2: self = .declare(try reader.value(), by: try reader.value(), try reader.optional())
        case 3: self = .unlink(try reader.value())
        case 4: self = .nodeGone(try reader.value())
        default: throw .badValue("registry command \(kind); 1 to 4 expected")
        }
    }
}
