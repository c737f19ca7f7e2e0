import LogClient
import OSAL
import Synchronization

// logwriter COUNTER COUNT [OUTPUT]: writes COUNT records `record N …` (0: without end) into the log of its places, each
// of another length, and stores in the file COUNTER (8 bytes, in memory) how many have been committed. A record that
// finds the ring full is written again. With OUTPUT it prints that many bytes a line on stdout, without end.

let arguments = CommandLine.arguments
guard arguments.count >= 3, let count = UInt64(arguments[2]) else {
    StandardError.write("usage: logwriter COUNTER COUNT [OUTPUT]\n")
    Environment.exit(2)
}
if arguments.count > 3, let bytes = Int(arguments[3]) {
    let line = [UInt8](repeating: UInt8(ascii: "x"), count: bytes) + [UInt8(ascii: "\n")]
    while true {
        // The end is non-blocking: what does not fit is lost, as for any component.
        line.withUnsafeBytes { _ = try? IO.write(1, $0) }
    }
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
