import EngineKit
import Testing

@testable import OSAL

@Suite("What a service manager is told") struct ServiceManagerTests {
    private func next(_ listener: borrowing Descriptor) throws -> String? {
        guard try IO.waitUntil(listener.raw, readable: true, deadline: soon) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 1_024)
        let count = try buffer.withUnsafeMutableBytes { try IO.read(listener.raw, into: $0) } ?? 0
        return String(decoding: buffer[0..<count], as: UTF8.self)
    }

    @Test("One datagram per message arrives, at a path and in the abstract namespace; a dead manager blocks nobody")
    func tells() throws {
        let scratch = try Scratch()
        let listener = try ServiceManager.listen(at: scratch("notify"))
        let manager = try #require(ServiceManager(path: scratch("notify"), watchdog: nil))
        #expect(manager.tell("READY=1\nSTATUS=up"))
        #expect(manager.tell("WATCHDOG=1"))
        #expect(try next(listener) == "READY=1\nSTATUS=up")
        #expect(try next(listener) == "WATCHDOG=1")
        // More than anyone reads: refused, not waited for.
        #expect((0..<10_000).contains { _ in !manager.tell("WATCHDOG=1") })
        let nobody = try #require(ServiceManager(path: "@swiftsaf-nobody-\(Environment.processID)", watchdog: nil))
        #expect(!nobody.tell("READY=1"))
    }

    @Test("What is no socket's name is no manager", arguments: ["", "/", "@", "vsock:2:1", "relative/path", "/a\0b"])
    func refused(path: String) { #expect(ServiceManager(path: path, watchdog: nil) == nil) }

    @Test("A path longer than the kernel takes is no manager")
    func tooLong() {
        #expect(ServiceManager(path: "/" + String(repeating: "x", count: 107), watchdog: nil) == nil)
    }
}
