import EventClient
import EventProtocol
import OSAL
import SAFTypes

// eventworker publish CHANNEL NAME COUNTER [MILLISECONDS]  publishes NAME:0, NAME:1, … one after the other, pausing so
//   long after each, and stores in COUNTER (8 bytes, in memory) how many eventd has acknowledged. Ends when COUNTER's
//   second word is set.
// eventworker subscribe CHANNEL FILE        writes what comes, a line each, LOST for the mark; prints "ready" before.

let arguments = CommandLine.arguments
guard arguments.count >= 4 else {
    StandardError.write("usage: eventworker publish CHANNEL NAME COUNTER [MILLISECONDS] | subscribe CHANNEL FILE\n")
    Environment.exit(2)
}

func write(_ line: [UInt8], to file: borrowing Descriptor) throws(OSError) {
    let bytes = ContiguousArray(line + [UInt8(ascii: "\n")])
    try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
        try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
    }
}

func publish(_ channelName: String, _ name: String, _ path: String, pause: Duration) async throws {
    let counter = try SharedFile.open(path, writable: true)
    let acknowledged = counter.mapping.base.atomic(UInt64.self)
    let stop = counter.mapping.base.atomic(UInt64.self, at: 8)
    let channel = try await EventChannel.open(channelName, [.publisher, .create], timeout: .seconds(30))
    var number: UInt64 = 0
    while stop.pointee.load(ordering: .acquiring) == 0 {
        do throws(AisError) {
            try await channel.publish(data: Array("\(name):\(number)".utf8), timeout: .seconds(60))
        } catch {
            // Unknown outcomes would spoil the count: only a refusal may be tried again.
            guard error == .tryAgain else {
                StandardError.write("\(name):\(number): \(error)\n")
                Environment.exit(1)
            }
            continue
        }
        number += 1
        acknowledged.pointee.store(number, ordering: .releasing)
        // The rate that was asked for; nobody waits for it.
        if pause > .zero { try await Task.sleep(for: pause) }
    }
}

func subscribe(_ channelName: String, _ path: String) async throws {
    let file = try File.openForAppending(path)
    let channel = try await EventChannel.open(channelName, [.subscriber, .create], timeout: .seconds(30))
    let subscription = try await channel.subscribe(timeout: .seconds(30))
    try write(Array("ready".utf8), to: file)
    for await event in subscription {
        try write(event.isLost ? Array("LOST".utf8) : event.data, to: file)
    }
}

if arguments[1] == "publish", arguments.count >= 5 {
    let pause = arguments.count > 5 ? Int(arguments[5]) ?? 0 : 0
    try await publish(arguments[2], arguments[3], arguments[4], pause: .milliseconds(pause))
} else {
    try await subscribe(arguments[2], arguments[3])
}
