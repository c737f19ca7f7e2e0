import CkptLayout
import CkptProtocol

/// The checkpoints that have files here. Only so many of the files are open and mapped at a time, for a process may
/// have only so many mappings: those that were not used lately are *parked*, and opened again when they are needed.
final class EntryTable<Entry: ParkableEntry> {
    private struct Parked {
        var service: ServiceWord
        var bytes: Int
    }

    private let awakeMax: Int
    private let reopen: (CheckpointID) -> Entry?
    private var awake: [CheckpointID: Entry] = [:]
    private var parked: [CheckpointID: Parked] = [:]
    /// Who may be parked next, in rounds: who was used since the last one is passed over.
    private var round: [CheckpointID] = []
    private var hand = 0
    /// Whoever asked last may still be working with it.
    private var last: CheckpointID?

    init(awakeMax: Int, reopen: @escaping (CheckpointID) -> Entry?) {
        self.awakeMax = awakeMax
        self.reopen = reopen
    }

    /// Another one may be parked by this; what came of the last asking but one is not to be kept.
    subscript(id: CheckpointID) -> Entry? {
        get {
            last = id
            if let entry = awake[id] {
                entry.isUsed = true
                return entry
            }
            guard parked[id] != nil, let entry = reopen(id) else { return nil }
            parked[id] = nil
            insert(id, entry)
            return entry
        }
        set {
            if let newValue { insert(id, newValue) } else { removeValue(forKey: id) }
        }
    }

    @discardableResult
    func removeValue(forKey id: CheckpointID) -> Entry? {
        let entry = self[id]
        awake[id] = nil
        parked[id] = nil
        return entry
    }

    /// Without opening it.
    func service(_ id: CheckpointID) -> ServiceWord? { parked[id]?.service ?? awake[id]?.service }

    /// Without opening it.
    func fileBytes(_ id: CheckpointID) -> Int { parked[id]?.bytes ?? awake[id]?.fileBytes ?? 0 }

    var counts: (awake: Int, parked: Int) { (awake.count, parked.count) }

    private func insert(_ id: CheckpointID, _ entry: Entry) {
        if awake.updateValue(entry, forKey: id) == nil { round.append(id) }
        entry.isUsed = true
        last = id
        if awake.count > awakeMax { parkOne() }
    }

    private func parkOne() {
        var looks = 0
        while looks < 2 * round.count {
            if hand >= round.count { hand = 0 }
            let id = round[hand]
            guard let entry = awake[id] else {
                round.swapAt(hand, round.count - 1)
                round.removeLast()
                continue
            }
            if !entry.isUsed, entry.isParkable, id != last {
                parked[id] = Parked(service: entry.service, bytes: entry.fileBytes)
                awake[id] = nil
                round.swapAt(hand, round.count - 1)
                round.removeLast()
                return
            }
            entry.isUsed = false
            hand += 1
            looks += 1
        }
    }
}

/// What can be closed and opened again without anybody noticing.
protocol ParkableEntry: AnyObject {
    var isUsed: Bool { get set }
    /// There is nothing about it that is not in its file.
    var isParkable: Bool { get }
    var service: ServiceWord { get }
    var fileBytes: Int { get }
}
