import LogClient
import Logging
import OSAL
import SAFLogging
import Testing

@testable import LogShell

@Suite("swift-log backend")
struct LoggingTests {
    @Test("A record has label, source, message, sorted metadata; the node's threshold is the level until one is set")
    func records() throws {
        let root = try File.makeTemporaryDirectory("/dev/shm/logging-")
        defer { try? File.removeTree(root) }
        var options = LogWriter.Options(
            places: Places(
                runDirectory: root, shmDirectory: root, stateDirectory: root, logDirectory: root, configDirectory: root,
                nodeName: "test"))
        options.severity = .info
        let handler = SAFLogHandler(label: "HTTP", log: Log(writer: LogWriter(options)))
        #expect(handler.logLevel == .info)
        var logger = Logger(label: "HTTP") { _ in handler }
        logger[metadataKey: "b"] = "with blank"
        logger.info("hello", metadata: ["a": "1"], source: "Mod")
        logger.debug("not seen")
        logger.logLevel = .error
        logger.warning("not seen")
        logger.critical("last")
        let name = try #require(try File.list(root + "/log").first { $0.hasPrefix("ring.") })
        let reader = try RingReader(directory: root + "/log", name: name)
        var found: [String] = []
        _ = try reader.read(bytesMax: 1 << 20, writerIsDead: false) { item in
            guard case .record(let record) = item else { return }
            func text(_ raw: UnsafeRawBufferPointer) -> String { String(decoding: raw, as: UTF8.self) }
            found.append("\(record.severity) \(text(record.area)).\(text(record.context)) \(text(record.message))")
        }
        #expect(found.count == 2)
        #expect(found.first == "INFO HTTP.Mod hello a=1 b=\"with blank\"")
        #expect(found.last?.hasPrefix("CRITICAL HTTP.") == true)
    }
}
