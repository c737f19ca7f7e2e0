import Containers
public import EngineKit
public import LogProtocol
public import SAFTypes

/// A place in the ledger: the number of an entry, and the epoch of the owner that numbered it. epoch u64 · number u64.
public struct LedgerPosition: Hashable, Comparable, Sendable, WireCodable {
    public var epoch: UInt64
    public var number: UInt64

    public init(epoch: UInt64 = 0, number: UInt64 = 0) { (self.epoch, self.number) = (epoch, number) }

    public static func < (left: LedgerPosition, right: LedgerPosition) -> Bool {
        (left.epoch, left.number) < (right.epoch, right.number)
    }
    public func encode(to writer: inout ByteWriter) {
        writer.integer(epoch)
        writer.integer(number)
    }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        epoch = try reader.integer()
        number = try reader.integer()
        guard epoch < Self.max, number < Self.max else { throw .badValue("ledger position \(epoch), \(number)") }
    }

    /// No cluster lives long enough for it; sums stay in range.
    static let max: UInt64 = 1 << 62
}

/// A global stream as every node knows it. name · attributes · number u8 · openers.
public struct RegisteredStream: Hashable, Sendable, WireCodable {
    public var name: SaName
    public var attributes: StreamAttributes
    /// What its records bear; a later stream may get the same one.
    public var number: LogStream
    /// Nodes with a process that has it open, ascending. Well-known streams have none, and stay.
    public var openers: [NodeID]

    public init(name: SaName, attributes: StreamAttributes, number: LogStream, openers: [NodeID] = []) {
        (self.name, self.attributes, self.number, self.openers) = (name, attributes, number, openers)
    }

    public var isWellKnown: Bool { LogStream.wellKnown.contains(number) }

    public func encode(to writer: inout ByteWriter) {
        writer.value(name)
        writer.value(attributes)
        writer.value(number)
        writer.list(openers)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.value()
        attributes = try reader.value()
        number = try reader.value()
        openers = try reader.list(max: 65_536)
    }
}

/// What a node's logd says of itself when it comes.
///
/// node · incarnation u64 · keepsFiles u8 · store u64 · position · controllers u16 · open streams.
public struct Arrival: Hashable, Sendable, WireCodable {
    public var node: NodeID
    public var incarnation: UInt64
    /// It is a controller that can write its ledger.
    public var keepsFiles: Bool
    /// Of the ledger: another one, and what the former held is lost.
    public var store: UInt64
    public var position: LedgerPosition
    /// How many controllers the cluster is configured with.
    public var controllers: UInt16
    /// What living processes of the node have open.
    public var open: [StreamID]

    public init(
        node: NodeID, incarnation: UInt64, keepsFiles: Bool, store: UInt64 = 0,
        position: LedgerPosition = LedgerPosition(), controllers: UInt16 = 1, open: [StreamID] = []
    ) {
        (self.node, self.incarnation, self.keepsFiles, self.store) = (node, incarnation, keepsFiles, store)
        (self.position, self.controllers, self.open) = (position, controllers, open)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(incarnation)
        writer.bool(keepsFiles)
        writer.integer(store)
        writer.value(position)
        writer.integer(controllers)
        writer.list(open)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        incarnation = try reader.integer()
        keepsFiles = try reader.bool()
        store = try reader.integer()
        position = try reader.value()
        controllers = try reader.integer()
        open = try reader.list(max: StreamRegistry.streamsMax)
    }
}

/// Who writes the files: what every node acts on.
public struct Ownership: Hashable, Sendable {
    public struct Peer: Hashable, Sendable {
        public var node: NodeID
        public var incarnation: UInt64
        public init(node: NodeID, incarnation: UInt64) { (self.node, self.incarnation) = (node, incarnation) }
    }
    /// Counts owners; each life of each owner has one of its own.
    public var epoch: UInt64
    public var owner: Peer?
    /// The controllers whose ledgers hold everything that was ever acknowledged, ascending.
    public var inSync: [NodeID]
    /// The controllers that are there, the owner included, ascending.
    public var keepers: [Peer]

