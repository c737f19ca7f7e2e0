import EngineKit
import SAFTypes
import Testing

/// Checks what every wire type promises: the golden bytes, the way back, and refusal of whatever is cut or random.
func checkWire<Value: WireCodable & Equatable>(
    _ value: Value, golden: String? = nil, _ location: SourceLocation = #_sourceLocation
) {
    let bytes = value.encoded
    if let golden { #expect(hex(bytes) == golden.filter { $0 != " " && $0 != "\n" }, sourceLocation: location) }
    #expect((try? Value(decoding: bytes)) == value, sourceLocation: location)
    for count in 0..<bytes.count {
        #expect(throws: DecodeError.self, "cut to \(count) bytes", sourceLocation: location) {
            try Value(decoding: Array(bytes[..<count]))
        }
    }
    #expect(throws: DecodeError.self, sourceLocation: location) { try Value(decoding: bytes + [0]) }
    var random = SeededRandom(seed: UInt64(bytes.count))
    for _ in 0..<300 {
        var mutated = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) where !mutated.isEmpty {
            mutated[Int.random(in: 0..<mutated.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
        }
        if let decoded = try? Value(decoding: mutated) {
            #expect((try? Value(decoding: decoded.encoded)) == decoded, "\(mutated)", sourceLocation: location)
        }
    }
}

func hex(_ bytes: [UInt8]) -> String {
    bytes.map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
    }.joined()
}
