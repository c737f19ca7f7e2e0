import EOReplicated
import EngineKit
import SAFTypes
import Testing

private let token = Duration.milliseconds(1_000)

private func lease(_ node: UInt32, of count: Int) -> MajorityLease {
    MajorityLease(configuration: LeaseConfiguration(node: NodeID(node), nodesExpected: count, token: token))
}

private func at(_ milliseconds: Int64) -> Instant { Instant.start + .seconds(100) + .milliseconds(milliseconds) }

private func view(_ id: UInt64, _ nodes: [UInt32], joined: [UInt32] = [], quorate: Bool = true) -> MajorityLease.Event {
    .view(LeaseView(id: id, nodes: nodes.map { NodeID($0) }, joined: joined.map { NodeID($0) }, isQuorate: quorate))
}

private func answer(_ id: UInt64, sentAt: Instant, from node: UInt32, grants: [(UInt32, Int64)] = [])
    -> MajorityLease.Event
{
    let grants = grants.map { LeaseAnswer.Grant(node: NodeID($0.0), remaining: .milliseconds($0.1)) }
    return .answered(LeaseAnswer(probe: LeaseProbe(view: id, sentAt: sentAt), grants: grants), from: NodeID(node))
}

/// What is done, without probes and timers.
private func deeds(_ effects: [MajorityLease.Effect]) -> [MajorityLease.Effect] {
    effects.filter {
        switch $0 {
        case .sendProbe, .answer, .startTimer: false
        case .suspend, .resume, .excluded, .released: true
        }
    }
}

@Suite("The majority lease")
struct MajorityLeaseTests {
    @Test("Its length is what is configured of the token, and several probes fall into it", arguments: [50, 120, 200])
    func length(percent: UInt32) {
        let configuration = LeaseConfiguration(
            node: NodeID(1), nodesExpected: 3, token: token, leasePercent: percent)
        #expect(configuration.lease == .milliseconds(10 * Int64(percent)))
        #expect(configuration.leaseAsGranted > configuration.lease * 102 / 100)
        #expect(configuration.probeInterval * 5 < configuration.lease)
    }

    @Test("It lasts from the sending of the probe that a majority answered; a late answer does not stretch it")
    func countedFromSending() {
        var lease = lease(1, of: 3)
        let first = lease.handle(view(1, [1, 2, 3]), at: at(0))
        let probe = LeaseProbe(view: 1, sentAt: at(0))
        #expect(first.prefix(2) == [.sendProbe(probe, to: NodeID(2)), .sendProbe(probe, to: NodeID(3))])
        #expect(deeds(lease.handle(answer(1, sentAt: at(0), from: 2), at: at(1_000))) == [.resume])
        #expect(lease.end == at(1_200))
        #expect(deeds(lease.handle(.tick, at: at(1_199))) == [])
        #expect(deeds(lease.handle(.tick, at: at(1_200))) == [.suspend])
        // Heard again: continued. An answer that is older than a lease changes nothing.
        #expect(deeds(lease.handle(answer(1, sentAt: at(100), from: 3), at: at(1_300))) == [])
        #expect(deeds(lease.handle(answer(1, sentAt: at(400), from: 3), at: at(1_301))) == [.resume])
    }

    @Test("Of five nodes, the lease counts from the second latest answer")
    func majorityOfFive() {
        var lease = lease(1, of: 5)
        _ = lease.handle(view(1, [1, 2, 3, 4, 5]), at: at(0))
        #expect(deeds(lease.handle(answer(1, sentAt: at(0), from: 2), at: at(10))) == [])
        #expect(deeds(lease.handle(answer(1, sentAt: at(300), from: 2), at: at(310))) == [])
        #expect(deeds(lease.handle(answer(1, sentAt: at(100), from: 3), at: at(320))) == [.resume])
        #expect(lease.end == at(1_300))
        _ = lease.handle(answer(1, sentAt: at(200), from: 4), at: at(330))
        #expect(lease.end == at(1_400))
    }

    @Test("On thaw the suspension comes before whatever event comes first")
    func thaw() {
        let events: [MajorityLease.Event] = [
            .tick, answer(1, sentAt: at(4_900), from: 2), view(2, [1, 2, 3], joined: [2, 3]), .outside,
            .probed(LeaseProbe(view: 1, sentAt: at(0)), from: NodeID(2)),
        ]
        for event in events {
            var lease = lease(1, of: 3)
            _ = lease.handle(view(1, [1, 2, 3]), at: at(0))
            #expect(deeds(lease.handle(answer(1, sentAt: at(0), from: 2), at: at(5))) == [.resume])
            #expect(lease.handle(event, at: at(5_000)).first == .suspend)
        }
    }

