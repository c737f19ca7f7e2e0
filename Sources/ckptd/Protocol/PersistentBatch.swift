/// How the data of a persistent checkpoint lies in the database: an update of a few bytes writes the blocks that it
/// touches, not the section.
public enum PersistentLayout {
    /// Data of a section is kept in blocks of so many bytes; the last one is as short as the data.
    public static let blockBytes = 16 << 10
    /// Up to so many bytes of data lie in the section's own record, and there are no blocks.
    public static let inlineBytesMax = 2 << 10

    /// Blocks of a section of that size.
    public static func blocks(_ size: Int) -> Int {
        size <= inlineBytesMax ? 0 : (size + blockBytes - 1) / blockBytes
    }
}

/// What the engine wants written to the database, wholly or not at all: a transaction of many updates (group commit).
public struct PersistentBatch: Hashable, Sendable {
    /// A checkpoint that is no more, with the sizes of the sections that the database has, by slot.
    public struct Removal: Hashable, Sendable {
        public var checkpoint: CheckpointID
        public var sizes: [Int?]

        public init(checkpoint: CheckpointID, sizes: [Int?]) {
            self.checkpoint = checkpoint
            self.sizes = sizes
        }
    }

    /// What is in a slot now.
    public struct Slot: Hashable, Sendable {
        public var slot: Int
        /// Nil: nothing.
        public var section: SectionDescriptor?
        /// To be written, ascending.
        public var blocks: [Range<Int>]
        /// The database has these and shall not.
        public var stale: Range<Int>

        public init(slot: Int, section: SectionDescriptor?, blocks: [Range<Int>], stale: Range<Int>) {
            self.slot = slot
            self.section = section
            self.blocks = blocks
            self.stale = stale
        }
    }

    public struct Save: Hashable, Sendable {
        public var checkpoint: CheckpointID
        public var head: PersistentHead
        public var slots: [Slot]

        public init(checkpoint: CheckpointID, head: PersistentHead, slots: [Slot]) {
            self.checkpoint = checkpoint
            self.head = head
            self.slots = slots
        }
    }

    /// Before the saves.
    public var removals: [Removal]
    public var saves: [Save]
    /// Which directory of the cluster they belong to, if that has changed.
    public var lineage: UInt64?

    public init(removals: [Removal] = [], saves: [Save] = [], lineage: UInt64? = nil) {
        self.removals = removals
        self.saves = saves
        self.lineage = lineage
    }
}

/// What the database has of a checkpoint, as read at the start.
public struct StoredCheckpoint: Hashable, Sendable {
    public var checkpoint: CheckpointID
    public var head: PersistentHead
    /// By slot, ascending.
    public var sections: [RestoredCheckpoint.Section]

    public init(checkpoint: CheckpointID, head: PersistentHead, sections: [RestoredCheckpoint.Section]) {
        self.checkpoint = checkpoint
        self.head = head
        self.sections = sections
    }
}
