import CkptLibrary
import DBAL
import OSAL
import SAFTypes

// librarywriter ENGINE PATH NUMBER: writes NUMBER + 1, + 2, … to a data set, in version 1 or 2, and to one of its
// elements, in one update, and prints each when it is durable.
let arguments = CommandLine.arguments
guard arguments.count == 4, let engine = DatabaseEngine(rawValue: arguments[1]), var number = UInt64(arguments[3])
else { Environment.exit(2) }
do {
    let bytes = Serializer<UInt64>(
        version: 1, encode: { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } }, decode: { _ in 0 })
    let text = Serializer<UInt64>(
        version: 2, encode: { value in Array(String(value).utf8) + [UInt8](repeating: 32, count: 9_000) },
        decode: { _ in 0 })
    let numbers = try DataSet("numbers", bytes, text)
    let checkpoint = try LibraryCheckpoint.open(arguments[2], engine: engine)
    while true {
        number += 1
        let (value, version) = (number, UInt32(number % 2 + 1))
        try checkpoint.update { (update) throws(LibraryCheckpointError) in
            try update.write(value, to: numbers, version: version)
            try update.write(value, as: "copy", of: numbers, version: 3 - version)
        }
        try withUnsafeBytes(of: value.littleEndian) { bytes throws in try IO.writeAll(1, bytes) }
    }
} catch {
    StandardError.write("librarywriter: \(error)\n")
    Environment.exit(1)
}
