import IOC
import SAFTypes

/// A frame through a ring of IOC, within one thread, beside copying its body twice: in and out.
enum MessageRingBenches {
    static func all() throws -> [Comparison] { try [64, 4_096].map(ring) }

    private static func ring(_ size: Int) throws -> Comparison {
        let layout = RingLayout.standard
        // The benches' memory is never given back: it lives as long as the program.
        let area = UnsafeMutableRawPointer.allocate(byteCount: layout.totalSize, alignment: 4_096)
        area.initializeMemory(as: UInt8.self, repeating: 0, count: layout.totalSize)
        let (writer, reader) = (RingWriter(area: area, layout: layout), RingReader(area: area, layout: layout))
        let source = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        let middle = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        source.initializeMemory(as: UInt8.self, repeating: 7)
        let header = FrameHeader(kind: .oneWay, lane: .normal, code: 1, length: size)
        return Comparison(
            name: "ioc.ring.\(size)",
            subject: Work("write, wake, take") { count in
                for _ in 0..<count {
                    guard writer.write(header, UnsafeRawBufferPointer(source), lane: .normal) == .written,
                        writer.takeWake() == 0, let view = try reader.peek(.normal)
                    else { throw BenchError("the ring did not carry the frame") }
                    target.copyMemory(from: view.body)
                    reader.consume(view, lane: .normal)
                    keep(target[0])
                }
            },
            peer: Work("memcpy twice") { count in
                for _ in 0..<count {
                    middle.copyMemory(from: UnsafeRawBufferPointer(source))
                    keep(middle[0])
                    target.copyMemory(from: UnsafeRawBufferPointer(middle))
                    keep(target[0])
                }
            })
    }
}