    public init(epoch: UInt64 = 0, owner: Peer? = nil, inSync: [NodeID] = [], keepers: [Peer] = []) {
        (self.epoch, self.owner, self.inSync, self.keepers) = (epoch, owner, inSync, keepers)
    }
}

/// Which global streams there are, and which controller writes their files: the same on every node that is fed the same
/// commands.
///
/// The owner is always one whose ledger is complete (`inSync`), the one that came first of those. When none of them is
/// there the files wait: for ``electionDelay`` (never had one: ``formingDelay``, or until all controllers are there);
/// then the fullest ledger that is there must do, and what only the others hold stays in their files.
public struct StreamRegistry: Engine, Hashable, Sendable {
    public enum Command: Hashable, Sendable {
        case arrived(Arrival)
        /// These nodes are in the group, and nobody else.
        case present([NodeID])
        /// A controller has all that its owner has, in this epoch.
        case caughtUp(NodeID, incarnation: UInt64, epoch: UInt64)
        /// A controller does not follow its owner any more, or cannot write.
        case lagging(NodeID, epoch: UInt64)
        /// Changes nothing: who gets its answer knows that a majority has what was ordered before.
        case confirm
        /// Time has passed.
        case tick
        case open(SaName, StreamAttributes?, by: NodeID)
        case close(StreamID, by: NodeID)
        case setSeverities(StreamID, SeveritySet)
    }

    public enum Outcome: Hashable, Sendable {
        /// For every node: something is different now.
        case changed
        /// Answers an open.
        case opened(StreamID)
        /// Answers any command.
        case refused(AisError, String)
        case setTimer(Instant)
        case cancelTimer
    }

    struct Member: Hashable, Sendable {
        var incarnation: UInt64
        var keepsFiles: Bool
        var position: LedgerPosition
        var order: UInt64
    }

    /// Source: OpenSAF's default of SA_LOG_MAX_NUM_CLUSTER_APP_LOG_STREAMS_ID.
    public static let createdMax = 64
    public static let streamsMax = createdMax + LogStream.wellKnown.count
    /// Streams that ended, for those who still have records of them to write.
    static let endedMax = 64
    public static let electionDelay: Duration = .seconds(30)
    public static let formingDelay: Duration = .seconds(5)
    /// What a node that is gone had open, ends with it after this time.
    public static let openersDelay: Duration = .seconds(60)

    var members: OrderedMap<NodeID, Member> = [:]
    /// The ledger last seen of each controller.
    var stores: OrderedMap<NodeID, UInt64> = [:]
    /// Since when openers are away.
    var absent: OrderedMap<NodeID, Instant> = [:]
    var controllers: UInt16 = 1
    var nextOrder: UInt64 = 0
    var nextID: UInt32 = 256
    var nextNumber: UInt8 = LogStream.created.lowerBound
    var electAt: Instant?
    public internal(set) var epoch: UInt64 = 0
    public internal(set) var owner: NodeID?
    public internal(set) var inSync: [NodeID] = []
    public internal(set) var streams: OrderedMap<StreamID, RegisteredStream> = [:]
    var ended: [(id: StreamID, stream: RegisteredStream)] {
        endedIDs.indices.map { (endedIDs[$0], endedStreams[$0]) }
    }
    var endedIDs: [StreamID] = []
    var endedStreams: [RegisteredStream] = []

    public init() {
        for number in LogStream.wellKnown {
            guard let name = SaName("safLgStrCfg=\(number),safApp=safLogService") else { continue }
            streams[StreamID(number)] = RegisteredStream(
                name: name, attributes: StreamAttributes(fileName: number.description), number: number)
        }
    }

    public var ownership: Ownership {
        func peer(_ node: NodeID) -> Ownership.Peer? {
            members[node].map { Ownership.Peer(node: node, incarnation: $0.incarnation) }
        }
        return Ownership(
            epoch: epoch, owner: owner.flatMap(peer), inSync: inSync,
            keepers: members.filter { $0.value.keepsFiles }.keys.compactMap(peer))
    }

