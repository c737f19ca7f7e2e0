import SAFTypes

/// What ckptd found a section to be that its writers write themselves.
public struct DirectSight: Hashable, Sendable {
    public var slot: Int
    public var size: Int
    public var lastUpdate: SaTime
    /// Number of its last update.
    public var change: UInt64
    /// It cannot be written any more: what it is here is what it is.
    public var isRecalled: Bool
    /// It is not what was written.
    public var isCorrupted: Bool
    /// Of one that is recalled, or of what others are to be told: in the body at hand.
    public var data: PayloadSlice

    // Of sections whose writes others are told.

    /// It was written since the last look that was kept. `data` is what is not as it was, at `offset`.
    public var isWritten = false
    public var offset = 0
    /// `data` is all there is.
    public var isWhole = false
    /// How often it was written since that look.
    public var writes: UInt64 = 0

    public init(
        slot: Int, size: Int = 0, lastUpdate: SaTime = 0, change: UInt64 = 0, isRecalled: Bool = false,
        isCorrupted: Bool = false, data: PayloadSlice = .empty
    ) {
        self.slot = slot
        self.size = size
        self.lastUpdate = lastUpdate
        self.change = change
        self.isRecalled = isRecalled
        self.isCorrupted = isCorrupted
        self.data = data
    }

    /// The step that brings it back.
    public func step(id: SectionID, serial: UInt64) -> Transaction.Step {
        Transaction.Step(
            SectionOperation(kind: .overwrite, id: id, data: data), slot: slot, serial: serial,
            copied: .init(lastUpdate: lastUpdate, size: data.count, isCorrupted: isCorrupted))
    }

    /// The step that others are told.
    public func toldStep(id: SectionID, serial: UInt64) -> Transaction.Step {
        Transaction.Step(
            SectionOperation(
                kind: isWhole ? .overwrite : .write, id: id, offset: isWhole ? 0 : UInt64(offset), data: data),
            slot: slot, serial: serial)
    }
}
