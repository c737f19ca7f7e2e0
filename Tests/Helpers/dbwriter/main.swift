import DBAL
import OSAL

// dbwriter ENGINE PATH NUMBER: writes NUMBER + 1, + 2, … under three keys at once, and prints each when it is durable.
let arguments = CommandLine.arguments
guard arguments.count == 4, arguments[1] == "sqlite", var number = UInt64(arguments[3]) else { Environment.exit(2) }
do {
    let database: any Database = try SQLiteDatabase(path: arguments[2])
    while true {
        number += 1
        let value = withUnsafeBytes(of: number.littleEndian) { Array($0) }
        try database.apply((1...3).map { .put(key: [$0], value: value) })
        try value.withUnsafeBytes { bytes throws in try IO.writeAll(1, bytes) }
    }
} catch {
    StandardError.write("dbwriter: \(error)\n")
    Environment.exit(1)
}
