import LogProtocol
import SAFTypes
import Testing

@Suite("Formats of records")
struct RecordFormatTests {
    /// 2026-03-01T13:04:05.067 UTC, a Sunday.
    private static let time: Int64 = 1_772_370_245_067_000_000

    private func line(
        _ expression: String, _ message: String = "hello", size: Int = 0, number: UInt64 = 7, at time: Int64 = time
    ) throws -> String {
        let format = try RecordFormat(expression)
        let record = RecordLayout.encode(
            message, severity: .warning, stream: .clusterSystem, area: "A", context: "C", time: time)
        var out: [UInt8] = []
        try record.withUnsafeBytes { bytes in
            format.append(
                try LogRecordView(decoding: bytes), number: number,
                of: .init(node: Array("n1".utf8), program: Array("shop".utf8)), size: size, to: &out)
        }
        return String(decoding: out, as: UTF8.self)
    }

    @Test("Each token, as A.02.01 lays it out")
    func tokens() throws {
        #expect(try line("@Cr|") == "         7|\n")
        #expect(try line("@Cr", number: 123_456_789_012) == "3456789012\n", "numbers lose their beginning")
        #expect(try line("@Ct", at: 0x1234_5678_9abc) == "0x0000123456789abc\n")
        #expect(try line("@Ch:@Cn:@Cs.@Ck@Cz @Cm/@Cd/@CY @Cy @CM @CD") == "13:04:05.067+0000 03/01/2026 26 Mar Sun\n")
        #expect(try line("@Ch@Ca") == "01pm\n")
        #expect(try line("@Ch@Ca", at: 1_772_323_200_000_000_000) == "12am\n")
        #expect(try line("@CD", at: -1) == "Wed\n")
        #expect(try line("@Cc") == "NCI[0x00000000,0x0000,0x0000]\n")
        #expect(try line("@Sv @Sl @Cq @Cx") == "WA shop n1 C\n")
        #expect(try line("@Sl6|") == "shop  |\n")
        #expect(try line("\"@Cb\"", "a\tb\u{e9}") == "\"a_b__\"\n", "what cannot be printed")
        #expect(try line("@Cb3|", "hello") == "hel|\n")
        #expect(try line("@Cb8|", "hello") == "hello   |\n")
        #expect(try line("@Ci", "AZ") == "415a\n")
        #expect(try line("@Ci3|", "AZ") == "415|\n")
        #expect(try line("@Ci6|", "AZ") == "415a  |\n")
    }

    @Test("A fixed size: filled with blanks, or cut and marked; the newline counts")
    func fixedSize() throws {
        #expect(try line("@Cx @Cb", size: 10) == "C hello  \n")
        #expect(try line("@Cx @Cb", size: 6) == "T hel\n")
        #expect(try line("@Cx @Cb", size: 8) == "C hello\n")
    }

    @Test(
        "What is no format is refused, with what is wrong",
        arguments: ["", "@", "x@", "@C", "@Cr @Cr", "@Nt", "@Nb", "@Sx", "@Cb99999", "a\u{7}", "\u{e9}"])
    func faults(_ expression: String) {
        #expect(throws: RecordFormat.Fault.self) { try RecordFormat(expression) }
        #expect(StreamAttributes(fileName: "a", format: expression).fault != nil || expression.isEmpty)
    }

    @Test("Fixed records have a size that files hold")
    func attributes() {
        #expect(StreamAttributes(fileName: "a", format: "@Cb", recordBytes: 150).fault == nil)
        for bytes: UInt32 in [1, 149, 65_536] {
            #expect(StreamAttributes(fileName: "a", format: "@Cb", recordBytes: bytes).fault != nil)
        }
        #expect(StreamAttributes(fileName: "a", fileBytesMax: 4096, format: "@Cb", recordBytes: 5000).fault != nil)
        #expect(StreamAttributes(fileName: "a", recordBytes: 150).fault != nil, "only with a format")
    }
}
