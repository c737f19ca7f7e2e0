/// Bounds of what one node's checkpoint service takes on; reached, they are an error of the caller's request.
public struct CkptLimits: Hashable, Sendable {
    /// Checkpoints on this node. Beyond: NO_RESOURCES.
    public var checkpointsMax = 100_000
    /// Opens of one checkpoint. Beyond: NO_RESOURCES.
    public var openersMax = 4_096
    /// Opens of one process. Beyond: NO_RESOURCES.
    public var opensPerSessionMax = 131_072
    /// Sections of one checkpoint, whatever its attributes say. Beyond: NO_SPACE.
    public var sectionsMax = 1 << 20
    /// Bytes of data of one checkpoint, whatever its attributes say. Beyond: NO_SPACE.
    public var checkpointBytesMax: UInt64 = 1 << 36
    /// Sections of one checkpoint that their writers write themselves at a time, and bytes of one: larger ones, and
    /// more, are written through ckptd.
    public var directSectionsMax = 1_024
    public var directBytesMax = 64 << 20
    /// The same, while others are told what is written: of one section, and of all of a checkpoint together.
    public var toldBytesMax = 256 << 10
    public var toldSumMax = 1 << 20
    /// Between two looks at what is written directly, while it is; and when it could not be kept.
    public var tellingPause = Duration.milliseconds(1)
    public var tellingRetry = Duration.seconds(1)
    /// How long the opens of a process that lives are kept while it is not connected: ckptd has restarted, or the
    /// connection broke. Then they are closed.
    public var absenceMax = Duration.seconds(30)
    /// How long an unlink is remembered after the checkpoint is gone, to answer a retransmission.
    public var unlinkMemory = Duration.seconds(60)
    /// How long a writer of another node is remembered that the directory is not known to have.
    public var writerMemory = Duration.seconds(60)
    /// How long an answer waits for a disk that refuses to make it durable.
    public var durableMax = Duration.seconds(25)
    /// After so long it is tried again.
    public var durableRetry = Duration.seconds(1)
    /// The longest sleep until a section's expiration time is compared with the clock again (the clock may be set).
    public var clockCheck = Duration.seconds(3_600)

    public init() {}

    /// So small that tests reach every one of them.
    public static let tiny: CkptLimits = {
        var limits = CkptLimits()
        limits.checkpointsMax = 3
        limits.openersMax = 4
        limits.opensPerSessionMax = 3
        limits.sectionsMax = 6
        limits.checkpointBytesMax = 4_096
        return limits
    }()
}
