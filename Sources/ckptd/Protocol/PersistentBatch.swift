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
    /// A checkpoint that is no more, with what the database has of it.
    public struct Removal: Hashable, Sendable {
        public var checkpoint: CheckpointID
        /// Of the sections, by slot.
        public var sizes: [Int?]
        /// Slots of writers, ascending.
        public var writers: [Int]

        public init(checkpoint: CheckpointID, sizes: [Int?], writers: [Int]) {
            self.checkpoint = checkpoint
            self.sizes = sizes
            self.writers = writers
        }
    }

    /// Who of another node has written, and what was executed for it; nil: nobody of another node. A writer of this
    /// node is dead when the database is read; one of another may send its last request again.
    public struct Writer: Hashable, Sendable {
        public var slot: Int
        public var opener: RestoredCheckpoint.Opener?

        public init(slot: Int, opener: RestoredCheckpoint.Opener?) {
            self.slot = slot
            self.opener = opener
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
        public var writers: [Writer]

        public init(checkpoint: CheckpointID, head: PersistentHead, slots: [Slot], writers: [Writer] = []) {
            self.checkpoint = checkpoint
            self.head = head
            self.slots = slots
            self.writers = writers
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
    /// Writers of other nodes, by slot, ascending.
    public var writers: [RestoredCheckpoint.Opener]

    public init(
        checkpoint: CheckpointID, head: PersistentHead, sections: [RestoredCheckpoint.Section],
        writers: [RestoredCheckpoint.Opener] = []
    ) {
        self.checkpoint = checkpoint
        self.head = head
        self.sections = sections
        self.writers = writers
    }
}
