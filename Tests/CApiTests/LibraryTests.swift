import EngineKit
import OSAL
import Testing

/// The library as a file: its name, what it shows and needs, what it costs a program.
@Suite("libSaCkpt and libSafCkptLibrary", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct LibraryTests {
    @Test(
        "The soname is libSaCkpt.so.1; nothing is exported but saCkpt*, saAis* and saf*; needs the C library only",
        .enabled(if: CToolchain.lacks(["readelf", "nm"]).isEmpty, "needs readelf and nm (binutils)"))
    func file() throws {
        let library = try CToolchain.installed() + "/lib/libSaCkpt.so"
        let dynamic = try output(["readelf", "-dW", library])
        #expect(dynamic.contains("Library soname: [libSaCkpt.so.1]"))
        #expect(dynamic.contains("NODELETE"))
        #expect(needed(dynamic) == ["libc.so.6"])
        let exported = try exported(library)
        for symbol in exported {
            #expect(["saCkpt", "saAis", "saf"].contains { symbol.hasPrefix($0) }, "exports \(symbol)")
        }
        for header in ["saAis.h", "saCkpt.h", "safCkpt.h"] {
            for function in try declared(header) { #expect(exported.contains(function), "lacks \(function)") }
        }
    }

    @Test(
        "libSafCkptLibrary exports safCkptLibrary* alone; needs the C library and SQLite",
        .enabled(if: CToolchain.lacks(["readelf", "nm"]).isEmpty, "needs readelf and nm (binutils)"))
    func otherFile() throws {
        let library = try CToolchain.installed() + "/lib/libSafCkptLibrary.so"
        let dynamic = try output(["readelf", "-dW", library])
        #expect(dynamic.contains("Library soname: [libSafCkptLibrary.so.1]") && dynamic.contains("NODELETE"))
        #expect(needed(dynamic).sorted() == ["libc.so.6", "libsqlite3.so.0"])
        #expect(try exported(library).sorted() == declared("safCkptLibrary.h").sorted())
    }

    private func needed(_ dynamic: String) -> [String] {
        dynamic.split(separator: "\n").filter { $0.contains("(NEEDED)") }.map {
            String($0.split(separator: "[").last ?? "").filter { $0 != "]" }
        }
    }

    private func exported(_ library: String) throws -> [String] {
        try output(["nm", "-D", "--defined-only", library]).split(separator: "\n").compactMap { line in
            line.split(separator: " ").last.map { String($0.prefix { $0 != "@" }) }
        }
    }

    /// What it is made of is in its README. A growth is wanted, or a dictionary, sorted(), text or a closure too many.
    @Test("It is small: not above the size that its README states")
    func size() throws {
        let bytes = try File.stat(try CToolchain.installed() + "/lib/libSaCkpt.so").size
        #expect(bytes <= 142_000, "\(bytes) bytes, stripped")
    }

    /// The functions a header declares: names at the start of a line's last word before "(", outside of comments.
    private func declared(_ header: String) throws -> [String] {
        var names: [String] = []
        for line in try File.readText(CToolchain.root + "/Sources/SAF/Headers/" + header).split(separator: "\n") {
            guard line.hasPrefix("SaAisErrorT sa") || line.hasPrefix("void sa") || line.hasPrefix("SaConstStringT sa"),
                let name = line.split(separator: "(").first?.split(separator: " ").last
            else { continue }
            names.append(String(name))
        }
        #expect(names.count >= 2, "\(header): \(names)")
        return names
    }

    private func output(_ command: [String]) throws -> String {
        let run = try CommandRun(
            command, environment: CToolchain.environment, output: CToolchain.folder + "/tool.out", timeout: .seconds(60)
        )
        try #require(run.succeeded, "\(run)")
        return run.output
    }

    @Test("The links that programs ask for lead to it, those of openais, too")
    func links() throws {
        let folder = try CToolchain.installed() + "/lib"
        for name in ["libSaCkpt.so", "libSaCkpt.so.1", "libSaCkpt.so.2", "libSaCkpt.so.3"] {
            #expect(try File.readLink("\(folder)/\(name)").hasPrefix("libSaCkpt.so.1."))
            #expect(File.exists("\(folder)/\(name)"))
        }
    }

    @Test("What the first call costs a program, beside a program that makes none (told, not judged)")
    func startUp() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("quiet.c", flags: ["-O2"])
        try stand.run(program, ["begin"])
        func best(_ argument: String) throws -> Duration {
            var best = Duration.seconds(60)
            for _ in 0..<40 {
                let began = MonotonicClock.now()
                let run = try stand.begin(program, [argument]).wait()
                best = min(best, MonotonicClock.now() - began)
                try #require(run.succeeded, "\(run)")
            }
            return best
        }
        let nothing = try best("nothing")
        let begin = try best("begin")
        StandardOutput.write("libSaCkpt: loaded \(nothing), initialised with a checkpoint open \(begin) (best of 40)\n")
    }
}
