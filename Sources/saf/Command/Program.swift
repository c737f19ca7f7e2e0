import EngineKit
import OSAL

/// Short programs whose output is wanted.
enum Program {
    static let timeLimit: Duration = .seconds(3)

    /// What it printed, whatever its exit status; nil when it cannot be run or does not end in time.
    static func output(_ arguments: [String]) -> String? {
        guard let path = arguments.first.flatMap(find),
            let output = try? AnonymousMemory.create(name: "saf-output", size: 0, seal: .none)
        else { return nil }
        var options = SpawnOptions(path: path, arguments: arguments)
        options.descriptors = [DescriptorMapping(output.raw, as: 1)]
        guard let process = try? Process.spawn(options) else { return nil }
        let hasEnded = try? IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + timeLimit)
        if hasEnded != true {
            _ = try? Process.killGroup(process.pid)  // ended in between is as good
            return nil
        }
        _ = Process.reap(process.pid)
        guard let size = try? File.stat(descriptor: output.raw).size, (1...(1 << 20)).contains(size) else { return "" }
        var bytes = [UInt8](repeating: 0, count: size)
        let count = bytes.withUnsafeMutableBytes { (try? IO.read(output.raw, into: $0, at: 0)) ?? 0 }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// Administrators' programs are not in everybody's PATH.
    private static func find(_ program: String) -> String? {
        if program.contains("/") { return File.isExecutable(program) ? program : nil }
        let path = (Environment.get("PATH") ?? "").split(separator: ":").map(String.init)
        return (path + ["/usr/sbin", "/sbin", "/usr/bin"]).map { $0 + "/" + program }.first(where: File.isExecutable)
    }
}
