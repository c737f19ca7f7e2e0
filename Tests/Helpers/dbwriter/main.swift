import DBAL
import OSAL

// dbwriter ENGINE PATH NUMBER: writes NUMBER + 1, + 2, … under three keys at once, and prints each when it is durable.
let arguments = CommandLine.arguments
guard arguments.count == 4, let engine = DatabaseEngine(rawValue: arguments[1]), var number = UInt64(arguments[3])
else { Environment.exit(2) }
// So that an engine that writes a new file or a new log from time to time does so under the test's hands.
let padding = [UInt8](repeating: 0, count: 16_384)
do {
    let database = try engine.open(arguments[2])
    while true {
        number += 1
        let value = withUnsafeBytes(of: number.littleEndian) { Array($0) }
        try database.apply((1...3).map { .put(key: [$0], value: padding + value) })
        try value.withUnsafeBytes { bytes throws in try IO.writeAll(1, bytes) }
    }
} catch {
    StandardError.write("dbwriter: \(error)\n")
    Environment.exit(1)
}
