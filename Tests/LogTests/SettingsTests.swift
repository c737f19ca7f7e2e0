import EOLoop
import LogProtocol
import LogShell
import OSAL
import Testing

@testable import LogClient

@Suite("What people set")
struct LogSettingsTests {
    @Test("A variable that is not understood is named with the choices, and keeps its default")
    func environment() {
        let good = WriterSettings {
            ["CL_LOG_SEVERITY": "debug", "SAF_LOG_RING_BYTES": "65536", "CL_LOG_TIME_ENABLE": "0"][$0]
        }
        #expect(good.mistakes.isEmpty)
        #expect(good.severity == .debug && good.ringBytes == 65_536 && !good.hasTime)
        #expect(WriterSettings { _ in "" } == WriterSettings { _ in nil })
        let wrong = WriterSettings {
            ["CL_LOG_SEVERITY": "loud", "SAF_LOG_RING_BYTES": "1k", "CL_LOG_TIME_ENABLE": "maybe"][$0]
        }
        #expect(wrong.severity == .notice && wrong.ringBytes == RingLayout.capacityDefault && wrong.hasTime)
        #expect(wrong.mistakes.count == 3)
        #expect(wrong.mistakes.first?.hasPrefix("CL_LOG_SEVERITY is 'loud'; one of EMERGENCY, ") == true)
    }

    @Test("The operator's rules are read at the start, again when the file changes, and not when they are wrong")
    func rulesFile() throws {
        let root = try File.makeTemporaryDirectory("/tmp/logfilter-test-")
        defer { try? File.removeTree(root) }
        let places = Places(
            runDirectory: root, shmDirectory: root, stateDirectory: root, logDirectory: root, configDirectory: root,
            nodeName: "test")
        let path = root + "/" + RulesFile.name
        let loop = try Loop(name: "rules")
        var used: [String] = []
        let first = "(*:*.NET.*)[*]=DEBUG\n"
        try File.writeAtomically(path, text: first, durable: false)
        let rules = RulesFile(loop: loop, places: places) { text in
            used.append(text)
            if used.count > 1 { loop.stop() }
            return []
        }
        defer { rules.close() }
        #expect(used == [first])
        func change(_ text: String) throws {
            try File.writeAtomically(path, text: text, durable: false)
            let late = loop.schedule(after: .seconds(30)) { loop.stop() }
            loop.run()
            loop.cancel(late)
        }
        let second = "# all of it\n(*:*.*.*)[*]=TRACE\n"
        try change(second)
        #expect(used == [first, second])
        // A wrong one is passed over: the next good one is the next that is used.
        try File.writeAtomically(path, text: "nonsense\n", durable: false)
        try change(first)
        #expect(used == [first, second, first])
    }
}