    /// The stream with this id, also for a while after it has ended.
    public func stream(_ id: StreamID) -> RegisteredStream? {
        streams[id] ?? endedIDs.lastIndex(of: id).map { endedStreams[$0] }
    }

    /// The stream that records with this number belong to now.
    public func stream(numbered number: LogStream) -> StreamID? {
        streams.first { $0.value.number == number }?.key
    }

    public var memberNodes: [NodeID] { members.keys }

    /// What the next stream that is created is called; those before it are known here, or were.
    public var nextStream: StreamID { StreamID(rawValue: nextID) }

    /// All streams, those that ended lately first.
    public var known: [(id: StreamID, stream: RegisteredStream)] { ended + streams.map { ($0.key, $0.value) } }

    public func incarnation(of node: NodeID) -> UInt64? { members[node]?.incarnation }

    public mutating func handle(_ command: Command, at now: Instant) -> [Outcome] {
        let before = self
        var outcomes = perform(command, at: now)
        elect(at: now)
        expire(at: now)
        let timer = nextTimer
        if timer != before.nextTimer { outcomes.append(timer.map { .setTimer($0) } ?? .cancelTimer) }
        if self != before { outcomes.insert(.changed, at: 0) }
        return outcomes
    }

    private mutating func perform(_ command: Command, at now: Instant) -> [Outcome] {
        switch command {
        case .arrived(let arrival): arrive(arrival)
        case .present(let nodes): present(nodes, at: now)
        case .caughtUp(let node, let incarnation, let epoch):
            guard epoch == self.epoch, owner != nil, members[node]?.incarnation == incarnation else {
                return [.refused(.notExist, "node \(node) is not what it was, or epoch \(epoch) is over")]
            }
            if !inSync.contains(node) { inSync = (inSync + [node]).sorted() }
        case .lagging(let node, let epoch):
            guard epoch == self.epoch else { return [.refused(.notExist, "epoch \(epoch) is over")] }
            guard inSync.contains(node), inSync.contains(where: { $0 != node && members[$0] != nil }) else {
                return [.refused(.notExist, "no other controller has everything")]
            }
            inSync.removeAll { $0 == node }
        case .confirm, .tick: break
        case .open(let name, let attributes, let node): return open(name, attributes, by: node)
        case .close(let id, let node): return close(id, by: node)
        case .setSeverities(let id, let severities):
            guard streams[id] != nil else { return [.refused(.notExist, "stream \(id) does not exist")] }
            guard id == StreamID(.clusterSystem) || id.rawValue > 255 else {
                return [.refused(.notSupported, "alarms and notifications are not filtered")]
            }
            streams[id]?.attributes.severities = severities
        }
        return []
    }

    // MARK: Who writes

    private mutating func arrive(_ arrival: Arrival) {
        let node = arrival.node
        guard members[node]?.incarnation != arrival.incarnation else { return }
        members[node] = Member(
            incarnation: arrival.incarnation, keepsFiles: arrival.keepsFiles, position: arrival.position,
            order: nextOrder)
        nextOrder += 1
        controllers = max(1, arrival.controllers)
        epoch = max(epoch, arrival.position.epoch)
        if owner == node { owner = nil }
        if arrival.keepsFiles {
            if let known = stores[node], known != arrival.store { inSync.removeAll { $0 == node } }
            stores[node] = arrival.store
        }
        absent[node] = nil
        for (id, stream) in streams where !stream.isWellKnown {
            setOpener(node, of: id, isOpen: arrival.open.contains(id))
        }
    }

    private mutating func present(_ nodes: [NodeID], at now: Instant) {
        let gone = members.keys.filter { !nodes.contains($0) }
        for node in gone {
            members[node] = nil
            absent[node] = now
        }
        // Those who have everything are remembered when nobody of them is there.
        let left = inSync.filter { members[$0] != nil }
        if !left.isEmpty { inSync = left }
    }

