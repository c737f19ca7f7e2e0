import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

@Suite("When a node is given up")
struct NodeWatchTests {
    private static let (one, two, three) = (NodeID(1), NodeID(2), NodeID(3))
    private let start = Instant(nanoseconds: 1_000_000_000)

    private func watch(fenced: [NodeID] = []) -> NodeWatch {
        NodeWatch(NodeWatchConfiguration(leaseSpan: .milliseconds(1_200), fenced: fenced))
    }

    private func sight(
        amfds: [NodeID], ring: [NodeID], hasStopped: Bool = false, isMajority: Bool = true, isInCharge: Bool = true
    ) -> NodeWatch.Event {
        let members = [Self.one, Self.two, Self.three].map {
            ClusterMember(node: $0, incarnation: UInt64($0.rawValue), hasStopped: hasStopped && $0 == Self.three)
        }
        return .seen(
            NodeWatch.Sight(
                amfds: amfds, ring: ring, members: members, isMajority: isMajority, isInCharge: isInCharge))
    }

    @Test("A node that is gone: when its lease is over, told or by the time")
    func nodeGone() {
        var watch = watch()
        let seen = sight(amfds: [Self.one, Self.two], ring: [Self.one, Self.two])
        #expect(
            watch.handle(seen, at: start) == [
                .missed(Self.three, isConnected: false), .startTimer(at: start + .milliseconds(1_200)),
            ])
        let told = watch.handle(.released(Self.three), at: start + .milliseconds(1))
        #expect(told.first == .giveUp(Self.three, incarnation: 3))
        var other = self.watch()
        _ = other.handle(seen, at: start)
        #expect(
            other.handle(seen, at: start + .milliseconds(1_199)).first == .startTimer(at: start + .milliseconds(1_200)))
        #expect(other.handle(seen, at: start + .milliseconds(1_200)).first == .giveUp(Self.three, incarnation: 3))
    }

    @Test("An amfd that is gone from a node that is there has the grace to come back")
    func amfdGone() {
        var watch = watch()
        let gone = sight(amfds: [Self.one, Self.two], ring: [Self.one, Self.two, Self.three])
        let back = sight(
            amfds: [Self.one, Self.two, Self.three], ring: [Self.one, Self.two, Self.three])
        #expect(
            watch.handle(gone, at: start) == [
                .missed(Self.three, isConnected: true), .startTimer(at: start + .seconds(10)),
            ])
        #expect(watch.handle(back, at: start + .seconds(9)) == [])
        _ = watch.handle(gone, at: start + .seconds(11))
        #expect(watch.handle(gone, at: start + .seconds(20)).contains(.startTimer(at: start + .seconds(21))))
        #expect(watch.handle(gone, at: start + .seconds(21)).first == .giveUp(Self.three, incarnation: 3))
    }

    @Test("A node that was stopped in order is given up at once; nobody is, by one not in charge or without a majority")
    func orderly() {
        var watch = watch()
        let two = [Self.one, Self.two]
        #expect(watch.handle(sight(amfds: two, ring: two, isInCharge: false), at: start).count == 1)
        #expect(
            watch.handle(sight(amfds: two, ring: two, hasStopped: true), at: start).first
                == .giveUp(Self.three, incarnation: 3))
        var other = self.watch()
        #expect(
            other.handle(sight(amfds: two, ring: two, hasStopped: true), at: start).first
                == .giveUp(Self.three, incarnation: 3), "and nobody is told that it is missed")
        var minority = self.watch()
        _ = minority.handle(sight(amfds: [Self.one], ring: [Self.one], isMajority: false), at: start)
        #expect(
            minority.handle(sight(amfds: [Self.one], ring: [Self.one], isMajority: false), at: start + .seconds(99))
                == [])
    }

    @Test("A node with a fencing device is given up when it has been fenced, and fenced again when that failed")
    func fencing() {
        var watch = watch(fenced: [Self.three])
        let seen = sight(amfds: [Self.one, Self.two], ring: [Self.one, Self.two])
        _ = watch.handle(seen, at: start)
        #expect(watch.handle(.released(Self.three), at: start) == [.fence(Self.three)])
        #expect(watch.handle(seen, at: start + .seconds(60)) == [], "it is under way")
        let failed = watch.handle(.fenced(Self.three, succeeded: false), at: start + .seconds(60))
        #expect(failed == [.startTimer(at: start + .seconds(65))])
        #expect(watch.handle(seen, at: start + .seconds(65)) == [.fence(Self.three)])
        let done = watch.handle(.fenced(Self.three, succeeded: true), at: start + .seconds(70))
        #expect(done.first == .giveUp(Self.three, incarnation: 3))
    }
}
