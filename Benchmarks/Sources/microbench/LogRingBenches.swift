import LogClient
import LogProtocol
import OSAL

/// A log record of 100 bytes into the process's ring beside copying as many.
enum LogRingBenches {
    static func all() throws -> [Comparison] {
        let directory = try File.makeTemporaryDirectory("/dev/shm/microbench-log")
        defer { try? File.removeTree(directory) }  // what is mapped stays
        let ring = try RingWriter.create(
            directory: directory, process: Environment.processID, startTime: 1, program: "microbench", node: "node1")
        let file = try SharedFile.open(ring.path, writable: true)
        let text = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 64)
        text.initializeMemory(as: UInt8.self, repeating: 120)
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 64)
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        let record = RingWriter.Record(
            time: 1, severity: .notice, stream: .application, line: 1, area: empty, context: empty, file: empty,
            message: UnsafeRawBufferPointer(text))
        return [
            Comparison(
                name: "logd.ring.100",
                subject: Work("RingWriter.append") { count in
                    let reserved = file.mapping.base.atomic(UInt64.self, at: RingLayout.reservedOffset)
                    let consumed = file.mapping.base.atomic(UInt64.self, at: RingLayout.consumedOffset)
                    for _ in 0..<count {
                        // As a drainer that is always quick enough.
                        if ring.append(record) == .writtenAboveHalf {
                            consumed.pointee.store(reserved.pointee.load(ordering: .relaxed), ordering: .releasing)
                        }
                    }
                    withExtendedLifetime(file) {}
                    if ring.droppedCount != 0 { throw BenchError("\(ring.droppedCount) records were dropped") }
                },
                peer: Work("memcpy of 100 bytes") { count in
                    for _ in 0..<count {
                        target.copyMemory(from: UnsafeRawBufferPointer(text))
                        keep(target[0])
                    }
                })
        ]
    }
}
