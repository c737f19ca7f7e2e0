import EngineKit
import LogProtocol
import SAFTypes
import Testing

@Suite("Wire of logd")
struct WireTests {
    static let requests: [LogRequest] = [
        .captureOutput(component: SaName("safComp=a")!, process: 77, output: .standardError),
        .tail(stream: nil, threshold: .notice, backlog: 10, follows: true),
        .tail(stream: .system, threshold: .trace, backlog: 10_000, follows: false),
        .setSeverity(.application, .debug), .setSeverity(.system, nil),
        .setRules("(*:*.*.*)[*]=DEBUG\n"), .setRotation(.system, fileBytesMax: 5_000_000, filesMax: 4), .status,
        .open(SaName("a")!, StreamAttributes(fileName: "orders")), .open(SaName("a")!, nil), .close(.alarm),
        .globalStatus,
    ]

    static let status = LogStatus(
        streams: [
            StreamStatus(
                stream: .system, severity: .info, file: "/x/system_1.log", fileBytes: 1, fileBytesMax: 2, filesMax: 3,
                records: 4, bytes: 5, dropped: 6, writeErrors: 7, lastError: "full")
        ],
        rings: [RingStatus(process: 1, program: "ckptd", records: 2, lost: 3, corrupt: 4)],
        outputs: [
            OutputStatus(
                component: SaName("c")!, process: 5, output: .standardOutput, bytes: 6, suppressions: 7,
                suppressedBytes: 8, isSuppressed: true)
        ], rules: "")

    @Test("The bytes of each request are these")
    func golden() {
        // length 9 · safComp=a · process 77 · output 2
        let name: [UInt8] = [9, 0, 0, 0] + Array("safComp=a".utf8)
        #expect(Self.requests[0].body == name + [77, 0, 0, 0, 2])
        // all streams · NOTICE · 10 lines · following
        #expect(Self.requests[1].body == [0, 6, 10, 0, 0, 0, 1])
        #expect(Self.requests[2].body == [1, 9, 0x10, 0x27, 0, 0, 0])
        #expect(Self.requests[3].body == [2, 8])
        #expect(Self.requests[4].body == [1, 0])
        // system · 5,000,000 · 4
        #expect(Self.requests[6].body == [1, 0x40, 0x4B, 0x4C, 0, 0, 0, 0, 0, 4, 0, 0, 0])
        #expect(Self.requests[7].body == [])
        #expect(Self.requests.map(\.code) == [1, 2, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9])
        // name · present · file name · 5,000,000 · 4 · rotate · all severities
        let attributes: [UInt8] =
            [6, 0, 0, 0] + Array("orders".utf8) + [0x40, 0x4B, 0x4C, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 0xFF, 1]
        #expect(Self.requests[8].body == [1, 0, 0, 0, 0x61, 1] + attributes)
        #expect(Self.requests[9].body == [1, 0, 0, 0, 0x61, 0])
        #expect(Self.requests[10].body == [4])
        #expect(
            LogLines(dropped: 3, bytes: Array("a\n".utf8)).encoded == [3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x61, 0x0A])
    }

    private func decode(_ code: UInt16, _ body: [UInt8]) throws -> LogRequest {
        try body.withUnsafeBytes { try LogRequest(code: code, body: $0) }
    }

    @Test("What was encoded is decoded; every truncation and every surplus is refused")
    func roundTrip() throws {
        for request in Self.requests {
            let body = request.body
            #expect(try decode(request.code, body) == request)
            for count in body.indices {
                #expect(throws: DecodeError.self) { try decode(request.code, Array(body[..<count])) }
            }
            #expect(throws: DecodeError.self) { try decode(request.code, body + [0]) }
        }
        #expect(try LogStatus(decoding: Self.status.encoded) == Self.status)
        for count in Self.status.encoded.indices {
            #expect(throws: DecodeError.self) { try LogStatus(decoding: Array(Self.status.encoded[..<count])) }
        }
        #expect(try RuleMistakes(decoding: RuleMistakes(texts: ["a", "b"]).encoded).texts == ["a", "b"])
    }

    @Test("Random bytes never trap", arguments: [1, 2, 3] as [UInt64])
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<3000 {
            let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...(Bool.random(using: &random) ? 9 : 255), using: &random)
            }
            for code in UInt16(0)...10 { _ = try? decode(code, bytes) }
            _ = try? LogLines(decoding: bytes)
            _ = try? LogStatus(decoding: bytes)
            _ = try? RuleMistakes(decoding: bytes)
        }
    }

    @Test("Values out of range are refused: rotation, backlog, process")
    func ranges() {
        let wrong: [LogRequest] = [
            .setRotation(.system, fileBytesMax: 10, filesMax: 4),
            .setRotation(.system, fileBytesMax: 5000, filesMax: 0),
            .tail(stream: nil, threshold: .info, backlog: 10_001, follows: true),
            .captureOutput(component: SaName("a")!, process: 0, output: .standardOutput),
            .setRotation(.alarm, fileBytesMax: 5000, filesMax: 4),
            .open(SaName("a")!, StreamAttributes(fileName: "../a")),
            .open(SaName("a")!, StreamAttributes(fileName: "a", fileBytesMax: 1)),
            .open(SaName("a")!, StreamAttributes(fileName: "a", filesMax: 128)),
        ]
        for request in wrong { #expect(throws: DecodeError.self) { try decode(request.code, request.body) } }
    }
}
