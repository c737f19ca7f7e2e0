/// A component service instance that a process is, or was, active for, and when it was given to it: what is given later
/// has a higher epoch, on all nodes.
///
/// On the wire: assignment u64 · epoch u64.
public struct AssignmentEpoch: Hashable, Sendable {
    /// Which instance: ``key(of:)``.
    public var assignment: UInt64
    /// The number of the callback that made somebody active for it. Such numbers are given out by the replicated state
    /// of all amfds.
    public var epoch: UInt64

    public init(assignment: UInt64, epoch: UInt64) {
        self.assignment = assignment
        self.epoch = epoch
    }

    public init(of instance: SaName, epoch: UInt64) {
        self.init(assignment: Self.key(of: instance), epoch: epoch)
    }

    /// A number that stands for an instance's DN, the same everywhere: FNV-1a.
    public static func key(of instance: SaName) -> UInt64 {
        instance.bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
    }
}

extension AssignmentEpoch: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(assignment)
        writer.integer(epoch)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        assignment = try reader.integer()
        epoch = try reader.integer()
    }
}

/// What amfd says of a node in a cluster: which processes are active here, and who was active last anywhere.
public struct AssignmentTable: Hashable, Sendable {
    /// A process of this node, and one instance that it is active for, or was when it died.
    public struct Holder: Hashable, Sendable {
        public var pid: Int32
        /// Clock ticks since boot.
        public var startTime: UInt64
        public var held: AssignmentEpoch
        public init(pid: Int32, startTime: UInt64, held: AssignmentEpoch) {
            self.pid = pid
            self.startTime = startTime
            self.held = held
        }
    }

    /// The latest epoch of an instance: whoever was given it earlier has lost it.
    public struct Floor: Hashable, Sendable {
        public var instance: SaName
        public var epoch: UInt64
        public init(_ instance: SaName, epoch: UInt64) {
            self.instance = instance
            self.epoch = epoch
        }
    }

    /// Changes with every life of amfd.
    public var incarnation: UInt64
    public var holders: [Holder]
    public var floors: [Floor]

    public init(incarnation: UInt64 = 0, holders: [Holder] = [], floors: [Floor] = []) {
        self.incarnation = incarnation
        self.holders = holders
        self.floors = floors
    }
}
