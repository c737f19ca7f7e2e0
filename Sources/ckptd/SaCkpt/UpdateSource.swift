import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

/// Tells a program the updates of one open checkpoint: with their data (safCkptUpdatesStart), or where there was a
/// change (saCkptTrack, saCkptCheckpointTrack), or both.
final class UpdateSource: Source, @unchecked Sendable {
    // Who wants them; guarded by the lock of the open checkpoint.
    var follower: (callback: SafCkptUpdatesCallbackT, cookie: UnsafeMutableRawPointer?)?
    var isTracked = false
    var isTrackedAsAll = false
    var isWanted: Bool { follower != nil || isTracked || isTrackedAsAll }

    private let following = Lock<Following?>(nil)

    private struct Following {
        let follower: Follower
        /// The first snapshot is no change.
        var hasBegun = false
    }

    /// - Parameter again: from a snapshot on, also if it has begun before.
    func start(again: Bool) {
        let old = following.withLock { following -> Follower? in
            if following != nil, !again { return nil }
            let fresh = open.checkpoint.follow { [self] in ready() }
            defer { following = Following(follower: fresh) }
            return following?.follower
        }
        old?.finish()
    }

    func stop() {
        let old = following.withLock { following in
            defer { following = nil }
            return following?.follower
        }
        old?.finish()
    }

    override func tellOne() -> Bool {
        guard let follower = following.withLock({ $0?.follower }) else { return false }
        let event = follower.take()
        let isEnd = event == nil && follower.isFinished
        let isFirst = following.withLock { following -> Bool? in
            guard following?.follower === follower else { return nil }  // stopped, or begun again, meanwhile
            if isEnd { following = nil }
            defer { following?.hasBegun = true }
            return following?.hasBegun == false
        }
        guard let isFirst else { return true }
        let wanted = open.wanted(self)
        if let event {
            if let follower = wanted.follower { tell(event, follower.callback, follower.cookie) }
            if wanted.tracks { track(event, isFirst) }
        } else if isEnd, let follower = wanted.follower {
            var end = SafCkptEventT()
            end.kind = SAF_CKPT_UPDATES_END
            follower.callback(open.handle, &end, follower.cookie)
        }
        return event != nil
    }

    private func tell(
        _ event: CheckpointEvent, _ callback: SafCkptUpdatesCallbackT, _ cookie: UnsafeMutableRawPointer?
    ) {
        var told = SafCkptEventT()
        told.changeNumber = event.change
        var changes = ForeignChanges()
        switch event {
        case .snapshot(_, let sections):
            told.kind = SAF_CKPT_SNAPSHOT
            told.time = .saTimeUnknown
            for section in sections {
                changes.add(
                    SAF_CKPT_SECTION_CREATED, section.id, section.data, expiration: section.descriptor.expiration)
            }
        case .update(_, let time, let all):
            told.kind = SAF_CKPT_UPDATE
            told.time = time
            for change in all { changes.add(change) }
        }
        changes.withChanges { pointer, count in
            told.changes = pointer
            told.numberOfChanges = count
            callback(open.handle, &told, cookie)
        }
    }

    private func track(_ event: CheckpointEvent, _ isFirst: Bool) {
        guard let callback = open.client.callbacks.track else { return }
        var changes = ForeignChanges()
        switch event {
        case .snapshot(_, let sections):
            if isFirst { return }
            for section in sections { changes.add(SAF_CKPT_SECTION_OVERWRITTEN, section.id, section.data) }
        case .update(_, _, let all):
            for change in all { changes.add(change) }
        }
        changes.withElements { elements, count in callback(open.handle, elements, count) }
    }
}

/// Changes of sections as C sees them; their bytes lie one behind the other in one piece of memory.
struct ForeignChanges {
    private var bytes: [UInt8] = []
    /// Their pointers are set when all bytes are there.
    private var changes: [SafCkptChangeT] = []

    @inline(never)
    mutating func add(
        _ kind: SafCkptChangeKindT, _ id: SectionID, _ data: [UInt8] = [], offset: Int = 0, expiration: SaTime = 0
    ) {
        bytes += id.bytes
        bytes += data
        var change = SafCkptChangeT()
        change.kind = kind
        change.sectionId.idLen = UInt16(truncatingIfNeeded: id.bytes.count)
        change.dataSize = UInt64(data.count)
        change.dataOffset = UInt64(clamping: offset)
        change.expirationTime = expiration
        changes.append(change)
    }

    mutating func add(_ change: SectionChange) {
        switch change {
        case .created(let id, let data, let time): add(SAF_CKPT_SECTION_CREATED, id, data, expiration: time)
        case .written(let id, let offset, let data): add(SAF_CKPT_SECTION_WRITTEN, id, data, offset: offset)
        case .overwritten(let id, let data): add(SAF_CKPT_SECTION_OVERWRITTEN, id, data)
        case .deleted(let id): add(SAF_CKPT_SECTION_DELETED, id)
        case .expirationSet(let id, let time): add(SAF_CKPT_SECTION_EXPIRATION_SET, id, expiration: time)
        case .expired(let id): add(SAF_CKPT_SECTION_EXPIRED, id)
        }
    }

    /// The pointers are valid during the call only.
    mutating func withChanges(_ use: (UnsafePointer<SafCkptChangeT>?, UInt32) -> Void) {
        bytes.withUnsafeMutableBytes { raw in
            var place = 0
            for index in changes.indices {
                let (id, data) = (Int(changes[index].sectionId.idLen), Int(changes[index].dataSize))
                changes[index].sectionId.id = Self.part(raw, place, id)?.assumingMemoryBound(to: UInt8.self)
                changes[index].data = UnsafeRawPointer(Self.part(raw, place + id, data))
                place += id + data
            }
            changes.withUnsafeBufferPointer { use($0.isEmpty ? nil : $0.baseAddress, UInt32($0.count)) }
        }
    }

    /// Without data: where the changes are.
    mutating func withElements(_ use: (UnsafeMutablePointer<SaCkptIOVectorElementT>?, UInt32) -> Void) {
        withChanges { changes, count in
            var elements: [SaCkptIOVectorElementT] = []
            for change in UnsafeBufferPointer(start: changes, count: Int(count))
            where change.kind != SAF_CKPT_SECTION_EXPIRATION_SET {
                var element = SaCkptIOVectorElementT()
                element.sectionId = change.sectionId
                element.dataSize = change.dataSize
                element.dataOffset = change.dataOffset
                elements.append(element)
            }
            elements.withUnsafeMutableBufferPointer { if !$0.isEmpty { use($0.baseAddress, UInt32($0.count)) } }
        }
    }

    private static func part(
        _ raw: UnsafeMutableRawBufferPointer, _ place: Int, _ count: Int
    ) -> UnsafeMutableRawPointer? { count == 0 ? nil : raw.baseAddress.map { $0 + place } }
}
