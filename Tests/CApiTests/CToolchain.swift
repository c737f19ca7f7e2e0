import EngineKit
import OSAL
import Synchronization
import Testing

/// The C libraries as an installation has them, and the compilers that programs against them are built with.
enum CToolchain {
    static let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        .joined(separator: "/")
    static let programs = root + "/Tests/CApiTests/Programs"

    /// A folder of these tests beside their own program; kept, so that the next run finds what is up to date.
    static let folder = File.parent(of: Environment.executablePath ?? "./tests") + "/capi"
    static let prefix = folder + "/prefix"
    /// What the programs of this run have seen: a file each, of functions and the codes they returned.
    static let seen: String = {
        let seen = folder + "/seen"
        try? File.removeTree(seen)  // of an earlier run; there may be none
        try? File.makeDirectories(seen)  // without it ErrorTableTests finds nothing, and says so
        return seen
    }()

    /// The tools that are not on PATH; a test that needs one says so and does not run.
    static func lacks(_ tools: [String]) -> [String] { tools.filter { find($0) == nil } }
    static let canBuild = lacks(["cc", "make", "install", "sed"]).isEmpty
    static let why: Comment = "needs cc, make, install and sed on PATH"

    static func find(_ tool: String) -> String? {
        (Environment.get("PATH") ?? "").split(separator: ":").map { "\($0)/\(tool)" }.first(where: File.isExecutable)
    }

    /// This program's environment with nothing that names a node or chooses what is built.
    static let environment = Environment.all.filter { entry in
        !["SAF_", "SA_", "CL_", "LD_", "MAKE", "MFLAGS"].contains { entry.hasPrefix($0) }
    }

    /// `make install-libraries`, once for all tests of a run.
    private static let installation = Result<Void, any Error> {
        try File.makeDirectories(folder)
        let made = try CommandRun(
            ["make", "-C", root, "install-libraries", "PREFIX=" + prefix], environment: environment,
            output: folder + "/install.out", timeout: .seconds(1_200))
        guard made.succeeded else { throw CToolError("make install-libraries: \(made)") }
    }

    /// Where the libraries are installed. The first caller builds them, which takes a minute or two.
    static func installed() throws -> String {
        try installation.get()
        return prefix
    }

    /// Builds a program, of `Programs` if it is not a whole path, against the installed headers and library.
    ///
    /// - Parameter flags: beside all warnings, which are errors.
    /// - Returns: its path.
    static func compile(
        _ source: String, compiler: [String] = ["cc", "-std=c11"], flags: [String] = [], library: String = "SaCkpt",
        as name: String? = nil
    ) throws -> String {
        let prefix = try installed()
        let path = source.contains("/") ? source : programs + "/" + source
        let program = folder + "/" + (name ?? String((path.split(separator: "/").last ?? "").prefix { $0 != "." }))
        return try compiled.withLock { compiled in
            // Whoever has been the first may be running it.
            if compiled.contains(program) { return program }
            try build(path, program, compiler + flags, prefix, library)
            compiled.insert(program)
            return program
        }
    }

    private static let compiled = Mutex<Set<String>>([])

    private static func build(
        _ path: String, _ program: String, _ compiler: [String], _ prefix: String, _ library: String
    ) throws {
        let built = try CommandRun(
            compiler + ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic"] + [
                "-I\(prefix)/include/swiftsaf", "-o", program, path, "-L\(prefix)/lib", "-l\(library)",
                "-Wl,-rpath,\(prefix)/lib", "-lpthread",
            ], environment: environment, output: program + ".build", timeout: .seconds(120))
        guard built.succeeded else { throw CToolError("\(path) does not build: \(built)") }
    }
}

struct CToolError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A program that was run to its end, or to the end of the time it had.
struct CommandRun: CustomStringConvertible {
    let command: [String]
    let status: OSAL.ExitStatus
    let isInTime: Bool
    let output: String

    var succeeded: Bool { isInTime && status == .exited(code: 0) }

    init(_ command: [String], environment: [String], output path: String, timeout: Duration) throws {
        self = try StartedCommand(command, environment: environment, output: path).wait(timeout)
    }

    fileprivate init(_ command: [String], _ status: OSAL.ExitStatus, _ isInTime: Bool, _ output: String) {
        (self.command, self.status, self.isInTime, self.output) = (command, status, isInTime, output)
    }

    var description: String {
        let isLong = output.utf8.count > 4_000
        let end = isLong ? "…" + String(decoding: output.utf8.suffix(4_000), as: UTF8.self) : output
        return "\(command.joined(separator: " ")): \(isInTime ? "" : "not over in time, ")\(status)\n\(end)"
    }
}

/// A program that runs; killed with its children when this goes.
final class StartedCommand {
    private let command: [String]
    private let outputPath: String
    private let child: SpawnedProcess
    private var status: OSAL.ExitStatus?

    var pid: Int32 { child.pid }
    var isRunning: Bool {
        if status == nil { status = Process.reap(child.pid) }
        return status == nil
    }

    init(_ command: [String], environment: [String], output path: String, deathSignal: SignalNumber? = .kill) throws {
        self.command = command
        outputPath = path
        let name = command[0]
        guard let program = name.contains("/") ? name : CToolchain.find(name) else { throw CToolError("no \(name)") }
        _ = try File.remove(path)
        let output = try File.openForAppending(path)
        var options = SpawnOptions(path: program, arguments: command, environment: environment)
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        options.deathSignal = deathSignal
        child = try Process.spawn(options)
    }

    deinit { end() }

    private func end() {
        guard isRunning else { return }
        _ = try? Process.killGroup(child.pid)  // gone meanwhile is as good
        while isRunning { OSThread.yield() }
    }

    /// Waits until it has ended; what has not in time is killed.
    func wait(_ timeout: Duration = .seconds(120)) throws -> CommandRun {
        let isInTime = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + timeout)
        end()
        return CommandRun(command, status ?? .unknown, isInTime, (try? File.readText(outputPath)) ?? "")
    }
}
