public import OSAL

/// What every daemon's `main` does before and after its own work: arguments, places, one instance only, signals, the
/// loop.
public struct DaemonProgram: Sendable {
    public static let version = "0.1.0"

    /// The program's name; also that of its lock file.
    public var name: String
    /// One sentence: what it is.
    public var summary: String
    /// What `--help` adds: files, environment, how to run it alone.
    public var details: String

    public init(name: String, summary: String, details: String = "") {
        self.name = name
        self.summary = summary
        self.details = details
    }

    public var help: String {
        """
        USAGE: \(name) [--help] [--version]

        \(summary)

        amfd starts it as a component of the node. Started by hand it runs alone, for development:
        in the places that SAF_RUN_DIR, SAF_SHM_DIR, SAF_STATE_DIR, SAF_LOG_DIR and SAF_CONFIG_DIR name
        (here: \(Places.fromEnvironment().runDirectory), …). SIGTERM stops it in order.
        \(details.isEmpty ? "" : "\n" + details)
        """
    }

    /// Runs the daemon until SIGTERM, SIGINT or a stop of the loop; never returns.
    ///
    /// - Parameter start: makes the daemon on the loop and returns what ends it in order. What it throws is printed,
    ///   and
    ///   the exit status is 1. A second instance in the same places is refused with status 1 and the first one's pid.
    public func run(_ start: (Loop, Places) throws -> () -> Void) -> Never {
        switch CommandLine.arguments.dropFirst().first {
        case nil: break
        case "--help"?, "-h"?:
            StandardOutput.write(help + "\n")
            Environment.exit(0)
        case "--version"?:
            StandardOutput.write("\(name) (SwiftSAF) \(Self.version)\n")
            Environment.exit(0)
        case let argument?:
            StandardError.write("\(name): unknown argument \(argument); \(name) --help says what there is\n")
            Environment.exit(2)
        }
        do {
            let places = Places.fromEnvironment()
            for directory in [places.runDirectory, places.shmDirectory] { try File.makeDirectories(directory) }
            let lock = try single(in: places)
            let loop = try Loop(name: "daemon")
            try loop.onSignals([.terminate, .interrupt]) { _ in loop.stop() }
            SignalNumber.pipe.ignore()
            let stop = try start(loop, places)
            loop.run()
            stop()
            withExtendedLifetime(lock) {}
            Environment.exit(0)
        } catch {
            StandardError.write("\(name): \(error)\n")
            Environment.exit(1)
        }
    }

    private struct AlreadyRunning: Error, CustomStringConvertible {
        let text: String
        var description: String { text }
    }

    /// The lock that says who runs; held until the process ends.
    private func single(in places: Places) throws -> SharedDescriptor {
        let path = "\(places.runDirectory)/\(name).lock"
        guard let lock = try File.fileLock(path) else {
            let holder = (try? File.readText(path))?.split(separator: " ").first.map { ", as process \($0)" } ?? ""
            throw AlreadyRunning(text: "runs already in \(places.runDirectory)\(holder); only one can")
        }
        // Always the same length: what a former holder wrote is covered.
        let pid = Array("\(Environment.processID)          ".utf8.prefix(10))
        try pid.withUnsafeBytes { bytes throws in try IO.writeAll(lock.raw, bytes) }
        return SharedDescriptor(lock)
    }
}
