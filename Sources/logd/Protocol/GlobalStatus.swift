import SAFTypes

/// The answer to an open: the number that this stream's records bear. stream u8.
public struct OpenedStream: Hashable, Sendable, WireCodable {
    public var stream: LogStream
    public init(stream: LogStream) { self.stream = stream }
    public func encode(to writer: inout ByteWriter) { writer.value(stream) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { stream = try reader.value() }
}

/// What one node's logd has to do with the global streams.
///
/// node · keepsFiles u8 · incarnation u64 · accepted u64 · acknowledged u64 · spoolBytes u64 · lost u64 · ledger u64 ·
/// committed u64 · written u64 · lastError.
public struct GlobalNodeStatus: Hashable, Sendable, WireCodable {
    public var node: NodeID
    public var keepsFiles: Bool
    /// Of its spool, in which it counts.
    public var incarnation: UInt64
    /// Records that its writers gave, and those of them that are in the files.
    public var accepted: UInt64
    public var acknowledged: UInt64
    public var spoolBytes: UInt64
    /// Records that were dropped, for want of room or because nobody has their stream open.
    public var lost: UInt64
    /// The last entry of its ledger, the last that all in sync have, and the last that is in its files.
    public var ledger: UInt64
    public var committed: UInt64
    public var written: UInt64
    /// Why its disk does not take it; empty while it does.
    public var lastError: String

    public init(
        node: NodeID, keepsFiles: Bool, incarnation: UInt64, accepted: UInt64, acknowledged: UInt64, spoolBytes: UInt64,
        lost: UInt64, ledger: UInt64, committed: UInt64, written: UInt64, lastError: String
    ) {
        (self.node, self.keepsFiles, self.incarnation) = (node, keepsFiles, incarnation)
        (self.accepted, self.acknowledged, self.spoolBytes) = (accepted, acknowledged, spoolBytes)
        (self.lost, self.ledger, self.committed, self.written) = (lost, ledger, committed, written)
        self.lastError = lastError
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.bool(keepsFiles)
        for value in [incarnation, accepted, acknowledged, spoolBytes, lost, ledger, committed, written] {
            writer.integer(value)
        }
        writer.string(lastError)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        keepsFiles = try reader.bool()
        incarnation = try reader.integer()
        accepted = try reader.integer()
        acknowledged = try reader.integer()
        spoolBytes = try reader.integer()
        lost = try reader.integer()
        ledger = try reader.integer()
        committed = try reader.integer()
        written = try reader.integer()
        lastError = try reader.string(max: 4096)
    }
}

/// A global stream. name · attributes · stream u8 · records u64 · openers.
public struct GlobalStreamStatus: Hashable, Sendable, WireCodable {
    public var name: SaName
    public var attributes: StreamAttributes
    public var stream: LogStream
    /// In the ledger of the node that was asked.
    public var records: UInt64
    public var openers: [NodeID]

    public init(
        name: SaName, attributes: StreamAttributes, stream: LogStream, records: UInt64, openers: [NodeID]
    ) {
        (self.name, self.attributes, self.stream) = (name, attributes, stream)
        (self.records, self.openers) = (records, openers)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(name)
        writer.value(attributes)
        writer.value(stream)
        writer.integer(records)
        writer.list(openers)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.value()
        attributes = try reader.value()
        stream = try reader.value()
        records = try reader.integer()
        openers = try reader.list(max: 65_536)
    }
}

/// The global streams as one node sees them. registry · owner (optional) · epoch u64 · inSync · streams · nodes.
public struct GlobalStatus: Hashable, Sendable, WireCodable {
    /// How the registry of streams is: `synchronised`, or why not.
    public var registry: String
    /// Who writes the files.
    public var owner: NodeID?
    public var epoch: UInt64
    /// The controllers that have everything.
    public var inSync: [NodeID]
    public var streams: [GlobalStreamStatus]
    /// This node first, then the others that answered.
    public var nodes: [GlobalNodeStatus]

    public init(
        registry: String, owner: NodeID?, epoch: UInt64, inSync: [NodeID], streams: [GlobalStreamStatus],
        nodes: [GlobalNodeStatus]
    ) {
        (self.registry, self.owner, self.epoch, self.inSync) = (registry, owner, epoch, inSync)
        (self.streams, self.nodes) = (streams, nodes)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.string(registry)
        writer.optional(owner)
        writer.integer(epoch)
        writer.list(inSync)
        writer.list(streams)
        writer.list(nodes)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        registry = try reader.string(max: 4096)
        owner = try reader.optional()
        epoch = try reader.integer()
        inSync = try reader.list(max: 65_536)
        streams = try reader.list(max: 65_536)
        nodes = try reader.list(max: 65_536)
    }
}
