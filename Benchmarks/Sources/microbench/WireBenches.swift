import IOC
import SAFTypes

/// Encoding and decoding a frame of 64 bytes beside copying its bytes.
enum WireBenches {
    static let header = FrameHeader(kind: .request, lane: .normal, code: 7, length: 64, number: 9, acknowledged: 8)

    static func all() throws -> [Comparison] {
        let body = [UInt8](repeating: 5, count: 64)
        let frame = encoded(body)
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: frame.count, alignment: 8)
        let copy = Work("memcpy of \(frame.count) bytes") { count in
            frame.withUnsafeBytes { source in
                for _ in 0..<count {
                    target.copyMemory(from: source)
                    keep(target[0])
                }
            }
        }
        let writer = kept(ByteWriter(reserving: 256))
        return [
            Comparison(
                name: "types.encode",
                subject: Work("ByteWriter, a frame") { count in
                    for _ in 0..<count {
                        writer.pointee.removeAll()
                        writer.pointee.value(header)
                        writer.pointee.byteString(body)
                        keep(writer.pointee.count)
                    }
                }, peer: copy),
            Comparison(
                name: "types.decode",
                subject: Work("ByteReader, a frame") { count in
                    try frame.withUnsafeBytes { source throws in
                        for _ in 0..<count {
                            var reader = ByteReader(source)
                            let header: FrameHeader = try reader.value()
                            let body = try reader.byteStringView(max: 1 << 20)
                            try reader.finish()
                            keep(header.number)
                            keep(body.count)
                        }
                    }
                }, peer: copy),
        ]
    }

    private static func encoded(_ body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.value(header)
        writer.byteString(body)
        return writer.bytes
    }
}
