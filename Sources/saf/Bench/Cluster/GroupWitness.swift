import EOLoop
import EngineKit
import IOCCluster
import IOCCorosync
import IOCGroups
import OSAL

/// The witness on a node: writes down each view of corosync's, `view NODE TIME MEMBER…`.
func runViewWitness(_ path: String) -> Never {
    runWitness("bench", path) { witness, event, file throws(OSError) in
        guard case .view(let view) = event else { return }
        let values = [UInt64(witness.member.node.rawValue), MonotonicClock.now().nanoseconds]
        try Record.append("view", values + view.nodes.map { UInt64($0.rawValue) }, to: file)
    }
}

/// What corosync itself needs for one message to another node: the oldest of two witnesses sends the time now and then,
/// the other writes down how long it took, `multicast NANOSECONDS`.
enum MulticastWitness {
    static let count = 20
    /// As long as before each death.
    fileprivate static let rest = Duration.milliseconds(200)
}

func runMulticastWitness(_ path: String) -> Never {
    runWitness("bench-multicast", path) { witness, event, file throws(OSError) in
        switch event {
        case .view(let view):
            if view.members.count > 1, view.members.first == witness.member {
                witness.sendTimes(MulticastWitness.count)
            }
        case .message(let sender, let bytes) where sender != witness.member:
            let now = MonotonicClock.now().nanoseconds
            let sent = bytes.reduce(0) { $0 << 8 | UInt64($1) }
            try Record.append("multicast", [now - sent], to: file)
        case .message, .lost: break
        }
    }
}

private func runWitness(
    _ group: String, _ path: String, _ note: @escaping (GroupWitness, GroupEvent, Int32) throws(OSError) -> Void
) -> Never {
    do {
        let loop = try Loop(name: "witness")
        let witness = GroupWitness(loop, try .load(.fromEnvironment()), group, try Record(path: path).open(), note)
        witness.begin()
        loop.run()
        Environment.exit(0)
    } catch {
        StandardError.write("saf bench: \(error)\n")
        Environment.exit(1)
    }
}

/// A member of a group that looks on.
private final class GroupWitness {
    private let loop: Loop
    private let name: String
    private var group: NodeGroup
    private let file: Descriptor
    private let note: (GroupWitness, GroupEvent, Int32) throws(OSError) -> Void
    private var watches: [(descriptor: Int32, id: WatchID)] = []

    init(
        _ loop: Loop, _ description: ClusterDescription, _ name: String, _ file: consuming Descriptor,
        _ note: @escaping (GroupWitness, GroupEvent, Int32) throws(OSError) -> Void
    ) {
        (self.loop, self.name, self.note) = (loop, name, note)
        self.file = file
        group = NodeGroup.make(description, incarnation: MonotonicClock.now().nanoseconds)
    }

    var member: GroupMember { group.member }

    /// Joins, again and again until corosync is there.
    func begin() {
        do throws(GroupError) { try group.join(name) } catch { return beginAgain() }
        turn()
    }

    func sendTimes(_ count: Int) {
        guard count > 0 else { return }
        _ = loop.schedule(after: MulticastWitness.rest) { [unowned self] in
            let now = MonotonicClock.now().nanoseconds
            // What the group does not take now is taken later; nobody else sends anything here.
            let isSent = group.multicast((0..<8).map { UInt8(truncatingIfNeeded: now >> (56 - 8 * $0)) }) == .sent
            sendTimes(isSent ? count - 1 : count)
        }
    }

    private func beginAgain() {
        unwatch()
        group.leave()
        _ = loop.schedule(after: .milliseconds(50)) { [unowned self] in begin() }
    }

    private func unwatch() {
        for watch in watches { loop.unwatch(watch.id) }
        watches = []
    }

    private func turn() {
        while let event = group.next() {
            if case .lost = event { return beginAgain() }
            do throws(OSError) { try note(self, event, file.raw) } catch { Environment.exit(1) }
        }
        let wanted = group.descriptors
        guard wanted != watches.map(\.descriptor) else { return }
        unwatch()
        watches = wanted.compactMap { descriptor in
            // One that cannot be watched is noticed as a view that does not come.
            (try? loop.watch(descriptor, .read) { [unowned self] _ in turn() }).map { (descriptor, $0) }
        }
    }
}
