import EngineKit
import IOC
import LogClient
import LogProtocol
import OSAL
import SAFTypes
import Testing

@Suite("logd", .serialized)
struct DaemonTests {
    @Test("Records written while logd is down are in the file after its start, and the dead writer's ring is gone")
    func down() throws {
        let node = try DaemonHarness(starting: false)
        let writer = try node.write(700)
        try node.wait(child: writer.pid)
        try node.start()
        try node.eventually("700 records") { node.count(of: ") record ") == 700 }
        #expect(node.records(of: writer.pid) == Array(0..<700))
        try node.eventually("the ring's end") {
            try File.list(node.places.shmDirectory + "/log").allSatisfy { !$0.hasPrefix("ring.") }
        }
        #expect(try File.readLink(node.places.logDirectory + "/application.log").hasPrefix("application_"))
    }

    @Test(
        "kill -9 of logd under load: every record is in the files exactly once, in order",
        arguments: [5, 6] as [UInt64])
    func killedUnderLoad(seed: UInt64) throws {
        let node = try DaemonHarness(["SAF_LOG_FILE_BYTES=300000", "SAF_LOG_FILES=1000"])
        var random = SeededRandom(seed: seed)
        let writer = try node.write(15_000)
        for _ in 0..<12 {
            let goal = min(15_000, writer.committed + UInt64.random(in: 10...1500, using: &random))
            try node.eventually("records") { writer.committed >= goal }
            node.kill()
            try node.start()
        }
        try node.wait(child: writer.pid)
        try node.eventually("all records, seed \(seed)") { node.count(of: ") record ") >= 15_000 }
        #expect(node.records(of: writer.pid) == Array(0..<15_000), "seed \(seed)")
    }

    @Test(
        "kill -9 of writers: nothing that was committed is lost, nothing torn is delivered", arguments: [7] as [UInt64])
    func writersKilled(seed: UInt64) throws {
        let node = try DaemonHarness(["SAF_LOG_FILE_BYTES=3000000", "SAF_LOG_FILES=1000"])
        var random = SeededRandom(seed: seed)
        var ended: [(pid: Int32, committed: UInt64)] = []
        for _ in 0..<25 {
            let writer = try node.write(0)
            let goal = UInt64.random(in: 1...400, using: &random)
            try node.eventually("records") { writer.committed >= goal }
            node.kill(child: writer.pid)
            ended.append((writer.pid, writer.committed))
        }
        try node.eventually("all rings drained") {
            try File.list(node.places.shmDirectory + "/log").allSatisfy { !$0.hasPrefix("ring.") }
        }
        for writer in ended {
            let found = node.records(of: writer.pid)
            #expect(found == Array(0..<UInt64(found.count)), "seed \(seed)")
            // The last one may have been committed just before its count.
            #expect(found.count == writer.committed || found.count == writer.committed + 1, "seed \(seed)")
        }
    }

    @Test("SIGTERM: what is in the rings is in the files when logd has ended")
    func stopped() throws {
        let node = try DaemonHarness()
        let admin = LogAdmin(places: node.places)
        _ = try admin.status()
        var options = LogWriter.Options(places: node.places)
        options.severity = .notice
        let log = Log(writer: LogWriter(options))
        for number in 0..<300 { log.notice("last words \(number)") }
        node.kill(.terminate)
        #expect(node.count(of: "last words") == 300)
    }

    @Test("A component that prints without end is neither slowed down nor fills the disk, and a line says so")
    func flood() throws {
        let node = try DaemonHarness(["SAF_LOG_OUTPUT_RATE=20000", "SAF_LOG_FILE_BYTES=100000", "SAF_LOG_FILES=2"])
        let pipe = try makePipe(nonBlocking: true)
        let readEnd = try pipe.first.duplicate()
        let writeEnd = try pipe.second.duplicate()
        let pid = try node.printEndlessly(99, to: writeEnd.raw)
        let connection = IOCConnection(to: .wellKnown(.logd), places: node.places)
        let request = LogRequest.captureOutput(
            component: SaName("safComp=Loud,safSu=a")!, process: pid, output: .standardOutput)
        _ = try connection.call(request.code, request.body, timeout: .seconds(10), descriptors: [readEnd.raw])
        let admin = LogAdmin(places: node.places)
        try node.eventually("suppression") { try admin.status().outputs.first?.suppressions ?? 0 >= 1 }
        try node.eventually("suppressed bytes") { try admin.status().outputs.first?.suppressedBytes ?? 0 > 64 << 10 }
        // It is read on, so that the printer finds room: far more than its rate and one pipe would let through.
        let before = try #require(try admin.status().outputs.first)
        #expect(before.bytes < 2 << 20)
        try node.eventually("reading goes on") {
            try admin.status().outputs.first?.suppressedBytes ?? 0 > before.suppressedBytes + (4 << 20)
        }
        let names = try File.list(node.places.logDirectory).filter { $0.hasPrefix("application_") }
        let sizes = try names.map { try File.stat(node.places.logDirectory + "/" + $0).size }
        #expect(names.count <= 2 && sizes.allSatisfy { $0 <= 100_000 })
        try node.eventually("the word of it") { node.count(of: "output suppressed: ") >= 1 }
        #expect(node.count(of: "(test.\(pid) : Loud.OUT.stdout.") > 0)
        #expect(Process.information(of: pid)?.isExiting == false)
        node.kill(child: pid)
        connection.close()
    }

