import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

/// A connection by hand.
struct RawConnection: ~Copyable {
    let socket: Descriptor

    init(to ip: String, port: UInt16) {
        socket = must { () throws(OSError) in
            try TcpSocket.connect(to: try SocketAddress(ip, port: port))
        }
        _ = must { () throws(OSError) in
            try IO.waitUntil(socket.raw, writable: true, deadline: MonotonicClock.now() + .seconds(30))
        }
    }

    func write(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { try? IO.write(socket.raw, $0) } }

    /// Everything until the other side hangs up; nil when it does not.
    func readToEnd(_ limit: Duration = .seconds(30)) -> [UInt8]? {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        let deadline = MonotonicClock.now() + limit
        while (try? IO.waitUntil(socket.raw, readable: true, deadline: deadline)) == true {
            let count = buffer.withUnsafeMutableBytes { (try? IO.read(socket.raw, into: $0)) ?? 0 }
            if count == 0 { return all }
            all += buffer.prefix(count)
        }
        return nil
    }
}

@Suite("Links and hostile peers")
struct LinkHostileTests {
    let net = TestNet()

    private static func hello(_ change: (inout LinkHello) -> Void = { _ in }) -> [UInt8] {
        var hello = LinkHello(service: 4, node: NodeID(1), meant: NodeID(2), incarnation: 5, cluster: "test")
        change(&hello)
        let body = hello.encoded
        return LinkHeader(kind: .hello, lane: .control, length: body.count).encoded + body
    }

    @Test("A hello that does not fit is refused with what was expected")
    func wrongHello() {
        let two = TestNode(net.settings(2))
        let cases: [([UInt8], String)] = [
            (Self.hello { $0.cluster = "other" }, "this is \"test\""),
            (Self.hello { $0.service = 5 }, "this is ckptd"),
            (Self.hello { $0.meant = NodeID(7) }, "this is node 2"),
            (Self.hello { $0.node = NodeID(9) }, "not configured"),
            (
                Self.hello {
                    $0.versionMin = 2; $0.versionMax = 3
                }, "1 is spoken here"
            ),
        ]
        for (bytes, text) in cases {
            let raw = RawConnection(to: net.ip(2), port: net.port)
            raw.write(bytes)
            let answer = raw.readToEnd().map { String(decoding: $0, as: UTF8.self) } ?? "nothing"
            #expect(answer.contains(text), "\(answer)")
            #expect(eventually { two.seen.withLock { $0.troubles.contains { $0.contains(text) } } })
        }
        two.stop()
    }

    @Test("Garbage, size bombs and frames before the hello end the connection; others go on")
    func garbage() {
        let (one, two) = (TestNode(net.settings(1)), TestNode(net.settings(2)))
        let attacks: [[UInt8]] = [
            Array("GET / HTTP/1.1\r\nHost: a.b.c.d.e.f\r\n\r\n".utf8), [UInt8](repeating: 0xff, count: 4000),
            LinkHeader(kind: .hello, length: 100_000).encoded + [UInt8](repeating: 0, count: 100_000),
            LinkHeader(kind: .request, length: 0).encoded,
            LinkHeader(kind: .request, length: 5, flags: .pieces).encoded
                + LinkHeader(kind: .piece, length: 5).encoded + [1, 2, 3, 4, 5],
            Self.hello() + LinkHeader(kind: .reply).encoded, Self.hello() + Self.hello(),
            Self.hello() + LinkHeader(kind: .request, length: 0xffff_ffff, flags: .pieces).encoded,
        ]
        for attack in attacks {
            let raw = RawConnection(to: net.ip(2), port: net.port)
            raw.write(attack)
            #expect(raw.readToEnd() != nil, "\(attack.prefix(40))")
        }
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        one.stop()
        two.stop()
    }

    @Test("Who says nothing, or a byte now and then, is closed at the deadline; strangers are bounded")
    func slowloris() {
        var options = LinkOptions()
        options.handshakeTimeout = .milliseconds(300)
        let one = TestNode(net.settings(1))
        let two = TestNode(net.settings(2), options: options)
        let slow = RawConnection(to: net.ip(2), port: net.port)
        slow.write(Array(Self.hello().prefix(40)))
        #expect(slow.readToEnd() != nil)
        var crowd: [SharedDescriptor] = []
        for _ in 0..<30 {
            guard let socket = try? TcpSocket.connect(to: SocketAddress(net.ip(2), port: net.port)) else { continue }
            crowd.append(SharedDescriptor(socket))
        }
        #expect(eventually { two.seen.withLock { $0.troubles.contains { $0.contains("too many connections") } } })
        #expect(two.on { _ in two.links.strangers.count } <= 8)
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))
        #expect(crowd.count == 30)
        one.stop()
        two.stop()
    }
}
