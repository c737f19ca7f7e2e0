import OSAL
import SafLab

var arguments = CommandLine.arguments.dropFirst().map { String($0) }
do {
    Environment.exit(try perform(&arguments))
} catch let error as UsageError {
    StandardError.write("lab: \(error.description)\n`lab help` explains.\n")
    Environment.exit(64)
} catch {
    StandardError.write("lab: \(error)\n")
    Environment.exit(1)
}