    private mutating func elect(at now: Instant) {
        func keeps(_ node: NodeID) -> Bool { members[node]?.keepsFiles ?? false }
        func order(_ node: NodeID) -> UInt64 { members[node]?.order ?? .max }
        if let owner, keeps(owner), inSync.contains(owner) { return electAt = nil }
        owner = nil
        if let next = inSync.filter(keeps).min(by: { order($0) < order($1) }) { return begin(next) }
        let possible = members.keys.filter(keeps)
        guard !possible.isEmpty else { return electAt = nil }
        let isForming = inSync.isEmpty
        let due = electAt ?? now + (isForming ? Self.formingDelay : Self.electionDelay)
        electAt = due
        guard now >= due || (isForming && possible.count >= Int(controllers)) else { return }
        func isFuller(_ left: NodeID, _ right: NodeID) -> Bool {
            guard let one = members[left], let other = members[right] else { return false }
            return one.position == other.position ? one.order < other.order : one.position > other.position
        }
        guard let fullest = possible.min(by: isFuller) else { return }
        inSync = [fullest]
        begin(fullest)
    }

    private mutating func begin(_ node: NodeID) {
        owner = node
        epoch += 1
        electAt = nil
    }

    // MARK: Streams

    private mutating func open(_ name: SaName, _ attributes: StreamAttributes?, by node: NodeID) -> [Outcome] {
        if let (id, stream) = streams.first(where: { $0.value.name == name }) {
            guard attributes == nil || attributes == stream.attributes else {
                return [.refused(.exist, "stream \(name) exists with other attributes")]
            }
            if !stream.isWellKnown { setOpener(node, of: id, isOpen: true) }
            return [.opened(id)]
        }
        guard let attributes else { return [.refused(.notExist, "stream \(name) does not exist; create it")] }
        if let fault = attributes.fault { return [.refused(.invalidParam, fault)] }
        let isTaken = streams.contains { $0.value.attributes.fileName == attributes.fileName }
        guard !isTaken, LogStream(name: attributes.fileName) == nil else {
            return [.refused(.exist, "files '\(attributes.fileName)' belong to another stream")]
        }
        guard streams.count < Self.streamsMax, nextID < .max else {
            return [.refused(.noResources, "\(streams.count) streams exist already")]
        }
        let id = StreamID(rawValue: nextID)
        nextID += 1
        streams[id] = RegisteredStream(name: name, attributes: attributes, number: freeNumber(), openers: [node])
        return [.opened(id)]
    }

    /// The one that was free for longest: records of the stream that had it before are then gone.
    private mutating func freeNumber() -> LogStream {
        while true {
            let number = nextNumber
            nextNumber = number == LogStream.created.upperBound ? LogStream.created.lowerBound : number + 1
            if let stream = LogStream(rawValue: number), self.stream(numbered: stream) == nil { return stream }
        }
    }

    private mutating func close(_ id: StreamID, by node: NodeID) -> [Outcome] {
        guard let stream = streams[id] else { return [.refused(.notExist, "stream \(id) does not exist")] }
        if !stream.isWellKnown { setOpener(node, of: id, isOpen: false) }
        return []
    }

    /// A stream ends with its last opener.
    private mutating func setOpener(_ node: NodeID, of id: StreamID, isOpen: Bool) {
        guard var stream = streams[id], stream.openers.contains(node) != isOpen else { return }
        stream.openers = isOpen ? (stream.openers + [node]).sorted() : stream.openers.filter { $0 != node }
        streams[id] = stream
        guard stream.openers.isEmpty else { return }
        streams[id] = nil
        endedIDs.append(id)
        endedStreams.append(stream)
        if endedIDs.count > Self.endedMax {
            endedIDs.removeFirst()
            endedStreams.removeFirst()
        }
    }

    // MARK: Time

    private var nextTimer: Instant? {
        let expiry = absent.values.min().map { $0 + Self.openersDelay }
        return [electAt, expiry].compactMap { $0 }.min()
    }

    private mutating func expire(at now: Instant) {
        for (node, since) in absent where now >= since + Self.openersDelay {
            absent[node] = nil
            for id in streams.keys { setOpener(node, of: id, isOpen: false) }
        }
    }
}
