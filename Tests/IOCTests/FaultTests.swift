import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOC

@Suite("IOC faults")
struct FaultTests {
    let home = TestPlaces()

    private func connect() -> IOCConnection { IOCConnection(to: .wellKnown(.ckptd), places: home.places) }

    @Test("A second server at the same endpoint is refused, a dead one's socket is replaced")
    func oneServer() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let loop = try Loop(name: "second")
        do throws(OSError) {
            _ = try IOCServer(loop: loop, endpoint: .wellKnown(.ckptd), places: home.places)
            Issue.record("two servers at one endpoint")
        } catch {
            #expect(error.isAddressInUse && error.description.contains("ckptd"))
        }
    }

    @Test("The server goes and comes back: the client connects again by itself")
    func reconnect() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = connect()
        defer { client.close() }
        let setUps = Monitor<[Bool]>([])
        client.onEstablished { context in
            let changed = context.serverIncarnationChanged
            let answer = try? context.call(Code.echo, [1])
            setUps.update { $0.append(changed && answer != nil || !changed && answer != nil && !context.isReconnect) }
        }
        for round in 0..<5 {
            #expect(try client.call(Code.echo, [UInt8(round)], timeout: .seconds(10)).body == [UInt8(round)])
            server.closeServer()
            server.open()
        }
        #expect(setUps.wait(until: nil) { $0 } == [true, true, true, true, true])
    }

    @Test("The server answers one set-up call and dies: the next one fails at once, not when its time is over")
    func diesDuringSetUp() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let rounds = 50
        server.thread.sync { _ in
            server.server!.onRequest = { request, _ in
                let isCut = server.executions.load(ordering: .relaxed) <= rounds
                if request.code == Code.echo {
                    server.executions.wrappingAdd(1, ordering: .relaxed)
                    request.reply([])
                    if isCut { request.peer.disconnect(reason: "test cuts the line") }
                } else if !isCut {
                    request.reply([])
                }
            }
        }
        let client = connect()
        defer { client.close() }
        let seconds = Monitor<[AisError?]>([])
        client.onEstablished { context in
            guard (try? context.call(Code.echo, [])) != nil else { return }
            do throws(CallError) {
                _ = try context.call(Code.count, [])
                seconds.update { $0.append(nil) }
            } catch {
                seconds.update { $0.append(error.code) }
            }
        }
        _ = try client.call(Code.count, [], timeout: .seconds(60))
        let errors = seconds.update { $0 }
        #expect(errors.contains(.tryAgain), "what this test is about has happened")
        #expect(!errors.contains(.timeout))
    }

    @Test("The answer is lost with the connection: executed once, answered from memory")
    func atMostOnce() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        server.thread.sync { _ in
            server.server!.onRequest = { request, _ in
                let count = server.executions.wrappingAdd(1, ordering: .relaxed).newValue
                // Cut first, so that the answer cannot get through, then answer into the session's memory.
                if count % 2 == 1 { request.peer.disconnect(reason: "test cuts the line") }
                server.thread.loop.enqueue(.low) { request.reply([UInt8(truncatingIfNeeded: count)]) }
            }
        }
        let client = connect()
        defer { client.close() }
        for round in 1...20 {
            let reply = try client.call(Code.count, [], timeout: .seconds(10))
            #expect(reply.body == [UInt8(round)])
            #expect(server.executions.load(ordering: .relaxed) == round)
        }
        #expect(server.reconnects.load(ordering: .relaxed) == 10)
        #expect(server.retransmissions.load(ordering: .relaxed) == 0, "this life of the server knows what it did")
    }

    @Test("The same for calls of a loop client and for calls that do not block")
    func atMostOnceOthers() async throws {
        let server = TestServer(home.places)
        server.thread.sync { _ in
            server.server!.onRequest = { request, _ in
                let count = server.executions.wrappingAdd(1, ordering: .relaxed).newValue
                if count % 2 == 1 { request.peer.disconnect(reason: "test cuts the line") }
                server.thread.loop.enqueue(.low) { request.reply([UInt8(truncatingIfNeeded: count)]) }
            }
        }
        let client = connect()
        for round in 1...6 {
            #expect(try await client.call(Code.count, [], timeout: .seconds(10)).body == [UInt8(round)])
        }
        client.close()
        let own = LoopThread()
        let places = home.places
        let box = Confined<LoopConnection?>(nil)
        own.sync { loop in box.value = LoopConnection(loop: loop, to: .wellKnown(.ckptd), places: places) }
        for round in 7...12 {
            let result = Monitor<[UInt8]?>(nil)
            own.sync { _ in
                box.value!.call(Code.count, [], timeout: .seconds(10)) { answer in
                    result.update { $0 = (try? answer.get())?.body ?? [] }
                }
            }
            #expect(result.wait(until: MonotonicClock.now() + .seconds(20)) { $0 } == [UInt8(round)])
        }
        own.sync { _ in
            box.value?.close()
            box.value = nil
        }
        own.stop()
        server.stop()
    }

    @Test("Waiting for a server that is away wakes nobody, and it is found when it comes; also before its directory is")
    func waitingIsQuiet() throws {
        let own = LoopThread()
        defer { own.stop() }
        let places = home.places
        let box = Confined<LoopConnection?>(nil)
        let isUp = Monitor<Instant?>(nil)
        own.sync { loop in
            let client = LoopConnection(loop: loop, to: .wellKnown(.ckptd), places: places)
            client.onUp = { _ in isUp.update { $0 = MonotonicClock.now() } }
            box.value = client
        }
        for round in 0..<2 {
            #expect(eventually { own.sync { _ in box.value?.downReason?.contains("is not running") ?? false } })
            let turns = Monitor<UInt64?>(nil)
            own.sync { loop in
                let before = loop.turnCount
                loop.schedule(after: .milliseconds(400)) { turns.update { $0 = loop.turnCount - before } }
            }
            let count = turns.wait(until: MonotonicClock.now() + .seconds(20)) { $0 }
            #expect(count.map { $0 <= 4 } == true, "round \(round): \(count ?? 0) turns in 400 ms of nothing")
            let start = MonotonicClock.now()
            let server = TestServer(places)
            let found = isUp.wait(until: start + .seconds(20)) { $0 }
            // It was 100 ms at least when it was polled for, and 5 s when nobody waited.
            #expect(found.map { $0 - start < .seconds(3) } == true, "round \(round)")
            isUp.update { $0 = nil }
            server.stop()
        }
        own.sync { _ in
            box.value?.close()
            box.value = nil
        }
    }

    @Test("A blocking call finds a server that comes while it waits")
    func blockingCallFindsServer() throws {
        do { TestServer(home.places).stop() }  // the directory is there
        let client = connect()
        defer { client.close() }
        let result = Monitor<[UInt8]?>(nil)
        let caller = try OSThread.spawn(name: "caller") {
            let reply = try? client.call(Code.echo, [4], timeout: .seconds(20))
            result.update { $0 = reply?.body ?? [] }
        }
        #expect(eventually { client.reasonDown.contains("is not running") })
        let server = TestServer(home.places)
        defer { server.stop() }
        #expect(result.wait(until: MonotonicClock.now() + .seconds(20)) { $0 } == [4])
        caller.join()
    }

    @Test("Another life of the server is told that a request may have been executed")
    func anotherLife() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = connect()
        defer { client.close() }
        _ = try client.call(Code.echo, [], timeout: .seconds(30))
        let result = Monitor<[UInt8]?>(nil)
        let caller = try OSThread.spawn(name: "caller") {
            let reply = try? client.call(Code.later, [], timeout: .seconds(20))
            result.update { $0 = reply?.body ?? [0] }
        }
        #expect(eventually { server.thread.sync { _ in server.kept.count } == 1 })
        server.closeServer()
        server.open()
        #expect(eventually { server.thread.sync { _ in server.kept.count } == 2 })
        let isRetransmission = server.thread.sync { _ in
            let request = server.kept[1]
            server.kept[0].reply([1])  // of the life before: harmless
            request.reply([2])
            return request.isRetransmission && request.id == server.kept[0].id
        }
        #expect(isRetransmission)
        #expect(result.wait(until: MonotonicClock.now() + .seconds(20)) { $0 } == [2])
        caller.join()
    }

    @Test("A hang-up is noticed by both sides")
    func hangUp() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = connect()
        let lost = Monitor(0)
        client.onLost { lost.update { $0 += 1 } }
        client.onPush { _ in }
        #expect(eventually { client.isUp })
        server.closeServer()
        #expect(lost.wait(until: MonotonicClock.now() + .seconds(30)) { $0 > 0 ? true : nil } == true)
        server.open()
        #expect(eventually { client.isUp })
        let before = server.disconnects.load(ordering: .relaxed)
        client.close()
        #expect(eventually { server.disconnects.load(ordering: .relaxed) == before + 1 })
        #expect(throws: CallError.self) { try client.call(Code.echo, [], timeout: .seconds(1)) }
    }

    @Test("A client that does not read fills only its own lane; pushes are dropped and counted; later it works again")
    func stoppedReader() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let stopped = connect()
        let lively = connect()
        defer {
            stopped.close()
            lively.close()
        }
        // Nobody reads on `stopped`: no handler, no call. As good as a process under SIGSTOP.
        _ = try stopped.call(Code.echo, [], timeout: .seconds(30))
        let (queued, dropped) = server.thread.sync { _ in
            let peer = server.server!.peers[0]
            let body = [UInt8](repeating: 1, count: 1000)
            var queued = 0
            for _ in 0..<1000 where peer.push(1, lane: .low, body) == .queued { queued += 1 }
            #expect(peer.push(2, lane: .control, [1]) == .queued, "another lane is not concerned")
            return (queued, Int(peer.droppedFrames))
        }
        #expect(queued > 10 && queued + dropped == 1000)
        #expect(try lively.call(Code.echo, [9], timeout: .seconds(30)).body == [9])
        let writable = Monitor(0)
        server.thread.sync { _ in server.server!.peers[0].onWritable = { writable.update { $0 += 1 } } }
        #expect(try stopped.call(Code.echo, [7], timeout: .seconds(30)).body == [7])
        while stopped.dispatchPushes(timeout: .milliseconds(20), { _ in }) > 0 {}
        #expect(writable.wait(until: MonotonicClock.now() + .seconds(30)) { $0 > 0 ? true : nil } == true)
        let again = server.thread.sync { _ in server.server!.peers[0].push(1, lane: .low, [1]) }
        #expect(again == .queued)
    }

    @Test(
        "A stopped server: the lane fills, callers are told TRY_AGAIN, and nobody waits past his deadline"
    )
    func stoppedServer() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = connect()
        defer { client.close() }
        _ = try client.call(Code.echo, [], timeout: .seconds(30))
        let gate = server.block()
        var sent = 0
        var refusal: CallError?
        for _ in 0..<10_000 where refusal == nil {
            do throws(CallError) {
                try client.send(1, [UInt8](repeating: 0, count: 500), lane: .low)
                sent += 1
            } catch {
                refusal = error
            }
        }
        #expect(refusal?.code == .tryAgain && refusal?.text.contains("low") == true)
        #expect(sent > 50)
        let start = MonotonicClock.now()
        let late = failure { _ = try client.call(Code.echo, [], lane: .control, timeout: .milliseconds(50)) }
        #expect(late?.code == .timeout)
        #expect(MonotonicClock.now() - start < .seconds(30))
        gate.update { $0 = true }
        #expect(try client.call(Code.echo, [2], lane: .low, timeout: .seconds(10)).body == [2])
        #expect(server.thread.sync { _ in server.oneWays.count } == sent)
    }

    @Test("Urgent lanes are served first, whatever waits in the others")
    func lanesUnderLoad() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let clients = [connect(), connect()]
        defer { for client in clients { client.close() } }
        for client in clients { _ = try client.call(Code.echo, [], timeout: .seconds(30)) }
        let gate = server.block()
        for index in 0..<20 {
            for lane in Lane.allCases.reversed() {
                try clients[index % 2].send(UInt16(lane.rawValue), [UInt8(index)], lane: lane)
            }
        }
        gate.update { $0 = true }
        #expect(eventually { server.thread.sync { _ in server.oneWays.count } == 80 })
        for parity in 0..<2 as Range<UInt8> {
            let own = server.thread.sync { _ in server.oneWays.filter { $0.1[0] % 2 == parity } }
            #expect(own.map(\.0) == own.map(\.0).sorted())
            let low = own.filter { $0.0 == .low }.map { $0.1[0] }
            #expect(low == low.sorted(), "frames of one lane keep their order")
        }
    }

    @Test("Who is not admitted is told why, at once")
    func admission() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        server.thread.sync { _ in server.server!.admit = { info in info.credentials.pid > 0 ? .access : nil } }
        let client = connect()
        defer { client.close() }
        let error = failure { _ = try client.call(Code.echo, [], timeout: .seconds(20)) }
        #expect(error?.code == .access && error?.text.contains("does not admit") == true)
    }

    @Test("An idle connection causes no wake-up, of either side")
    func idle() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = connect()
        defer { client.close() }
        client.onPush { _ in }
        for _ in 0..<100 { _ = try client.call(Code.echo, [], timeout: .seconds(30)) }
        let loops = [server.thread.loop, ClientRuntime.shared!.loop]
        // Quiet means: two looks, 50 ms apart, see the same count.
        #expect(
            eventually {
                let before = loops.map(\.turnCount)
                var word: UInt32 = 0
                _ = withUnsafePointer(to: &word) {
                    try? Futex.wait($0, expected: 0, deadline: MonotonicClock.now() + .milliseconds(50))
                }
                return loops[0].turnCount == before[0]
            })
    }
}
