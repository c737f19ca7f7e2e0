import EngineKit
import Testing

@testable import OSAL

@Suite struct FileTests {
    @Test(
        "A file is replaced as a whole, with its mode, and nothing else is left in the directory",
        arguments: [false, true])
    func writeAtomically(durable: Bool) throws {
        let scratch = try Scratch()
        try File.writeAtomically(scratch("a"), text: "old", durable: durable)
        let old = try File.open(scratch("a"))
        let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
        try File.writeAtomically(scratch("a"), content, durable: durable, mode: 0o600)
        #expect(try File.readAll(scratch("a")) == content)
        var buffer = [UInt8](repeating: 0, count: 10)
        #expect(
            try buffer.withUnsafeMutableBytes { try IO.read(old.raw, into: $0) } == 3,
            "who had it open sees the old one")
        #expect(try File.stat(scratch("a")).mode == 0o600)
        #expect(try File.list(scratch.path) == ["a"])
        do {
            try File.writeAtomically(scratch("missing/a"), text: "x", durable: durable)
            Issue.record("written")
        } catch { #expect(error.isNotFound) }
    }

    @Test("Reading has a limit, and works for files whose size is said to be zero")
    func reading() throws {
        #expect(try !File.readText("/proc/self/status").isEmpty)
        let scratch = try Scratch()
        try File.writeAtomically(scratch("a"), [UInt8](repeating: 1, count: 5000), durable: false)
        #expect(throws: OSError.self) { _ = try File.readAll(scratch("a"), limit: 4999) }
        #expect(try File.readAll(scratch("a"), limit: 5000).count == 5000)
    }

    @Test("Directories are made with their parents, listed in order, and removed with their content")
    func directories() throws {
        let scratch = try Scratch()
        try File.makeDirectories(scratch("x/y/z"), mode: 0o700)
        try File.makeDirectories(scratch("x/y/z"))
        #expect(try File.stat(scratch("x/y")).mode == 0o700)
        for name in ["c", "a", "b"] { try File.writeAtomically(scratch("x/" + name), [], durable: false) }
        #expect(try File.list(scratch("x")) == ["a", "b", "c", "y"])
        do {
            try File.makeDirectories(scratch("x/a/d"))
            Issue.record("made")
        } catch { #expect(error.subject.contains("x/a")) }
        #expect(try File.remove(scratch("x/a")))
        #expect(try !File.remove(scratch("x/a")))
        try File.removeTree(scratch("x"))
        try File.removeTree(scratch("x"))
        #expect(!File.exists(scratch("x")))
        #expect(File.parent(of: "/a/b") == "/a" && File.parent(of: "/a") == "/" && File.parent(of: "a") == ".")
    }

    @Test("Appending adds at the end, whoever else writes")
    func appending() throws {
        let scratch = try Scratch()
        let (one, two) = (
            SharedDescriptor(try File.openForAppending(scratch("log"))),
            SharedDescriptor(try File.openForAppending(scratch("log")))
        )
        for (descriptor, text) in [(one, "a"), (two, "b"), (one, "c")] {
            try bytes(text).withUnsafeBytes { try IO.writeAll(descriptor.raw, $0) }
        }
        #expect(try File.readText(scratch("log")) == "abc")
    }

    @Test("A file lock excludes another process and goes with its owner's death")
    func fileLock() throws {
        let scratch = try Scratch()
        let holder = try Helper("lock-file", scratch("lock"))
        #expect(try holder.line() == "held")
        let refused = try File.fileLock(scratch("lock")) == nil
        #expect(refused)
        try holder.kill()
        let lock = try File.fileLock(scratch("lock"))
        let held = lock != nil
        #expect(held)
        let second = try Helper("lock-file", scratch("lock"))
        #expect(try second.line() == "refused")
    }
}
