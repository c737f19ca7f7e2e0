import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@Suite("Requests that wait or are elsewhere")
struct RequestTableTests {
    private let now = Instant(nanoseconds: 1_000_000_000)
    private let id = CheckpointID(rawValue: 1 << 40)
    private let other = CheckpointID(rawValue: 2 << 40)
    private let session = ClientSession(high: 1, low: 2)
    private let peer = NodeID(2)

    private func arrived(
        _ number: UInt64, _ id: CheckpointID, _ route: ReplicaRoute, bytes: Int = 10, again: Bool = false
    ) -> RequestTable.Event {
        .arrived(number, .checkpoint(id), bytes: bytes, from: session, isRetransmission: again, route)
    }

    @Test("A request goes where the active replica is, at once or when that is known, in the order of coming")
    func routes() {
        var table = RequestTable()
        let wake = RequestTable.Effect.wake(at: now + RequestTable.waitMax)
        #expect(
            table.handle(arrived(1, id, .there(peer)), at: now)
                == [.perform(1, .there(peer), isRetransmission: false), wake])
        #expect(table.handle(arrived(2, id, .later), at: now) == [])
        #expect(table.handle(arrived(3, other, .later), at: now) == [])
        #expect(table.handle(arrived(4, id, .later), at: now) == [])
        #expect(table.waitingCount == 3)
        #expect(table.handle(.route(.checkpoint(id), .later), at: now) == [])
        #expect(
            table.handle(.route(.checkpoint(id), .here), at: now) == [
                .perform(2, .here, isRetransmission: false), .perform(4, .here, isRetransmission: false),
            ])
        #expect(table.handle(.answered(1), at: now) == [])
        #expect(table.count == 3)
        #expect(
            table.handle(.route(.checkpoint(other), .nowhere), at: now)
                == [.refuse(3, .notExist, "the checkpoint has no active replica")])
        #expect(table.count == 2)
    }

    @Test("What may have been done is said again as a retransmission, and a silent node is told of")
    func failures() {
        var table = RequestTable()
        _ = table.handle(arrived(1, id, .there(peer)), at: now)
        let soon = now + RequestTable.pause
        #expect(table.handle(.failed(1, .untouched), at: now) == [.wake(at: soon)])
        #expect(table.handle(.tick, at: soon).first == .look(.checkpoint(id)))
        #expect(
            table.handle(.route(.checkpoint(id), .there(peer)), at: soon)
                == [.perform(1, .there(peer), isRetransmission: false)])
        #expect(table.handle(.failed(1, .unknown), at: soon).first == .noAnswer(id, peer))
        #expect(
            table.handle(.route(.checkpoint(id), .here), at: soon) == [.perform(1, .here, isRetransmission: true)])
        #expect(table.handle(.failed(1, .elsewhere), at: soon).contains(.noAnswer(id, peer)) == false)
        #expect(
            table.handle(.route(.checkpoint(id), .there(NodeID(3))), at: soon)
                == [.perform(1, .there(NodeID(3)), isRetransmission: true)])
    }

    @Test("Nobody waits for ever: TRY_AGAIN if nothing happened, TIMEOUT if that is unknown")
    func deadlines() {
        var table = RequestTable()
        _ = table.handle(arrived(1, id, .later), at: now)
        _ = table.handle(arrived(2, id, .there(peer)), at: now)
        _ = table.handle(.failed(2, .unknown), at: now)
        let late = now + RequestTable.waitMax
        let codes = table.handle(.tick, at: late).compactMap { effect -> [UInt64: AisError]? in
            if case .refuse(let number, let code, _) = effect { return [number: code] }
            return nil
        }
        #expect(codes == [[1: .tryAgain], [2: .timeout]])
        #expect(table.count == 0)
        #expect(table.handle(.answered(2), at: late) == [], "an answer that comes too late")
    }

    @Test("Neither more requests nor more bytes than the limits wait; a client that is gone waits no more")
    func limits() {
        var table = RequestTable(requestsMax: 2, bytesMax: 100)
        _ = table.handle(arrived(1, id, .later, bytes: 90), at: now)
        #expect(
            table.handle(arrived(2, id, .later, bytes: 20), at: now)
                == [.refuse(2, .tryAgain, "1 requests wait already")])
        _ = table.handle(arrived(3, id, .later, bytes: 10), at: now)
        #expect(
            table.handle(arrived(4, id, .later, bytes: 0), at: now)
                == [.refuse(4, .tryAgain, "2 requests wait already")])
        #expect(table.handle(.left(session), at: now) == [.forget(1), .forget(3)])
        #expect(table.handle(arrived(5, id, .here, bytes: 1 << 30), at: now).first != nil, "a large one goes alone")
        #expect(table.count == 1)
    }

    @Test("No order of events answers a request twice, or forgets one", arguments: 0..<200 as Range<UInt64>)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var table = RequestTable(requestsMax: 8, bytesMax: 1_000)
        var now = self.now
        var open: Set<UInt64> = []
        var underWay: Set<UInt64> = []
        var next: UInt64 = 0
        let routes: [ReplicaRoute] = [.here, .there(peer), .there(NodeID(3)), .later, .later, .nowhere]
        func take(_ effects: [RequestTable.Effect]) {
            for effect in effects {
                switch effect {
                case .perform(let number, let route, _):
                    #expect(route != .later && route != .nowhere, "seed \(seed)")
                    #expect(open.contains(number) && underWay.insert(number).inserted, "seed \(seed)")
                case .refuse(let number, _, _), .forget(let number):
                    #expect(open.remove(number) != nil, "seed \(seed)")
                    underWay.remove(number)
                case .noAnswer, .look, .wake: break
                }
            }
        }
        for _ in 0..<200 {
            now = now + .milliseconds(Int64.random(in: 0...900, using: &random))
            let id = random.chance(percent: 50) ? id : other
            let route = routes.randomElement(using: &random) ?? .later
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4:
                next += 1
                open.insert(next)
                take(table.handle(arrived(next, id, route, bytes: Int.random(in: 0...400, using: &random)), at: now))
            case 4, 5: take(table.handle(.route(.checkpoint(id), route), at: now))
            case 6, 7:
                guard let number = underWay.sorted().randomElement(using: &random) else { break }
                underWay.remove(number)
                if random.chance(percent: 50) {
                    open.remove(number)
                    take(table.handle(.answered(number), at: now))
                } else {
                    let failures: [RequestTable.Failure] = [.untouched, .unknown, .elsewhere]
                    take(table.handle(.failed(number, failures.randomElement(using: &random) ?? .unknown), at: now))
                }
            default: take(table.handle(.tick, at: now))
            }
            #expect(table.count == open.count, "seed \(seed)")
        }
        take(table.handle(.tick, at: now + RequestTable.waitMax))
        #expect(open.isEmpty && table.count == 0, "seed \(seed)")
    }

    @Test("What waits for an active process is refused when its node is no member, and never asked later")
    func membership() {
        func arrived(_ number: UInt64, _ route: ReplicaRoute, isActive: Bool) -> RequestTable.Event {
            .arrived(
                number, .checkpoint(id), bytes: 1, from: session, isRetransmission: false, route, isActive: isActive)
        }
        func refusals(_ effects: [RequestTable.Effect]) -> [UInt64: AisError] {
            effects.reduce(into: [:]) { all, effect in
                if case .refuse(let number, let code, _) = effect { all[number] = code }
            }
        }
        var table = RequestTable()
        _ = table.handle(arrived(1, .later, isActive: true), at: now)
        _ = table.handle(arrived(2, .later, isActive: false), at: now)
        _ = table.handle(arrived(3, .there(peer), isActive: true), at: now)
        _ = table.handle(arrived(4, .there(peer), isActive: true), at: now)
        _ = table.handle(arrived(5, .there(peer), isActive: false), at: now)
        _ = table.handle(.failed(4, .unknown), at: now)
        #expect(refusals(table.handle(.membership(isMember: true, isUnbroken: true), at: now)) == [:])
        #expect(
            refusals(table.handle(.membership(isMember: false, isUnbroken: true), at: now))
                == [1: .tryAgain, 4: .timeout])
        #expect(refusals(table.handle(.failed(3, .unknown), at: now)) == [3: .timeout], "it was on its way")
        #expect(refusals(table.handle(.failed(5, .unknown), at: now)) == [:])
        #expect(refusals(table.handle(arrived(6, .later, isActive: true), at: now)) == [6: .tryAgain])
        #expect(table.count == 2)
        _ = table.handle(.membership(isMember: true, isUnbroken: true), at: now)
        _ = table.handle(arrived(7, .later, isActive: true), at: now)
        #expect(table.waitingCount == 3)
        // The others went on without this node, which saw nothing of it.
        #expect(
            refusals(table.handle(.membership(isMember: true, isUnbroken: false), at: now)) == [7: .tryAgain])
    }
}
