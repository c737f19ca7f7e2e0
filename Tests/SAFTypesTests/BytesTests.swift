import SAFTypes
import Testing

@Suite("Bytes")
struct BytesTests {
    private struct Sample: WireCodable, Equatable {
        var number: UInt32
        var flag: Bool
        var name: SaName
        var node: NodeID?

        init(number: UInt32, flag: Bool, name: SaName, node: NodeID?) {
            (self.number, self.flag, self.name, self.node) = (number, flag, name, node)
        }
        func encode(to writer: inout ByteWriter) {
            writer.integer(number)
            writer.bool(flag)
            writer.value(name)
            writer.optional(node)
        }
        init(decoding reader: inout ByteReader) throws(DecodeError) {
            number = try reader.integer()
            flag = try reader.bool()
            name = try reader.value()
            node = try reader.optional()
        }
    }

    private static let sample = Sample(number: 0x0403_0201, flag: true, name: SaName("ab")!, node: NodeID(7))

    @Test("Golden bytes: little-endian, no padding")
    func golden() {
        // number u32 · flag u8 · length u32 · "ab" · present u8 · node u32
        #expect(Self.sample.encoded == [1, 2, 3, 4, 1, 2, 0, 0, 0, 97, 98, 1, 7, 0, 0, 0])
    }

    @Test("Round trip; every truncation and every longer form is refused")
    func roundTrip() throws {
        let bytes = Self.sample.encoded
        #expect(try Sample(decoding: bytes) == Self.sample)
        for length in bytes.indices {
            #expect(throws: DecodeError.self) { try Sample(decoding: Array(bytes.prefix(length))) }
        }
        #expect(throws: DecodeError.trailing(1)) { try Sample(decoding: bytes + [0]) }
    }

    @Test("A boolean is 0 or 1, text is UTF-8, and a length never allocates more than there is")
    func refusals() {
        var bytes = Self.sample.encoded
        bytes[4] = 2
        #expect(throws: DecodeError.self) { try Sample(decoding: bytes) }
        func refuses(_ bytes: [UInt8], _ read: (inout ByteReader) throws -> Void) -> Bool {
            bytes.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                do {
                    try read(&reader)
                    return false
                } catch {
                    return error is DecodeError
                }
            }
        }
        #expect(refuses([2, 0, 0, 0, 0xff, 0xfe]) { _ = try $0.string() })
        #expect(refuses([255, 255, 255, 255]) { _ = try $0.byteString() })
        #expect(refuses([255, 255, 255, 255]) { _ = try $0.list(of: NodeID.self, max: .max) })
    }

    @Test("A length written later is put where it belongs")
    func patch() {
        var writer = ByteWriter()
        writer.integer(UInt16(0))
        writer.raw([9, 9])
        writer.patch(UInt16(0x0102), at: 0)
        #expect(writer.bytes == [2, 1, 9, 9])
    }
}

@Suite("Names and errors")
struct NameTests {
    @Test("AIS Overview §3.3.9: a name has 1 to 256 octets, any of them", arguments: [0, 1, 256, 257])
    func lengths(count: Int) {
        #expect((SaName([UInt8](repeating: 0, count: count)) != nil) == (1...256).contains(count))
    }

    @Test("Names are octets: what is not UTF-8 stays different")
    func octets() {
        #expect(SaName([0xff]) != SaName([0xfe]))
        #expect(SaName([1])! < SaName([2])!)
    }

    @Test("saAis.h: the numbers of the error codes")
    func codes() {
        #expect(AisError.library.rawValue == 2)
        #expect(AisError.notExist.rawValue == 12)
        #expect(AisError.unavailable.rawValue == 31)
        #expect(AisError(rawValue: 1) == nil, "SA_AIS_OK is no error")
        #expect(AisError.allCases.allSatisfy { $0.description.hasPrefix("SA_AIS_ERR_") })
    }
}
