import EngineKit
import SAFTypes
import Testing

@testable import IOCLinks

extension RequestWindow {
    /// Answers with `body`.
    fileprivate mutating func reply(_ number: UInt64, _ body: [UInt8]) -> Bool {
        finish(number, kind: .reply, status: 0, body: body)
    }
}

@Suite("Link decisions")
struct LinkDecisionTests {
    @Test("A request is executed once; its answer is given again until it is acknowledged")
    func once() {
        var window = RequestWindow(bytesMax: 100)
        #expect(window.begin(1, acknowledged: 0) == .execute)
        #expect(window.begin(1, acknowledged: 0) == .inProgress)
        #expect(window.reply(1, [1, 2]) == true)
        #expect(window.reply(1, [3]) == false, "answered already")
        #expect(window.begin(1, acknowledged: 0) == .answered(kind: .reply, status: 0, body: [1, 2]))
        #expect(window.begin(2, acknowledged: 1) == .execute)
        #expect(window.begin(1, acknowledged: 1) == .forgotten)
        #expect(window.bytes == 0)
    }

    @Test("Requests of several lanes may arrive in another order than they were numbered")
    func disorder() {
        var window = RequestWindow(bytesMax: 100)
        #expect(window.begin(3, acknowledged: 0) == .execute)
        #expect(window.begin(1, acknowledged: 0) == .execute)
        #expect(window.begin(2, acknowledged: 0) == .execute)
        #expect(window.begin(3, acknowledged: 0) == .inProgress)
    }

