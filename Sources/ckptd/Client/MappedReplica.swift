import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes
import Synchronization

/// This node's replica of an open checkpoint, mapped read-only, and read without asking ckptd. Thread-safe.
final class MappedReplica: @unchecked Sendable {  // the reader is locked, all else does not change
    enum Outcome<Value> {
        case done(Value)
        /// Only ckptd can tell.
        case ask
        /// There is more to be mapped than was there.
        case grown
        /// There may be another file to be mapped.
        case replaced
        /// It is in the direct file.
        case direct(DirectPlace)
    }

    /// How often a section that is being changed is tried again before it is asked for.
    private static let attemptsMax = 16

    private let mapping: Mapping
    let lease: Mapping
    let file: ReplicaFile
    /// Sections that their writers write themselves: nil as long as there is nothing to be mapped, or not for us.
    let direct: Mapping?
    /// Which life of the direct file ckptd had when it gave us that.
    let directGeneration: UInt64
    /// Who this process is in their locks; 0: it may not write them.
    let owner: UInt32
    private let lock = Lock(())
    /// The sleep of ckptd that this process has ended last, as ``DirectSection/call`` says.
    let called = Atomic<UInt64>(0)
    /// Guarded by `lock`. In a place of its own: the accesses of a class's property are checked, each time.
    private let reader: UnsafeMutablePointer<ReplicaReader>
    /// The membership of this node in the cluster that it is good for; nil: any.
    private let membership: UInt64?
    /// The connection it came over: another one may lead to another ckptd, with other files.
    let connection: UInt64

    var bytes: Int { mapping.count }

    /// - Returns: nil when it is no replica's file of this version.
    ///
    /// - Parameter isStrict: it is not read any more when the node has left the cluster.
    init?(
        _ mapping: Mapping, lease: Mapping, direct: Mapping?, _ answer: MapReply, connection: UInt64, isStrict: Bool
    ) {
        guard let file = ReplicaFile(UnsafeRawBufferPointer(mapping.bytes)) else { return nil }
        self.mapping = mapping
        self.lease = lease
        self.file = file
        self.direct = direct
        directGeneration = answer.directGeneration
        owner = answer.owner
        self.connection = connection
        membership = isStrict ? LeasePage.membership(UnsafeRawPointer(lease.base)) : nil
        reader = .allocate(capacity: 1)
        reader.initialize(to: ReplicaReader(file))
    }

    deinit {
        reader.deinitialize(count: 1)
        reader.deallocate()
    }

    /// Whether it may be read and written now.
    @inline(__always)
    var isReadable: Bool { LeasePage.isReadable(UnsafeRawPointer(lease.base)) && !isOfOldMembership }

    /// ckptd has to be asked whether there is another one for us.
    @inline(__always)
    var isOfOldMembership: Bool {
        guard let membership else { return false }
        let present = LeasePage.membership(UnsafeRawPointer(lease.base))
        return membership != present || present == 0
    }

    /// Hands a section's bytes to `body`, again and again until what it made of them is of one state.
    ///
    /// - Parameter body: must not trust the bytes, another process may be changing them; nil: it does not want them.
    func read<Value>(
        _ id: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Value?
    ) -> Outcome<Value> {
        guard isReadable else { return isOfOldMembership ? .replaced : .ask }
        for _ in 0..<Self.attemptsMax {
            switch find(id) {
            case .section(let section):
                guard let value = body(file.bytes(section)) else { return .ask }
                if file.holds(section) { return .done(value) }
            case .busy: continue
            case .ask: return .ask
            case .grown: return .grown
            case .retired: return .replaced
            case .direct(let place): return .direct(place)
            }
        }
        return .ask
    }

    /// As ``read(_:_:)``, of several sections after one and the same change, which is returned.
    ///
    /// - Parameter take: copies one after the other; as `body` there. False: it cannot.
    func read(_ ranges: [ReadRange], _ take: (Int, UnsafeRawBufferPointer) -> Bool) -> Outcome<UInt64> {
        guard isReadable else { return isOfOldMembership ? .replaced : .ask }
        for _ in 0..<Self.attemptsMax {
            guard let step = file.step else { continue }
            let change = file.change(after: step)
            var sections: [SectionSnapshot] = []
            sections.reserveCapacity(ranges.count)
            var isBusy = false
            for range in ranges where !isBusy {
                switch find(range) {
                case .section(let section): sections.append(section)
                case .busy: isBusy = true
                // Only ckptd can stop those that write it meanwhile.
                case .ask, .direct: return .ask
                case .grown: return .grown
                case .retired: return .replaced
                }
            }
            if isBusy { continue }
            for index in ranges.indices {
                let bytes = file.bytes(sections[index])
                guard let place = part(of: bytes.count, ranges[index].offset, ranges[index].count),
                    take(index, UnsafeRawBufferPointer(rebasing: bytes[place]))
                else { return .ask }
            }
            if file.holds(step: step, sections) { return .done(change) }
        }
        return .ask
    }

    /// What is read of a section; nil when the service has something to say about it.
    func part(of size: Int, _ offset: UInt64, _ count: UInt64) -> Range<Int>? {
        guard let offset = Int(exactly: offset), offset <= size else { return nil }
        guard count <= file.sectionSizeMax || count > UInt64(Int.max - 1) else { return nil }
        return offset..<(offset + min(size - offset, Int(clamping: count)))
    }

    @inline(never)
    private func find(_ range: ReadRange) -> ReplicaReader.Found { range.id.bytes.withUnsafeBytes { find($0) } }

    @inline(__always)
    func find(_ id: UnsafeRawBufferPointer) -> ReplicaReader.Found {
        lock.withLock { _ in reader.pointee.find(id) { MonotonicClock.wallNanoseconds() } }
    }
}

/// The mapped replica of one open checkpoint, or when to ask for one.
struct ReplicaSlot {
    var replica: MappedReplica?
    /// Somebody is asking for it.
    var isAsking = false
    /// What is asked for must be so long.
    var bytesMin = 0
    var isClosed = false
    /// ckptd had none to give; not asked again before.
    var restsUntil: UInt64 = 0
}