    @Test(
        "Output is written whatever the threshold is, to its last line; a request without descriptor is refused"
    )
    func captured() throws {
        let node = try DaemonHarness()
        let connection = IOCConnection(to: .wellKnown(.logd), places: node.places)
        let request = LogRequest.captureOutput(component: SaName("safComp=Quiet")!, process: 99, output: .standardError)
        #expect(throws: CallError.self) { try connection.call(request.code, request.body, timeout: .seconds(10)) }
        do {
            let pipe = try makePipe(nonBlocking: true)
            let readEnd = try pipe.first.duplicate()
            let writeEnd = try pipe.second.duplicate()
            for _ in 0..<2 {  // the second replaces the first, as after amfd's restart
                _ = try connection.call(request.code, request.body, timeout: .seconds(10), descriptors: [readEnd.raw])
            }
            try Array("first\nand last".utf8).withUnsafeBytes { bytes in try IO.writeAll(writeEnd.raw, bytes) }
        }
        try node.eventually("both lines") {
            node.count(of: ": WARN) first") == 1 && node.count(of: ": WARN) and last") == 1
        }
        connection.close()
    }

    @Test("A reader gets the last lines and all that follow, once each")
    func tail() async throws {
        let node = try DaemonHarness()
        var options = LogWriter.Options(places: node.places)
        options.severity = .info
        let log = Log(writer: LogWriter(options))
        for number in 0..<50 { log.info("line \(number).") }
        try node.eventually("the lines") { node.count(of: ") line ") == 50 }
        let admin = LogAdmin(places: node.places)
        #expect(try admin.lastLines(3).map { $0.hasSuffix("49.") } == [false, false, true])
        #expect(try admin.lastLines(10, threshold: .warning).isEmpty)
        let tail = try await admin.follow(.application, threshold: .info, backlog: 20)
        var lines: [String] = []
        for number in 50..<400 { log.info("line \(number).") }
        for await part in tail {
            #expect(part.dropped == 0)
            lines += part.lines
            if lines.count >= 370 { break }
        }
        let numbers = lines.compactMap { line in
            line.firstRange(of: ") line ").flatMap { Int(line[$0.upperBound...].dropLast()) }
        }
        #expect(numbers == Array(30..<400))
        tail.close()
    }

    @Test("Severity and rules take effect in a running process, and outlive logd")
    func thresholds() throws {
        let node = try DaemonHarness()
        var options = LogWriter.Options(places: node.places)
        options.severity = .notice
        options.program = "prog"
        let writer = LogWriter(options)
        let log = Log(area: "AA", writer: writer)
        let admin = LogAdmin(places: node.places)
        #expect(!log.admits(.info))
        try admin.setSeverity(.info, of: .application)
        #expect(log.admits(.info) && !Log(stream: .system, writer: writer).admits(.info))
        node.kill()
        try node.start()
        #expect(try admin.status().streams.first { $0.stream == .application }?.severity == .info)
        try admin.setSeverity(nil, of: .application)
        #expect(!log.admits(.info))
        #expect(try !admin.setRules("nonsense").isEmpty)
        #expect(try admin.setRules("(*:prog.AA.*)[*]=DEBUG").isEmpty)
        log.debug("seen")
        log.with(area: "BB").debug("not seen")
        log.notice("end")
        try node.eventually("the end") { node.count(of: ") end") == 1 }
        #expect(node.count(of: ") seen") == 1 && node.count(of: "not seen") == 0)
    }

    @Test("Files that cannot be written lose nothing that the rings can hold, and it is said afterwards")
    func unwritable() throws {
        let node = try DaemonHarness(starting: false)
        try File.writeAtomically(node.places.logDirectory, text: "in the way", durable: false)
        let writer = try node.write(100)
        try node.wait(child: writer.pid)
        try node.start()
        let admin = LogAdmin(places: node.places)
        try node.eventually("an error") { try admin.status().streams.contains { !$0.lastError.isEmpty } }
        try File.remove(node.places.logDirectory)
        try node.eventually("the records") { node.count(of: ") record ") == 100 }
        #expect(node.records(of: writer.pid) == Array(0..<100))
        try node.eventually("the word of it") { node.count(of: "could not be written", .system) == 1 }
    }

    @Test("A ring that is impossible is set aside with a warning, the others are read on")
    func setAside() throws {
        let node = try DaemonHarness(starting: false)
        let writer = try node.write(100)
        try node.wait(child: writer.pid)
        let directory = node.places.shmDirectory + "/log"
        let bad = try RingWriter.create(
            directory: directory, process: Environment.processID, startTime: 0, program: "bad", node: "test")
        let file = try SharedFile.open(bad.path, writable: true)
        file.mapping.base.storeBytes(of: UInt64.max - 7, toByteOffset: RingLayout.reservedOffset, as: UInt64.self)
        try node.start()
        try node.eventually("the good records") { node.count(of: ") record ") == 100 }
        try node.eventually("a warning") { node.count(of: "set aside", .system) == 1 }
    }
}