    @Test("Answers beyond the bound are forgotten oldest first; that they were executed is not")
    func bounded() {
        var window = RequestWindow(bytesMax: 10)
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(window.begin(number, acknowledged: 0) == .execute)
            #expect(window.reply(number, [1, 2, 3, 4]) == true)
        }
        #expect(window.bytes == 8)
        #expect(window.begin(1, acknowledged: 0) == .forgotten)
        #expect(window.begin(3, acknowledged: 0) == .answered(kind: .reply, status: 0, body: [1, 2, 3, 4]))
        #expect(window.begin(4, acknowledged: 0) == .execute)
        #expect(window.reply(4, [UInt8](repeating: 0, count: 11)) == true)
        #expect(window.begin(4, acknowledged: 0) == .forgotten)
    }

    @Test("A number far ahead of the oldest open one is refused, and costs no memory")
    func farAhead() {
        var window = RequestWindow(bytesMax: 10)
        #expect(window.begin(UInt64.max, acknowledged: 0) == .overloaded)
        #expect(window.begin(UInt64(RequestWindow.spanMax) + 1, acknowledged: 0) == .overloaded)
        #expect(window.begin(UInt64(RequestWindow.spanMax), acknowledged: 0) == .execute)
        #expect(window.begin(UInt64.max, acknowledged: UInt64.max) == .execute, "everything else is acknowledged")
        #expect(window.begin(0, acknowledged: 0) == .forgotten, "there is no request 0")
    }

    @Test("Random requests: each number is executed at most once", arguments: 0..<50 as Range<UInt64>)
    func atMostOnce(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var window = RequestWindow(bytesMax: 50)
        var executed: Set<UInt64> = []
        var acknowledged: UInt64 = 0
        for _ in 0..<500 {
            let number = acknowledged + UInt64.random(in: 0...20, using: &random)
            if random.chance(percent: 10) { acknowledged += UInt64.random(in: 0...3, using: &random) }
            if window.begin(number, acknowledged: acknowledged) == .execute {
                #expect(executed.insert(number).inserted, "seed \(seed): \(number) twice")
            }
            if random.chance(percent: 50), let open = executed.max() {
                _ = window.finish(open, kind: .reply, status: 0, body: [1, 2, 3, 4, 5])
            }
            #expect(window.bytes <= 50)
        }
    }

    private static func sight(
        open isOpen: Bool, acknowledged: UInt64, received: UInt64 = 0, waiting: Bool = false
    ) -> PathWatch.Sight {
        PathWatch.Sight(
            isAllAcknowledged: !isOpen, acknowledgedBytes: acknowledged, receivedBytes: received, isWaiting: waiting)
    }

    @Test("A path is broken when nothing was acknowledged for as long as patience lasts, and not before")
    func brokenPath() {
        var watch = PathWatch(patience: .milliseconds(300))
        func at(_ milliseconds: Int64) -> Instant { Instant.start + .milliseconds(milliseconds) }
        #expect(watch.look(Self.sight(open: true, acknowledged: 5), now: at(1000)) == .fine)
        #expect(watch.look(Self.sight(open: true, acknowledged: 5), now: at(1200)) == .fine)
        // Something got through: patience begins anew.
        #expect(watch.look(Self.sight(open: true, acknowledged: 9), now: at(1290)) == .fine)
        #expect(watch.look(Self.sight(open: true, acknowledged: 9), now: at(1580)) == .fine)
        #expect(watch.look(Self.sight(open: true, acknowledged: 9), now: at(1590)) == .broken)
    }

    @Test("How long nothing was sent counts for nothing; nobody who waits for nothing is watched")
    func idlePath() {
        var watch = PathWatch(patience: .milliseconds(300))
        func at(_ milliseconds: Int64) -> Instant { Instant.start + .milliseconds(milliseconds) }
        #expect(watch.look(Self.sight(open: true, acknowledged: 5), now: at(1000)) == .fine)
        #expect(watch.look(Self.sight(open: false, acknowledged: 9), now: at(1100)) == .idle)
        #expect(watch.look(Self.sight(open: true, acknowledged: 9), now: at(9000)) == .fine)
        #expect(watch.look(Self.sight(open: true, acknowledged: 9), now: at(9299)) == .fine)
    }

    @Test("Who waits for an answer probes once in a while; a slow peer that acknowledges is left alone")
    func slowPeer() {
        var watch = PathWatch(patience: .milliseconds(300))
        func at(_ milliseconds: Int64) -> Instant { Instant.start + .milliseconds(milliseconds) }
        var verdicts: [PathWatch.Verdict] = []
        for step in 0..<10 {
            let sight = Self.sight(open: false, acknowledged: UInt64(step), waiting: true)
            verdicts.append(watch.look(sight, now: at(Int64(step) * 100)))
        }
        #expect(verdicts == [.fine, .fine, .fine, .probe, .fine, .fine, .probe, .fine, .fine, .probe])
    }

    @Test("Addresses are tried in order, then there is a pause that doubles and is never longer than its bound")
    func redial() {
        var redial = Redial(addressCount: 3, pauseFirst: .milliseconds(10), pauseMax: .milliseconds(40), seed: 1)
        var bounds: [Duration] = []
        for round in 0..<4 {
            #expect(redial.begin() == .dial(address: 0))
            #expect(redial.failed() == .dial(address: 1))
            #expect(redial.failed() == .dial(address: 2))
            guard case .wait(let pause) = redial.failed() else {
                Issue.record("no pause")
                return
            }
            let limit = min(Duration.milliseconds(10) * (1 << round), .milliseconds(40))
            #expect(pause >= limit / 2 && pause <= limit, "\(pause) of \(limit)")
            bounds.append(pause)
        }
        #expect(Set(bounds).count == 4)
        redial.succeeded()
        redial.lost()
        #expect(redial.begin() == .dial(address: 1), "a dead plane costs one reconnect")
    }

    @Test("Two nodes do not dial in step")
    func jitter() {
        var one = Redial(addressCount: 1, pauseFirst: .milliseconds(10), pauseMax: .seconds(1), seed: 1)
        var two = Redial(addressCount: 1, pauseFirst: .milliseconds(10), pauseMax: .seconds(1), seed: 2)
        _ = (one.begin(), two.begin())
        #expect(one.failed() != two.failed())
    }
}
