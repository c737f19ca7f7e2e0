import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

@Suite("Links")
struct LinkTests {
    let net = TestNet()

    private func pair() -> (TestNode, TestNode) {
        (TestNode(net.settings(1)), TestNode(net.settings(2), incarnation: 77))
    }

    private func pair(_ ours: ClosedRange<UInt8>, _ theirs: ClosedRange<UInt8>) -> (TestNode, TestNode) {
        var (own, other) = (LinkOptions(), LinkOptions())
        (own.messages, other.messages) = (ours, theirs)
        return (TestNode(net.settings(1), options: own), TestNode(net.settings(2), incarnation: 77, options: other))
    }

    @Test(
        "Services of different builds speak the newest version that both know",
        arguments: [(1...1, 1...2, 1), (1...2, 1...1, 1), (1...2, 1...2, 2), (2...3, 1...2, 2)]
            as [(ClosedRange<UInt8>, ClosedRange<UInt8>, UInt8)])
    func versions(ours: ClosedRange<UInt8>, theirs: ClosedRange<UInt8>, spoken: UInt8) {
        let (one, two) = pair(ours, theirs)
        #expect(one.on { _ in one.links.messages(to: second) } == nil)
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        #expect(two.call(Code.echo, [2], to: first) == .success([2]))
        for (node, peer) in [(one, second), (two, first)] {
            #expect(node.on { _ in node.links.messages(to: peer) } == spoken)
            #expect(node.on { _ in node.links.messages(from: peer) } == spoken)
        }
        one.stop()
        two.stop()
    }

