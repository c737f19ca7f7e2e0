@testable import ClmClient
import ClmProtocol
import EngineKit
import SAFTypes
import Testing

@Suite("What a topology subscriber is told")
struct TopologyFollowerTests {
    private let first = bound(1)
    private let second = bound(2)

    @Test("A new connection to the same names is not told")
    func quietRestart() {
        var follower = TopologyFollower()
        #expect(follower.heard(.published(first)) == [.published(first)])
        #expect(follower.heard(.settled) == [])
        follower.restart()
        #expect(follower.heard(.published(first)) == [])
        #expect(follower.heard(.settled) == [])
        #expect(follower.heard(.withdrawn(first)) == [.withdrawn(first)])
    }

    @Test("What did not come back until clmd settled is withdrawn")
    func goneMeanwhile() {
        var follower = TopologyFollower()
        _ = follower.heard(.published(first))
        _ = follower.heard(.published(second))
        follower.restart()
        #expect(follower.heard(.published(second)) == [])
        #expect(follower.heard(.settled) == [.withdrawn(first)])
        #expect(follower.heard(.withdrawn(first)) == [])
    }

    @Test("Notices for an earlier number on the wire are left out")
    func staleNotices() {
        var subscriptions = TopologySubscriptions<Int>()
        let number = subscriptions.add(ServiceRange(allOf: 100), 42)
        let old = subscriptions.renew(number)!
        let new = subscriptions.renewAll()[0]
        #expect(old.subscription != new.subscription)
        guard
            case .nothing = subscriptions.heard(
                TopologyNotice(subscription: old.subscription, change: .published(first)))
        else { return #expect(Bool(false)) }
        guard
            case .events([.published(first)], 42) = subscriptions.heard(
                TopologyNotice(subscription: new.subscription, change: .published(first)))
        else { return #expect(Bool(false)) }
        guard
            case .lost(number, new.subscription) = subscriptions.heard(
                TopologyNotice(subscription: new.subscription, change: .lost))
        else { return #expect(Bool(false)) }
        #expect(subscriptions.remove(number) == new.subscription)
        #expect(subscriptions.isEmpty)
    }

    @Test(
        "Over any story of restarts each binding is published and withdrawn in turn", arguments: 0..<50 as Range<UInt64>
    )
    func alternating(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var follower = TopologyFollower()
        var told: Set<NameBinding> = []
        var there: Set<NameBinding> = []
        func note(_ events: [TopologyEvent]) {
            for event in events {
                switch event {
                case .published(let binding): #expect(told.insert(binding).inserted, "seed \(seed)")
                case .withdrawn(let binding): #expect(told.remove(binding) != nil, "seed \(seed)")
                }
            }
        }
        for _ in 0..<200 {
            let binding = bound(.random(in: 0...5, using: &random))
            switch Int.random(in: 0..<6, using: &random) {
            case 0...2:
                there.insert(binding)
                note(follower.heard(.published(binding)))
            case 3, 4:
                there.remove(binding)
                note(follower.heard(.withdrawn(binding)))
            default:
                for other in there.sorted() where random.chance(percent: 30) { there.remove(other) }
                follower.restart()
                for other in there.sorted() { note(follower.heard(.published(other))) }
                note(follower.heard(.settled))
                #expect(told == there, "seed \(seed)")
            }
        }
    }
}
