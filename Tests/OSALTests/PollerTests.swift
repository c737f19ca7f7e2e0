import EngineKit
import Testing

@testable import OSAL

@Suite struct PollerTests {
    @Test("Readable, writable and hang-up are told apart, under the owner's token")
    func interests() throws {
        let poller = try Poller()
        let pair = try UnixSocket.pair(kind: .seqPacket)
        let near = pair.first
        let far = pair.second
        try poller.add(near.raw, interest: .read, token: 42)
        var events: [PollEvent] = []
        try poller.wait(into: &events, timeout: .zero)
        #expect(events.isEmpty)
        _ = try bytes("hello").withUnsafeBytes { try UnixSocket.send(far.raw, $0) }
        #expect(try poller.wait(into: &events, timeout: .seconds(10)) == 1)
        #expect(events.map(\.token) == [42] && events[0].readable && !events[0].writable && !events[0].hangup)
        try poller.modify(near.raw, interest: [.read, .write], token: 43)
        try poller.wait(into: &events, timeout: .seconds(10))
        #expect(events.map(\.token) == [43] && events[0].readable && events[0].writable)
        IO.close(far.release())
        try poller.wait(into: &events, timeout: .seconds(10))
        #expect(events.first?.hangup == true && events.first?.readable == true, "the last message is still there")
        try poller.remove(near.raw)
        try poller.wait(into: &events, timeout: .zero)
        #expect(events.isEmpty)
    }

    @Test("Edge-triggered interest reports a change once")
    func edges() throws {
        let poller = try Poller()
        let bell = try Doorbell()
        try poller.add(bell.raw, interest: [.read, .edgeTriggered], token: 1)
        var events: [PollEvent] = []
        bell.ring()
        #expect(try poller.wait(into: &events, timeout: .seconds(10)) == 1)
        #expect(try poller.wait(into: &events, timeout: .zero) == 0)
        bell.ring()
        #expect(try poller.wait(into: &events, timeout: .seconds(10)) == 1)
    }

    @Test("A wait ends at its time-out, not before")
    func timeout() throws {
        let poller = try Poller()
        var events: [PollEvent] = []
        let start = MonotonicClock.now()
        #expect(try poller.wait(into: &events, timeout: .milliseconds(20)) == 0)
        #expect(MonotonicClock.now() - start >= .milliseconds(20))
    }

    @Test("A descriptor that cannot be watched is an error")
    func notWatchable() throws {
        let poller = try Poller()
        let file = try File.open("/etc/passwd")
        #expect(throws: OSError.self) { try poller.add(file.raw, interest: .read, token: 0) }
        #expect(throws: OSError.self) { try poller.add(-1, interest: .read, token: 0) }
    }

    @Test("A bell rung many times, also by another thread, is one ring")
    func doorbell() throws {
        let bell = try Doorbell()
        #expect(!Doorbell.drain(bell.raw))
        let number = bell.raw
        let thread = try OSThread.spawn(name: "ringer") { for _ in 0..<100 { Doorbell.ring(number) } }
        #expect(try IO.waitUntil(bell.raw, readable: true, deadline: soon))
        thread.join()
        #expect(Doorbell.drain(bell.raw))
        #expect(!Doorbell.drain(bell.raw))
    }

    @Test("A timer descriptor becomes readable at its deadline, can be moved and disarmed")
    func timer() throws {
        let timer = try TimerDescriptor()
        let deadline = MonotonicClock.now() + .milliseconds(10)
        try timer.arm(at: deadline)
        var expired = timer.drain()
        #expect(!expired)
        #expect(try IO.waitUntil(timer.raw, readable: true, deadline: soon))
        expired = timer.drain()
        #expect(MonotonicClock.now() >= deadline && expired)
        try timer.arm(at: .start)
        #expect(try IO.waitUntil(timer.raw, readable: true, deadline: soon), "the past is due at once")
        try timer.arm(at: .distantFuture)
        try timer.arm(at: nil)
        expired = timer.drain()
        #expect(!expired)
    }

    @Test("Signals come as something to read, with their sender")
    func signals() throws {
        let helper = try Helper("signals")
        #expect(try helper.line() == "ready")
        try helper.send(.user1)
        #expect(try helper.line() == "SIGUSR1 from \(Environment.processID)")
        try helper.send(.terminate)
        #expect(try helper.line() == "SIGTERM from \(Environment.processID)")
        #expect(helper.end() == .exited(code: 0))
    }

    @Test("A watched directory tells of what is moved into it, and when it has gone")
    func directoryWatch() throws {
        let scratch = try Scratch()
        let place = scratch("place")
        try File.makeDirectories(place)
        let watch = try DirectoryWatch(place)
        #expect(try !IO.waitUntil(watch.raw, readable: true, deadline: MonotonicClock.now()))
        try File.writeAtomically(place + "/thing", text: "x", durable: false)
        #expect(try IO.waitUntil(watch.raw, readable: true, deadline: soon))
        let isWatched = watch.drain()
        #expect(isWatched)
        #expect(try !IO.waitUntil(watch.raw, readable: true, deadline: MonotonicClock.now()), "drained")
        try File.removeTree(place)
        #expect(try IO.waitUntil(watch.raw, readable: true, deadline: soon))
        let isGone = !watch.drain()
        #expect(isGone)
        #expect(throws: OSError.self) { _ = try DirectoryWatch(place) }
    }
}
