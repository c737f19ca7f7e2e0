public import SAFTypes

/// What the database of a node keeps of a persistent checkpoint besides its sections: all that a life without the RAM
/// files has to know. Who has it open is not part of it: they are dead by then.
///
/// name · attributes · retention i64 · next serial u64 · active u8 · epoch u64 · change u64 · history.
public struct PersistentHead: Hashable, Sendable {
    public var name: SaName
    public var attributes: CreationAttributes
    public var retention: SaTime
    public var nextSerial: UInt64
    public var hasActiveReplica: Bool
    public var version: ReplicaVersion
    public var history: EpochHistory

    public init(name: SaName, attributes: CreationAttributes, state: Transaction.State) {
        self.name = name
        self.attributes = attributes
        retention = state.retentionDuration
        nextSerial = state.nextSerial
        hasActiveReplica = state.hasActiveReplica
        version = state.replica.version
        history = state.history
    }

    /// Of the checkpoint when it has been read from the database.
    public var state: Transaction.State {
        Transaction.State(
            change: version.change, retentionDuration: retention, nextSerial: nextSerial,
            hasActiveReplica: hasActiveReplica, epoch: version.epoch, history: history)
    }
}

extension PersistentHead: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(name)
        writer.value(attributes)
        writer.integer(retention)
        writer.integer(nextSerial)
        writer.bool(hasActiveReplica)
        writer.value(version)
        writer.value(history)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.value()
        attributes = try reader.value()
        retention = try reader.integer()
        nextSerial = try reader.integer()
        hasActiveReplica = try reader.bool()
        version = try reader.value()
        history = try reader.value()
    }
}