    @Test("Builds without a common version have no link, and the one that refuses says which they are")
    func noCommonVersion() {
        let (one, two) = pair(1...1, 2...3)
        one.reach(second)
        #expect(
            eventually {
                two.seen.withLock { seen in
                    seen.troubles.contains { $0.contains("messages of versions 1...1; 2...3 are spoken here") }
                }
            })
        #expect(!one.isUp(second))
        one.stop()
        two.stop()
    }

    @Test(
        "A node that is not in the cluster any more is refused; one that comes is spoken to, also when a view was first"
    )
    func nodesChange() {
        let (one, two) = pair()
        let all = net.settings(1).nodes
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        one.on { _ in must { () throws(LinkError) in try one.links.update(nodes: all.filter { $0.id == first }) } }
        #expect(!one.isUp(second))
        guard case .failure(let error) = one.call(Code.echo, [1], to: second) else {
            Issue.record("a node that has gone was asked")
            return
        }
        #expect(error.code == .notExist)
        two.reach(first)
        let refusal = "node 2 is not configured here"
        #expect(eventually { one.seen.withLock { $0.troubles.contains { $0.contains(refusal) } } })
        one.reach(second)
        one.on { _ in must { () throws(LinkError) in try one.links.update(nodes: all) } }
        #expect(eventually { one.isUp(second) })
        #expect(one.call(Code.echo, [2], to: second) == .success([2]))
        #expect(two.call(Code.echo, [3], to: first) == .success([3]))
        one.stop()
        two.stop()
    }

    @Test("What a node asked before it was taken out is done once, and answered when it is back")
    func executedBeforeItLeft() {
        let (one, two) = pair()
        let all = net.settings(1).nodes
        let outcome = two.begin(Code.silent, [], to: first, timeout: .seconds(30))
        #expect(eventually { one.on { _ in one.held.value.count } == 1 })
        one.on { _ in must { () throws(LinkError) in try one.links.update(nodes: all.filter { $0.id == first }) } }
        one.on { _ in one.held.value.first?.reply([8]) }
        one.on { _ in must { () throws(LinkError) in try one.links.update(nodes: all) } }
        #expect(outcome.wait(until: MonotonicClock.now() + .seconds(30)) { $0 } == .success([8]))
        #expect(one.seen.withLock { $0.executed.count } == 1)
        one.stop()
        two.stop()
    }

    @Test("A node that has another address is reached there; addresses that are none change nothing")
    func addressChanges() {
        let (one, two) = pair()
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        var elsewhere = net.settings(2, planes: 2)
        elsewhere.nodes[1].addresses.removeFirst()
        let moved = TestNode(elsewhere, incarnation: 78)
        two.stop()
        var wrong = elsewhere.nodes
        wrong[1].addresses = [LinkAddress("cellar")]
        one.on { [wrong] _ in
            #expect(throws: LinkError.self) { try one.links.update(nodes: wrong) }
            #expect(one.links.description.nodes == net.settings(1).nodes)
        }
        one.on { [elsewhere] _ in must { () throws(LinkError) in try one.links.update(nodes: elsewhere.nodes) } }
        #expect(eventually { one.isUp(second) }, "it was wanted before")
        #expect(one.call(Code.echo, [2], to: second) == .success([2]))
        #expect(one.seen.withLock { $0.up.map(\.incarnation) } == [77, 78])
        one.stop()
        moved.stop()
    }

    @Test("A call is answered with the service's body, or fails with its error and text")
    func calls() {
        let (one, two) = pair()
        #expect(one.call(Code.echo, [1, 2, 3], to: second) == .success([1, 2, 3]))
        #expect(one.call(Code.echo, [], to: second, lane: .control) == .success([]))
        #expect(one.call(Code.fail, [], to: second) == .failure(CallError(.noSpace, "no space for it")))
        #expect(two.call(Code.echo, [4], to: first) == .success([4]), "the other direction has a link of its own")
        one.seen.withLock {
            #expect($0.up.map(\.incarnation) == [77])
            #expect($0.up.map(\.isNew) == [true])
        }
        one.stop()
        two.stop()
    }

    @Test(
        "Bodies of every size arrive as they were",
        arguments: [0, 1, 16_384, 16_385, 131_072, 131_073, 1 << 20, 9 << 20])
    func sizes(size: Int) {
        let (one, two) = pair()
        var random = SeededRandom(seed: UInt64(size))
        let body = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        #expect(one.call(Code.echo, body, to: second) == .success(body))
        one.stop()
        two.stop()
    }

    @Test("One-way messages of a lane arrive in order, each once")
    func order() {
        let (one, two) = pair()
        one.reach(second)
        #expect(eventually { one.isUp(second) })
        let count = 5000
        one.on { _ in
            for index in 0..<count {
                let body = [UInt8](repeating: UInt8(index & 0xff), count: index % 7 == 0 ? 20_000 : 10)
                if one.links.send(UInt16(index), body, to: second, lane: .low) == .full { break }
            }
        }
        #expect(eventually { one.status(second)?.queuedBytes == 0 })
        let sent = one.status(second)?.refused == 0 ? count : -1
        #expect(eventually { two.seen.withLock { $0.messages.count } >= (sent > 0 ? sent : 300) })
        let codes = two.seen.withLock { $0.messages.map(\.code) }
        #expect(codes == (0..<codes.count).map { UInt16($0) })
        one.stop()
        two.stop()
    }

    @Test("A view's nodes are linked, and who is not in the next one is left")
    func follows() {
        let nodes = (1...3).map { TestNode(net.settings($0, nodes: 3)) }
        let (one, third) = (nodes[0], NodeID(3))
        one.on { _ in one.links.follow([second, third]) }
        #expect(eventually { one.isUp(second) && one.isUp(third) })
        let open = one.begin(Code.silent, [], to: second)
        #expect(eventually { nodes[1].seen.withLock { !$0.executed.isEmpty } })
        one.on { _ in one.links.follow([third]) }
        guard case .failure(let error) = open.wait(until: MonotonicClock.now() + .seconds(30), { $0 }) else {
            Issue.record("a call to a node that has left goes on")
            return
        }
        #expect(error.code == .timeout, "it may have been executed")
        #expect(!one.isUp(second))
        #expect(one.isUp(third))
        let down = one.seen.withLock { $0.down }
        #expect(down.count == 1 && down[0].contains("node-2") && down[0].hasSuffix("the node has left"), "\(down)")
        one.on { _ in one.links.follow([second, third]) }
        #expect(eventually { one.isUp(second) })
        for node in nodes { node.stop() }
    }

    @Test("Why a node cannot be reached is told once, however often it is tried, and again after it was there")
    func oneTrouble() {
        let one = TestNode(net.settings(1))
        one.reach(second)
        func attempts() -> Int { one.status(second)?.addresses.map(\.attempts).reduce(0, +) ?? 0 }
        func told() -> Int { one.seen.withLock { $0.troubles.count { $0.contains("nobody listens") } } }
        #expect(eventually { attempts() >= 4 })
        #expect(told() == 1)
        let two = TestNode(net.settings(2), incarnation: 77)
        #expect(eventually { one.isUp(second) })
        two.stop()
        #expect(eventually { told() == 2 })
        let before = attempts()
        #expect(eventually { attempts() >= before + 3 })
        #expect(told() == 2)
        one.stop()
    }

    @Test("A node that is not there: TRY_AGAIN at the deadline, with the reason; unknown nodes do not exist")
    func nobody() {
        let one = TestNode(net.settings(1))
        let outcome = one.call(Code.echo, [], to: second, timeout: .milliseconds(150))
        guard case .failure(let error) = outcome else {
            Issue.record("answered by nobody")
            return
        }
        #expect(error.code == .tryAgain)
        #expect(error.text.contains("node-2"), "\(error.text)")
        #expect(error.text.contains(net.ip(2)), "\(error.text)")
        guard case .failure(let unknown) = one.call(Code.echo, [], to: NodeID(9)) else { return }
        #expect(unknown.code == .notExist)
        #expect(one.send(1, [], to: second) == .down)
        one.stop()
    }

    @Test("A call made while the peer is away is answered when it comes")
    func late() {
        let one = TestNode(net.settings(1))
        let outcome = one.begin(Code.echo, [5], to: second)
        #expect(eventually { (one.status(second)?.addresses[0].attempts ?? 0) > 2 })
        let two = TestNode(net.settings(2))
        #expect(outcome.wait(until: MonotonicClock.now() + .seconds(30)) { $0 } == .success([5]))
        one.stop()
        two.stop()
    }

    @Test("A restarted peer is told from a reconnected one; what it had not answered is unknown")
    func restarted() {
        let (one, two) = pair()
        let outcome = one.begin(Code.silent, [], to: second)
        #expect(eventually { two.seen.withLock { $0.executed.count } == 1 })
        two.stop()
        let three = TestNode(net.settings(2), incarnation: 78)
        guard case .failure(let error)? = outcome.wait(until: MonotonicClock.now() + .seconds(30), { $0 }) else {
            Issue.record("answered by nobody")
            return
        }
        #expect(error.code == .timeout)
        #expect(error.text.contains("restarted"))
        #expect(eventually { one.seen.withLock { $0.up.count } == 2 })
        one.seen.withLock {
            #expect($0.up.map(\.incarnation) == [77, 78])
            #expect($0.up.map(\.isNew) == [true, true])
        }
        one.stop()
        three.stop()
    }

    @Test("After a broken connection a request is sent again and executed once")
    func brokenConnection() {
        let (one, two) = pair()
        let outcome = one.begin(Code.silent, [], to: second)
        #expect(eventually { two.on { _ in two.held.value.count } == 1 })
        one.on { _ in
            if let link = one.links.peers[2]?.outgoing { one.links.lose(link, "cut by the test") }
        }
        #expect(eventually { one.isUp(second) })
        two.on { _ in two.held.value.first?.reply([8]) }
        #expect(outcome.wait(until: MonotonicClock.now() + .seconds(30)) { $0 } == .success([8]))
        #expect(two.seen.withLock { $0.executed.count } == 1)
        one.seen.withLock { #expect($0.up.map(\.isNew) == [true, false]) }
        one.stop()
        two.stop()
    }

    @Test("The first address is dead: the second carries the link")
    func deadPlane() {
        let one = TestNode(net.settings(1, planes: 2))
        var settings = net.settings(2, planes: 2)
        settings.nodes[1].addresses.removeFirst()  // node 2 does not listen on the first plane
        let two = TestNode(settings)
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        let status = one.status(second)
        #expect(status?.address == "\(net.ip(2, plane: 1)):\(net.port)")
        #expect(status?.addresses[0].lastError.isEmpty == false)
        one.stop()
        two.stop()
    }

    @Test("A peer that does not read fills its lane and is told so; other peers and lanes are not concerned")
    func stalled() {
        let one = TestNode(net.settings(1, nodes: 3))
        let two = TestNode(net.settings(2, nodes: 3))
        let three = TestNode(net.settings(3, nodes: 3))
        for node in [second, NodeID(3)] {
            one.reach(node)
            #expect(eventually { one.isUp(node) })
        }
        let gate = Monitor(false)
        two.thread.loop.post(.control) { _ = gate.wait(until: MonotonicClock.now() + .seconds(30)) { $0 ? true : nil } }
        let body = [UInt8](repeating: 1, count: 100_000)
        var sent = 0
        while sent < 2000, one.send(1, body, to: second, lane: .low) == .sent { sent += 1 }
        #expect(sent > 50 && sent < 2000, "\(sent) bodies were taken")
        #expect(one.send(1, [1], to: second, lane: .control) == .sent, "another lane has room")
        #expect(one.call(Code.echo, [3], to: NodeID(3)) == .success([3]))
        gate.update { $0 = true }
        #expect(eventually { one.seen.withLock { $0.writable.contains(.low) } })
        #expect(eventually { two.seen.withLock { $0.messages.count } == sent + 1 })
        for node in [one, two, three] { node.stop() }
    }
}
