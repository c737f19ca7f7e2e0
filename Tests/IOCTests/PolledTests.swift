import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import IOC

/// Calls on the caller's own threads only, as the C libraries make them.
@Suite("IOC calls without a thread")
struct PolledTests {
    let home = TestPlaces()

    private func isReadable(_ descriptor: Int32, within limit: Duration = .seconds(30)) throws -> Bool {
        try IO.waitUntil(descriptor, readable: true, deadline: MonotonicClock.now() + limit)
    }

    /// Looks whenever the descriptor says so, until `box` has something.
    private func poll<Value>(_ client: IOCConnection, _ box: Monitor<Value?>) throws -> Value? {
        let deadline = MonotonicClock.now() + .seconds(30)
        while MonotonicClock.now() < deadline {
            if let value = box.wait(until: MonotonicClock.now(), { $0 }) { return value }
            _ = try isReadable(client.pushDescriptor)
            client.poll()
        }
        return nil
    }

    @Test("An answer makes the descriptor readable, and one look completes the call")
    func answered() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let descriptor = client.pushDescriptor
        client.connectNow()
        #expect(client.isUp)
        #expect(try !isReadable(descriptor, within: .zero))
        let answer = Monitor<[UInt8]?>(nil)
        client.callPolled(Code.echo, [1, 2, 3], timeout: .seconds(30)) { result in
            answer.update { $0 = (try? result.get())?.body ?? [] }
        }
        #expect(try isReadable(descriptor))
        client.poll()
        #expect(answer.wait(until: MonotonicClock.now()) { $0 } == [1, 2, 3])
        #expect(try !isReadable(descriptor, within: .zero))
    }

    @Test("A call that waits reads for one that does not")
    func readByAnother() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let answer = Monitor<[UInt8]?>(nil)
        client.connectNow()
        client.callPolled(Code.echo, [7], timeout: .seconds(30)) { result in
            answer.update { $0 = (try? result.get())?.body ?? [] }
        }
        _ = try client.call(Code.echo, [8], timeout: .seconds(30))
        #expect(answer.wait(until: MonotonicClock.now()) { $0 } == [7])
    }

    @Test("A call that is not answered ends when its time is over, without anybody else")
    func late() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let outcome = Monitor<AisErrorBox?>(nil)
        client.callPolled(Code.silent, [], timeout: .milliseconds(50)) { outcome.take($0) }
        #expect(try poll(client, outcome)?.code == .timeout)
    }

    @Test("Without a server a call waits for it, and ends with TRY_AGAIN when it does not come")
    func absent() throws {
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        let outcome = Monitor<AisErrorBox?>(nil)
        client.callPolled(Code.echo, [], timeout: .milliseconds(50)) { outcome.take($0) }
        #expect(try poll(client, outcome)?.code == .tryAgain)
        let answer = Monitor<AisErrorBox?>(nil)
        client.callPolled(Code.echo, [], timeout: .seconds(60)) { answer.take($0) }
        client.poll()
        let server = TestServer(home.places)
        defer { server.stop() }
        #expect(try poll(client, answer)?.code == .some(nil))
    }

    @Test("A server that goes and comes again is found, and asked what it has not answered")
    func restarted() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        client.connectNow()
        let descriptor = client.pushDescriptor
        server.closeServer()
        #expect(try isReadable(descriptor), "the hang-up")
        client.poll()
        let answer = Monitor<AisErrorBox?>(nil)
        client.callPolled(Code.echo, [], timeout: .seconds(60)) { answer.take($0) }
        client.poll()
        server.open()
        #expect(try poll(client, answer)?.code == .some(nil))
    }

    @Test("A job runs in the first look after its delay")
    func jobs() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        _ = client.pushDescriptor
        let ran = Monitor<Bool?>(nil)
        let start = MonotonicClock.now()
        client.runPolled(after: .milliseconds(30)) { ran.update { $0 = true } }
        client.poll()
        #expect(ran.wait(until: start) { $0 } == nil || MonotonicClock.now() - start >= .milliseconds(30))
        #expect(try poll(client, ran) == true)
        #expect(MonotonicClock.now() - start >= .milliseconds(30))
    }
}

/// The outcome of a call; nil: it was answered.
struct AisErrorBox: Sendable {
    let code: AisError?
}

extension Monitor where State == AisErrorBox? {
    fileprivate func take(_ result: Result<Reply, CallError>) {
        switch result {
        case .success: update { $0 = AisErrorBox(code: nil) }
        case .failure(let error): update { $0 = AisErrorBox(code: error.code) }
        }
    }
}
