import EngineKit
import Testing

@testable import OSAL

@Suite struct UnixSocketTests {
    func receive(_ fd: Int32, size: Int = 1024, descriptorsMax: Int = 16) throws -> (
        bytes: [UInt8], received: Received
    )? {
        #expect(try IO.waitUntil(fd, readable: true, deadline: soon))
        var buffer = [UInt8](repeating: 0, count: size)
        let received = try buffer.withUnsafeMutableBytes {
            try UnixSocket.receive(fd, into: $0, descriptorsMax: descriptorsMax)
        }
        return received.map { (Array(buffer[0..<min($0.count, size)]), $0) }
    }

    func send(_ fd: Int32, _ text: String, descriptors: [Int32] = []) throws -> Int? {
        try bytes(text).withUnsafeBytes { try UnixSocket.send(fd, $0, descriptors: descriptors) }
    }

    @Test("A client connects, both know each other's pid, messages keep their boundaries, and the end is seen")
    func conversation() throws {
        let scratch = try Scratch()
        let listener = try UnixSocket.listen(at: scratch("socket"), kind: .seqPacket, mode: 0o600)
        #expect(try File.stat(scratch("socket")).mode == 0o600)
        let none = try UnixSocket.accept(on: listener.raw) == nil
        #expect(none)
        let client = try UnixSocket.connect(to: scratch("socket"), kind: .seqPacket)
        let accepted = try UnixSocket.accept(on: listener.raw)
        guard let server = consume accepted else {
            Issue.record("nobody came")
            return
        }
        let credentials = try UnixSocket.peerCredentials(server.raw)
        #expect(
            credentials
                == PeerCredentials(pid: Environment.processID, uid: Environment.userID, gid: Environment.groupID))
        #expect(try send(client.raw, "one") == 3)
        #expect(try send(client.raw, "three") == 5)
        #expect(try receive(server.raw)?.bytes.text == "one")
        #expect(try receive(server.raw)?.bytes.text == "three")
        var buffer = [UInt8](repeating: 0, count: 8)
        let nothing = try buffer.withUnsafeMutableBytes { try UnixSocket.receive(server.raw, into: $0) } == nil
        #expect(nothing)
        IO.close(client.release())
        #expect(try receive(server.raw)?.received.count == 0)
        do {
            _ = try send(server.raw, "too late")
            Issue.record("sent")
        } catch let error as OSError { #expect(error.isPeerGone) }
    }

    @Test("A socket file left by the dead is replaced, a living listener is refused by name")
    func staleAndLive() throws {
        let scratch = try Scratch()
        do { _ = try UnixSocket.listen(at: scratch("socket"), kind: .seqPacket, mode: 0o600) }
        #expect(File.exists(scratch("socket")), "the dead one's file stays")
        #expect(throws: OSError.self) { _ = try UnixSocket.connect(to: scratch("socket"), kind: .seqPacket) }
        let listener = try UnixSocket.listen(at: scratch("socket"), kind: .seqPacket, mode: 0o666)
        #expect(listener.raw >= 0)
        do {
            _ = try UnixSocket.listen(at: scratch("socket"), kind: .seqPacket, mode: 0o600)
            Issue.record("two listen")
        } catch {
            #expect(error.isAddressInUse && error.description.contains(scratch("socket")))
        }
        #expect(try File.list(scratch.path) == ["socket"], "nothing else is left")
    }

    @Test("A path that does not fit is refused with its length, a missing directory with its name")
    func badPaths() throws {
        do {
            _ = try UnixSocket.listen(at: "/tmp/" + String(repeating: "x", count: 120), kind: .stream, mode: 0o600)
            Issue.record("listens")
        } catch { #expect(error.description.contains("125 bytes")) }
        do {
            _ = try UnixSocket.listen(at: "/nonexistent/socket", kind: .stream, mode: 0o600)
            Issue.record("listens")
        } catch { #expect(error.isNotFound && error.description.contains("/nonexistent/socket")) }
        #expect(throws: OSError.self) { _ = try UnixSocket.connect(to: "", kind: .stream) }
    }

    @Test("Descriptors travel with a message; what was not asked for is closed and said")
    func descriptors() throws {
        let pair = try UnixSocket.pair(kind: .seqPacket)
        let pipe = try makePipe()
        #expect(try send(pair.first.raw, "pipe", descriptors: [pipe.second.raw, pipe.first.raw]) == 4)
        let whole = try #require(try receive(pair.second.raw))
        #expect(whole.received.descriptors.count == 2 && !whole.received.truncated)
        let passed = Descriptor(owning: whole.received.descriptors[0])
        IO.close(whole.received.descriptors[1])
        _ = try bytes("through").withUnsafeBytes { try passed.write($0) }
        var buffer = [UInt8](repeating: 0, count: 16)
        #expect(try buffer.withUnsafeMutableBytes { try IO.read(pipe.first.raw, into: $0) } == 7)

        #expect(try send(pair.first.raw, "two", descriptors: [pipe.first.raw, pipe.first.raw]) == 3)
        let one = try #require(try receive(pair.second.raw, descriptorsMax: 1))
        #expect(one.received.descriptors.count == 1 && one.received.truncated)
        one.received.descriptors.forEach { IO.close($0) }

        #expect(try send(pair.first.raw, "longer than four") == 16)
        let cut = try #require(try receive(pair.second.raw, size: 4))
        #expect(cut.received.truncated && cut.bytes.text == "long")
    }

    @Test("A peer that does not read fills its queue; the sender is told, not stopped")
    func full() throws {
        let pair = try UnixSocket.pair(kind: .seqPacket)
        let message = String(repeating: "x", count: 4096)
        var sent = 0
        while sent < 100_000, try send(pair.first.raw, message) != nil { sent += 1 }
        #expect(sent > 0 && sent < 100_000)
        _ = try receive(pair.second.raw, size: 4096)
        #expect(try send(pair.first.raw, message) == 4096)
    }

    @Test("A stream carries bytes without boundaries")
    func stream() throws {
        let pair = try UnixSocket.pair(kind: .stream)
        #expect(try send(pair.first.raw, "one") == 3)
        #expect(try send(pair.first.raw, "two") == 3)
        #expect(try receive(pair.second.raw)?.bytes.text == "onetwo")
    }
}
