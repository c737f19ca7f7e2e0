import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import IOC

@Suite("IOC calls")
struct CallTests {
    let home = TestPlaces()

    @Test("A call is answered, small and large, in every lane")
    func answered() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        for size in [0, 1, 31, 32, 64, 1000, 8000, 30_000, 33_000, 70_000, 300_000] {
            for lane in Lane.allCases {
                let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
                let reply = try client.call(Code.echo, body, lane: lane, timeout: .seconds(10))
                #expect(reply.body == body, "size \(size) lane \(lane)")
            }
        }
    }

    @Test("Large bodies of several callers at once arrive whole, by the memory that stays and without it")
    func largeBodies() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let wrong = Atomic<Int>(0)
        let threads = (0..<3).map { number in
            must { () throws(OSError) in
                try OSThread.spawn(name: "caller") {
                    for round in 0..<40 {
                        let size = [40_000, 1 << 20, BulkMemory.bodyMax, BulkMemory.bodyMax + 1][(round + number) % 4]
                        let body = [UInt8](repeating: UInt8(round + 50 * number), count: size)
                        let reply = try? client.call(Code.echo, body, timeout: .seconds(30))
                        if reply?.body != body { wrong.add(1, ordering: .relaxed) }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.load(ordering: .relaxed) == 0)
        let maps = String(decoding: try File.readAll("/proc/self/maps"), as: UTF8.self)
        #expect(maps.contains("memfd:ioc-bulk"))
    }

    @Test("A client that knows the first version only is served in it")
    func firstVersion() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let socket = try UnixSocket.connect(
            to: Endpoint.wellKnown(.ckptd).path(in: home.places.runDirectory), kind: .seqPacket)
        var hello = Hello(session: .random(), knownIncarnation: 0)
        hello.versionMax = 1
        let bytes = HandshakeFrame.bytes(.hello, body: hello.encoded)
        _ = try bytes.withUnsafeBytes { try UnixSocket.send(socket.raw, $0) }
        #expect(try IO.waitUntil(socket.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        var answer = [UInt8](repeating: 0, count: HandshakeFrame.sizeMax)
        let received = try #require(
            try answer.withUnsafeMutableBytes { try UnixSocket.receive(socket.raw, into: $0) })
        for descriptor in received.descriptors { IO.close(descriptor) }
        #expect(try Welcome(decoding: Array(answer[FrameHeader.size..<received.count])).version == 1)
    }

    @Test("The daemon's words reach the caller")
    func daemonsWords() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        #expect(throws: CallError(.noSpace, "the store \"x\" is full")) {
            try client.call(Code.fail, [], timeout: .seconds(30))
        }
    }

    @Test("Descriptors travel both ways, in order with other frames")
    func descriptors() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        for round in 0..<50 {
            let text = Array("round \(round)".utf8)
            let memory = sealedMemory(text)
            let reply = try client.call(
                Code.descriptor, [UInt8(round)], lane: Lane.allCases[round % 4], timeout: .seconds(30),
                descriptors: [memory.raw, memory.raw])
            #expect(reply.body == text + text)
            #expect(reply.descriptors.count == 1)
            for number in reply.descriptors { #expect(content(number) == [UInt8(round)]) }
            #expect(try client.call(Code.echo, [1], timeout: .seconds(30)).body == [1])
        }
    }

    @Test("A body beyond the limit is refused with both numbers")
    func tooLarge() throws {
        var options = ServerOptions()
        options.bodyMax = 100_000
        let server = TestServer(home.places, options: options)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        #expect(throws: CallError(.noResources, "body of 100001 bytes; at most 100000 can be sent here")) {
            try client.call(Code.echo, [UInt8](repeating: 0, count: 100_001), timeout: .seconds(30))
        }
        #expect(
            try client.call(Code.echo, [UInt8](repeating: 0, count: 100_000), timeout: .seconds(30)).body.count
                == 100_000)
    }

    @Test("Nobody there: TRY_AGAIN at the deadline, naming the daemon")
    func nobody() {
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        let start = MonotonicClock.now()
        let error = failure { _ = try client.call(Code.echo, [], timeout: .milliseconds(80)) }
        #expect(error?.code == .tryAgain && error?.text.contains("ckptd is not running") == true)
        let took = MonotonicClock.now() - start
        #expect(took >= .milliseconds(80) && took < .seconds(30))
    }

    @Test("A call waits for a daemon that comes up before its deadline")
    func comesUp() throws {
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let places = home.places
        let result = Monitor<Result<Reply, CallError>?>(nil)
        let caller = try OSThread.spawn(name: "caller") {
            let outcome: Result<Reply, CallError>
            do throws(CallError) {
                outcome = .success(try client.call(Code.echo, [4], timeout: .seconds(20)))
            } catch {
                outcome = .failure(error)
            }
            result.update { $0 = outcome }
        }
        #expect(eventually { client.reasonDown.contains("not running") })
        let server = TestServer(places)
        defer { server.stop() }
        let outcome = result.wait(until: MonotonicClock.now() + .seconds(20)) { $0 }
        #expect(try outcome?.get().body == [4])
        caller.join()
    }

    @Test("A service that does not answer: TIMEOUT at the deadline, and the connection stands")
    func deadline() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        _ = try client.call(Code.echo, [], timeout: .seconds(30))
        let start = MonotonicClock.now()
        #expect(failure { _ = try client.call(Code.silent, [], timeout: .milliseconds(60)) }?.code == .timeout)
        let took = MonotonicClock.now() - start
        #expect(took >= .milliseconds(60) && took < .seconds(30))
        #expect(try client.call(Code.echo, [3], timeout: .seconds(30)).body == [3])
        #expect(server.connects.load(ordering: .relaxed) == 1)
    }

    @Test("Many threads share one connection; each gets its own answer")
    func threads() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let failures = Monitor(0)
        let threads = try (0..<6).map { thread throws(OSError) in
            try OSThread.spawn(name: "caller-\(thread)") {
                for round in 0..<500 {
                    let body = Array("\(thread)/\(round)".utf8)
                    let lane = Lane.allCases[(thread + round) % 4]
                    let reply = try? client.call(Code.echo, body, lane: lane, timeout: .seconds(30))
                    if reply?.body != body { failures.update { $0 += 1 } }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.wait(until: nil) { $0 } == 0)
        #expect(server.executions.load(ordering: .relaxed) == 3000)
    }

    @Test("Asynchronous calls complete, also many at a time")
    func asynchronous() async throws {
        let server = TestServer(home.places)
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        for size in [0, 10, 5000, 100_000] {
            let body = [UInt8](repeating: 3, count: size)
            #expect(try await client.call(Code.echo, body, timeout: .seconds(10)).body == body)
        }
        await withTaskGroup(of: String?.self) { group in
            for index in 0..<200 {
                group.addTask {
                    let body = [UInt8(truncatingIfNeeded: index)]
                    do throws(CallError) {
                        let reply = try await client.call(Code.echo, body, timeout: .seconds(60))
                        return reply.body == body ? nil : "\(index) was answered \(reply.body)"
                    } catch {
                        return "\(index): \(error)"
                    }
                }
            }
            for await problem in group { #expect(problem == nil) }
        }
        do {
            _ = try await client.call(Code.silent, [], timeout: .milliseconds(20))
            Issue.record("nobody answers that")
        } catch {
            #expect(error.code == .timeout)
        }
        client.close()
        server.stop()
    }

    private static func outcome(
        _ client: IOCConnection, _ code: UInt16, _ body: [UInt8], late: (@Sendable (Reply) -> Void)? = nil
    ) async -> AisError? {
        do throws(CallError) {
            _ = try await client.call(code, body, timeout: .seconds(300), late: late)
            return nil
        } catch {
            return error.code
        }
    }

    /// As `eventually`, but leaves the thread to other tasks.
    private static func comes(_ condition: () -> Bool) async -> Bool {
        let deadline = MonotonicClock.now() + .seconds(30)
        while !condition() {
            if MonotonicClock.now() > deadline { return false }
            await Task.yield()
        }
        return true
    }

    @Test("A cancelled task waits no longer; its answer goes where late ones go; before the call it calls nobody")
    func cancelled() async throws {
        let server = TestServer(home.places)
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        _ = try await client.call(Code.echo, [1], timeout: .seconds(30))
        let start = MonotonicClock.now()
        let late = Monitor<[UInt8]>([])
        let waiting = (0..<3).map { index in
            Task {
                await Self.outcome(client, Code.later, [UInt8(index)]) { reply in late.update { $0 += reply.body } }
            }
        }
        #expect(await Self.comes { server.executions.load(ordering: .relaxed) == 4 })
        waiting[0].cancel()
        waiting[1].cancel()
        #expect(await waiting[0].value == .interrupt)
        #expect(await waiting[1].value == .interrupt)
        server.thread.sync { [server] _ in
            for request in server.kept { request.reply([7]) }
            server.kept = []
        }
        #expect(await waiting[2].value == nil)
        #expect(await Self.comes { late.update { $0 } == [7, 7] })
        #expect(try await client.call(Code.echo, [2], timeout: .seconds(30)).body == [2])

        let asked = server.executions.load(ordering: .relaxed)
        let before = Task { () -> AisError? in
            withUnsafeCurrentTask { $0?.cancel() }
            return await Self.outcome(client, Code.echo, [])
        }
        #expect(await before.value == .interrupt)
        #expect(server.executions.load(ordering: .relaxed) == asked)

        // Nobody is there to whom it could be sent.
        server.stop()
        let away = Task { await Self.outcome(client, Code.echo, []) }
        #expect(await Self.comes { client.lock.withLock { _ in client.calls.count } == 1 })
        away.cancel()
        #expect(await away.value == .interrupt)
        #expect(client.lock.withLock { _ in client.calls.count } == 0)
        #expect(MonotonicClock.now() - start < .seconds(150))
        client.close()
    }

    @Test("Pushes come to the handler in order, without a call")
    func pushes() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let got = Monitor<[UInt8]>([])
        client.onPush { push in got.update { $0 += push.body } }
        #expect(eventually { client.isUp }, "a handler alone connects")
        server.thread.sync { _ in
            for value in 0..<100 { server.server!.peers[0].push(1, [UInt8(value)]) }
        }
        let all = got.wait(until: MonotonicClock.now() + .seconds(30)) { $0.count >= 100 ? $0 : nil }
        #expect(all == Array(0..<100))
        _ = try client.call(Code.pushMe, [50], timeout: .seconds(30))
        let more = got.wait(until: MonotonicClock.now() + .seconds(30)) { $0.count >= 150 ? $0 : nil }
        #expect(more?.suffix(50) == ArraySlice(Array(0..<50)))
    }

    @Test("Without a handler pushes wait behind a descriptor")
    func selectionObject() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let descriptor = client.pushDescriptor
        #expect(descriptor >= 0)
        _ = try client.call(Code.echo, [], timeout: .seconds(30))
        server.thread.sync { _ in _ = server.server!.peers[0].push(1, [5]) }
        #expect(try IO.waitUntil(descriptor, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        var got: [UInt8] = []
        #expect(client.dispatchPushes { got += $0.body } == 1)
        #expect(got == [5])
        _ = try client.call(Code.pushMe, [3], timeout: .seconds(30))
        #expect(try IO.waitUntil(descriptor, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        while got.count < 4 { client.dispatchPushes(timeout: .seconds(1)) { got += $0.body } }
        #expect(got == [5, 0, 1, 2])
        #expect(try !IO.waitUntil(descriptor, readable: true, deadline: MonotonicClock.now()))
    }

    @Test("A client on a loop calls, gets pushes and sees the server go and come")
    func loopClient() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let own = LoopThread()
        defer { own.stop() }
        let places = home.places
        let events = Monitor<[String]>([])
        let box = Confined<LoopConnection?>(nil)
        own.sync { loop in
            let client = LoopConnection(loop: loop, to: .wellKnown(.ckptd), places: places)
            client.onUp = { changed in events.update { $0.append("up \(changed)") } }
            client.onDown = { events.update { $0.append("down") } }
            client.onPush = { code, body, _ in events.update { $0.append("push \(code) \(Array(body))") } }
            client.call(Code.pushMe, [1], timeout: .seconds(10)) { result in
                events.update { $0.append((try? result.get()) != nil ? "answered" : "\(result)") }
            }
            box.value = client
        }
        let deadline = MonotonicClock.now() + .seconds(20)
        #expect(events.wait(until: deadline) { $0.count >= 3 ? $0 : nil } == ["up false", "push 9 [0]", "answered"])
        server.closeServer()
        #expect(events.wait(until: deadline) { $0.count >= 4 ? $0.last : nil } == "down")
        own.sync { _ in
            box.value?.call(Code.echo, [8], timeout: .seconds(10)) { result in
                events.update { $0.append("echo \((try? result.get())?.body ?? [])") }
            }
        }
        server.open()
        #expect(events.wait(until: deadline) { $0.count >= 6 ? Array($0.suffix(2)) : nil } == ["up true", "echo [8]"])
        own.sync { _ in
            box.value?.call(Code.silent, [], timeout: .milliseconds(30)) { result in
                if case .failure(let error) = result { events.update { $0.append("\(error.code.rawValue)") } }
            }
        }
        #expect(events.wait(until: deadline) { $0.count >= 7 ? $0.last : nil } == "\(AisError.timeout.rawValue)")
        own.sync { _ in
            box.value?.close()
            box.value = nil
        }
    }
}
