import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptClient

/// A server with a bounded log, a lossy way to the client, and the client's tracker.
@Suite("Subscription")
struct SubscriptionTests {
    @Test("Whatever is lost, repeated or restarted: no gap, no repeat, and an end", arguments: 0..<300 as Range<UInt64>)
    func gapless(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var tracker = SubscriptionTracker<UInt64>()
        let total: UInt64 = 200
        let logLength = UInt64.random(in: 1...20, using: &random)
        var change: UInt64 = 0
        var delivered: [UInt64] = []
        var snapshots = 0
        var cursor: UInt64?  // what the server has sent of; nil: no subscription
        var wire: [UInt64] = []
        var start: (isSnapshot: Bool, change: UInt64)?
        var wantsSubscription = true

        func take(_ updates: [UInt64]?) {
            guard let updates else { return wantsSubscription = true }
            delivered += updates
            if tracker.state != .live { wantsSubscription = true }
        }
        var steps = 0
        while (delivered.last ?? 0) < total, steps < 100_000 {
            steps += 1
            // After the faults the wire is kept alive, so that the end must come.
            let hasFaults = change < total
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1: if change < total { change += 1 }
            case 2 where wantsSubscription && start == nil:
                let after = tracker.begin()
                wantsSubscription = false
                if let after, change - after <= logLength { start = (false, after) } else { start = (true, change) }
                cursor = start?.change
            case 3, 4:
                if let sent = cursor, sent < change {
                    cursor = sent + 1
                    if hasFaults, random.chance(percent: 4) { continue }  // dropped
                    wire.append(sent + 1)
                    if random.chance(percent: 5) { wire.append(sent + 1) }  // repeated
                }
            case 5 where !wire.isEmpty:
                let next = wire.removeFirst()
                switch tracker.arrived(next, next) {
                case .deliver: delivered.append(next)
                case .ignore: break
                case .subscribeAgain: wantsSubscription = true
                }
            case 6:
                guard let begun = start else { continue }
                start = nil
                if begun.isSnapshot {
                    snapshots += 1
                    // A snapshot stands for everything up to its change.
                    delivered = delivered.filter { $0 < begun.change } + (begun.change > 0 ? [begun.change] : [])
                    take(tracker.started(snapshot: begun.change))
                } else {
                    take(tracker.started(after: begun.change))
                }
            case 7 where hasFaults && random.chance(percent: 8):
                // Connection lost: what was under way is gone, or arrives late.
                cursor = nil
                start = nil
                if random.chance(percent: 50) { wire = [] }
                wantsSubscription = true
            default:
                if !hasFaults, cursor == change, wire.isEmpty, start == nil, (delivered.last ?? 0) < total {
                    wantsSubscription = true
                }
            }
            for (left, right) in zip(delivered, delivered.dropFirst()) where right <= left {
                Issue.record("seed \(seed): \(right) after \(left)")
            }
        }
        #expect(delivered.last == total, "seed \(seed): it ends")
        let gaps = zip(delivered, delivered.dropFirst()).count { $1 != $0 + 1 }
        #expect(gaps <= snapshots, "seed \(seed): only a snapshot may stand for several updates")
    }

    @Test("A standby's copy follows every kind of change")
    func applying() {
        var copy: [SectionID: [UInt8]] = ["old": [1]]
        let descriptor = SectionDescriptor(id: "a", expiration: 0, size: 1, state: .valid, lastUpdate: 0, serial: 1)
        CheckpointEvent.snapshot(change: 4, [SectionContent(descriptor: descriptor, data: [7])]).apply(to: &copy)
        #expect(copy == ["a": [7]])
        CheckpointEvent.update(
            change: 5, time: 0,
            [
                .written("a", offset: 3, data: [9]), .created("b", data: [1, 2], expiration: .saTimeEnd),
                .overwritten("b", data: [3]),
                .created("c", data: [], expiration: 5), .expirationSet("b", 9), .expired("c"),
            ]
        ).apply(to: &copy)
        #expect(copy == ["a": [7, 0, 0, 9], "b": [3]])
    }
}
