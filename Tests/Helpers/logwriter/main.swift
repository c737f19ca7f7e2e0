import EngineKit
import LogClient
import LogProtocol
import OSAL
import SAFTypes
import Synchronization

// logwriter COUNTER COUNT [OUTPUT]: writes COUNT records `record N …` (0: without end) into the log of its places, each
// of another length, and stores in the file COUNTER (8 bytes, in memory) how many have been committed. A record that
// finds the ring full is written again. With OUTPUT it prints that many bytes a line on stdout, without end.
//
// logwriter COUNTER COUNT stream FILENAME NAME PAUSE: the same into a global stream, which it opens or creates first;
// records are `NAME:N …`, with a pause of so many ms after each ten. Ends when the second word of COUNTER is set.

let arguments = CommandLine.arguments
guard arguments.count >= 3, let count = UInt64(arguments[2]) else {
    StandardError.write("usage: logwriter COUNTER COUNT [OUTPUT]\n")
    Environment.exit(2)
}
if arguments.count > 6, arguments[3] == "stream", let pause = Int(arguments[6]) {
    try writeGlobal(arguments[1], count, fileName: arguments[4], arguments[5], pause: .milliseconds(pause))
    Environment.exit(0)
}
if arguments.count > 3, let bytes = Int(arguments[3]) {
    let line = [UInt8](repeating: UInt8(ascii: "x"), count: bytes) + [UInt8(ascii: "\n")]
    while true {
        // The end is non-blocking: what does not fit is lost, as for any component.
        line.withUnsafeBytes { _ = try? IO.write(1, $0) }
    }
}
func rest(_ pause: Duration) { _ = try? IO.waitUntil(-1, deadline: MonotonicClock.now() + pause) }

func writeGlobal(_ path: String, _ count: UInt64, fileName: String, _ name: String, pause: Duration) throws {
    let counter = try SharedFile.open(path, writable: true)
    let committed = counter.mapping.base.atomic(UInt64.self)
    let stop = counter.mapping.base.atomic(UInt64.self, at: 8)
    let streams = LogStreams()
    let format = fileName == "plain" ? "" : "@Cr @Ch:@Cn:@Cs.@Ck @Sv (@Sl @Cq) @Cb"
    let attributes = StreamAttributes(fileName: fileName, fileBytesMax: 1 << 30, format: format)
    guard let title = SaName("safLgStr=\(fileName),safApp=test") else { Environment.exit(2) }
    var stream: LogStream?
    while stream == nil {
        stream = try? streams.open(title, creating: attributes)
        if stream == nil { rest(.milliseconds(50)) }
    }
    guard let stream else { Environment.exit(2) }
    let log = Log(stream: stream, area: "TST", context: "CTX")
    let padding = String(repeating: "abcdefghij", count: 40)
    var number: UInt64 = 0
    while (count == 0 || number < count), stop.pointee.load(ordering: .acquiring) == 0 {
        let before = log.writer.droppedCount
        log.notice("\(name):\(number) \(padding.prefix(Int(number * 37 % 200)))|")
        if log.writer.droppedCount != before {
            rest(.milliseconds(1))
            continue
        }
        number += 1
        committed.pointee.store(number, ordering: .releasing)
        if number % 10 == 0, pause > .zero { rest(pause) }
    }
    // The stream goes with its last opener.
    while stop.pointee.load(ordering: .acquiring) == 0 { rest(.milliseconds(10)) }
}

let file = try SharedFile.open(arguments[1], writable: true)
let committed = file.mapping.base.atomic(UInt64.self)
let log = Log(stream: .application, area: "TST", context: "CTX")
let padding = String(repeating: "abcdefghij", count: 40)
var number: UInt64 = 0
while count == 0 || number < count {
    let before = log.writer.droppedCount
    log.record(.notice, "record \(number) \(padding.prefix(Int(number * 37 % 400)))|")
    if log.writer.droppedCount != before {
        // Later it may fit; until then nobody waits for it but this test.
        OSThread.yield()
        continue
    }
    number += 1
    committed.pointee.store(number, ordering: .releasing)
}