    @Test("Without quorum it is over at once; the quorate view after that says excluded, and only then it is had again")
    func excluded() {
        var lease = lease(1, of: 3)
        _ = lease.handle(view(1, [1, 2, 3]), at: at(0))
        _ = lease.handle(answer(1, sentAt: at(0), from: 2), at: at(5))
        #expect(deeds(lease.handle(view(2, [1], quorate: false), at: at(50))) == [.suspend])
        #expect(deeds(lease.handle(answer(1, sentAt: at(40), from: 2), at: at(60))) == [])
        #expect(deeds(lease.handle(view(3, [1, 2, 3], joined: [2, 3]), at: at(70))) == [.excluded])
        #expect(deeds(lease.handle(answer(1, sentAt: at(40), from: 2), at: at(80))) == [], "of the view before")
        #expect(deeds(lease.handle(answer(3, sentAt: at(70), from: 2), at: at(81))) == [.resume])
        // From one quorate view to the next, but not with a majority: others may have been in charge meanwhile.
        #expect(deeds(lease.handle(view(4, [1, 2, 3], joined: [2, 3]), at: at(90))) == [.suspend, .excluded])
    }

    @Test("A node is answered only in the view it is in, and only where there is quorum")
    func answers() {
        var lease = lease(1, of: 3)
        let probe = LeaseProbe(view: 1, sentAt: at(7))
        func isAnswered(_ probe: LeaseProbe, by lease: inout MajorityLease) -> Bool {
            lease.handle(.probed(probe, from: NodeID(2)), at: at(10)).contains {
                if case .answer(let answer, to: NodeID(2)) = $0 { answer.probe == probe } else { false }
            }
        }
        #expect(!isAnswered(probe, by: &lease))
        _ = lease.handle(view(1, [1, 2, 3]), at: at(0))
        #expect(isAnswered(probe, by: &lease))
        #expect(!isAnswered(LeaseProbe(view: 2, sentAt: at(7)), by: &lease))
        _ = lease.handle(view(2, [1, 3]), at: at(20))
        #expect(!isAnswered(LeaseProbe(view: 2, sentAt: at(7)), by: &lease), "not in the view")
        _ = lease.handle(view(3, [1, 2], quorate: false), at: at(30))
        #expect(!isAnswered(LeaseProbe(view: 3, sentAt: at(7)), by: &lease))
    }

    @Test(
        "A lost node is released when a majority of the next view vouches, at once if nothing it granted still counts")
    func released() {
        var lease = lease(1, of: 3)
        _ = lease.handle(view(1, [1, 2, 3]), at: at(0))
        _ = lease.handle(.probed(LeaseProbe(view: 1, sentAt: at(0)), from: NodeID(3)), at: at(10))
        #expect(deeds(lease.handle(view(2, [1, 2]), at: at(2_100))) == [])
        #expect(
            deeds(lease.handle(answer(2, sentAt: at(2_100), from: 2), at: at(2_101))) == [
                .resume, .released(NodeID(3)),
            ])
    }

    @Test("After a clean stop it is released when the last grant has run out, whoever gave it")
    func releasedAfterGrants() {
        var lease = lease(1, of: 3)
        _ = lease.handle(view(1, [1, 2, 3]), at: at(0))
        _ = lease.handle(.probed(LeaseProbe(view: 1, sentAt: at(0)), from: NodeID(3)), at: at(10))
        _ = lease.handle(view(2, [1, 2]), at: at(100))
        _ = lease.handle(answer(2, sentAt: at(100), from: 2, grants: [(3, 1_225)]), at: at(105))
        #expect(deeds(lease.handle(.tick, at: at(1_300))).contains(.released(NodeID(3))) == false)
        let effects = lease.handle(.tick, at: at(1_330))
        #expect(effects.contains(.released(NodeID(3))))
    }

    @Test("Alone in a cluster of one it is always held")
    func alone() {
        var lease = lease(1, of: 1)
        #expect(deeds(lease.handle(view(1, [1]), at: at(0))) == [.resume])
        for tick in 1...100 as ClosedRange<Int64> { #expect(deeds(lease.handle(.tick, at: at(tick * 200))) == []) }
    }

    @Test("Probe and answer, byte by byte, and nothing shorter or longer")
    func bytes() throws {
        let answer = LeaseAnswer(
            probe: LeaseProbe(view: 2, sentAt: Instant(nanoseconds: 3)),
            grants: [LeaseAnswer.Grant(node: NodeID(4), remaining: .nanoseconds(5))])
        let golden: [UInt8] = [
            2, 0, 0, 0, 0, 0, 0, 0,  // view
            3, 0, 0, 0, 0, 0, 0, 0,  // sent at
            1, 0, 0, 0,  // one grant
            4, 0, 0, 0,  // node
            5, 0, 0, 0, 0, 0, 0, 0,  // remaining
        ]
        #expect(answer.encoded == golden)
        #expect(try LeaseAnswer(decoding: golden) == answer)
        for count in golden.indices {
            #expect(throws: DecodeError.self) { try LeaseAnswer(decoding: Array(golden[..<count])) }
        }
        #expect(throws: DecodeError.self) { try LeaseAnswer(decoding: golden + [0]) }
        #expect(throws: DecodeError.self) { try LeaseAnswer(decoding: golden[..<27] + [0x80]) }
    }
}
