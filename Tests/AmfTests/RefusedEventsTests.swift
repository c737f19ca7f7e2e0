import AmfEngine
import AmfProtocol
import SAFTypes
import Testing

@testable import AmfShell

@Suite("Refused proposals")
struct RefusedEventsTests {
    private let death = ClusterEvent.report(
        NodeID(1),
        .failed(SaName("safComp=C")!, 1, recovery: .noRecommendation, isDead: true, cause: .died))

    @Test("A death is kept and comes again, in its order; an operation is its asker's to ask again")
    func keeps() {
        var events = RefusedEvents()
        #expect(events.concerns(death))
        #expect(!events.concerns(.admin(AdminTicket(), .lock, SaName("safSu=S")!)))
        let isKept = [events.keep(death), events.keep(.stopNode(NodeID(1)))]
        #expect(isKept == [true, true])
        let all = events.takeAll()
        #expect(all == [death, .stopNode(NodeID(1))])
        #expect(events.isEmpty)
    }

    @Test("It is bounded")
    func bounded() {
        var events = RefusedEvents()
        for _ in 0..<RefusedEvents.eventsMax { _ = events.keep(death) }
        let isKept = events.keep(death)
        #expect(!isKept)
    }
}
