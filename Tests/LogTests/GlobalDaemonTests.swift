import IOC
import LogClient
import LogEngine
import LogProtocol
import OSAL
import SAFTypes
import Testing

@Suite("Global streams of a node alone", .serialized)
struct GlobalDaemonTests {
    private static func name(_ text: String) throws -> SaName { try #require(SaName(text)) }

    private static func writer(_ harness: DaemonHarness) -> LogWriter {
        var options = LogWriter.Options(places: harness.places)
        options.severity = .notice
        return LogWriter(options)
    }

    private static func lines(_ harness: DaemonHarness, _ fileName: String) -> [String] {
        let names = (try? File.list(harness.places.logDirectory)) ?? []
        let series = FileSeries(named: fileName, limits: RotationLimits(), found: names.map { ($0, 0) })
        return series.newestFirst.reversed().flatMap { name in
            ((try? File.readText(harness.places.logDirectory + "/" + name)) ?? "").split(separator: "\n").map(
                String.init)
        }
    }

    private static func messages(_ lines: [String]) -> [String] {
        lines.compactMap { line in line.firstRange(of: ") ").map { String(line[$0.upperBound...]) } }
    }

    @Test("A well-known stream takes records without being opened; they are numbered; its filter holds at once")
    func wellKnown() throws {
        let harness = try DaemonHarness()
        let log = Log(stream: .clusterSystem, area: "TST", writer: Self.writer(harness))
        for number in 0..<100 { log.info("message \(number)") }
        try harness.eventually("100 lines") { Self.lines(harness, "saLogSystem").count == 100 }
        let lines = Self.lines(harness, "saLogSystem")
        #expect(Self.messages(lines) == (0..<100).map { "message \($0)" })
        #expect(lines.map { $0.prefix { $0 != " " } } == (1...100).map { "\($0)" })
        let admin = LogAdmin(places: harness.places)
        try admin.setSeverity(.warning, of: .clusterSystem)
        log.info("not this")
        log.warning("but this")
        try harness.eventually("one more") { Self.lines(harness, "saLogSystem").count == 101 }
        #expect(Self.messages(Self.lines(harness, "saLogSystem")).last == "but this")
        #expect(throws: (any Error).self) { try admin.setSeverity(.warning, of: .alarm) }
        let status = try admin.globalStatus()
        #expect(status.owner == NodeID(1) && status.inSync == [NodeID(1)] && status.registry == "synchronised")
        #expect(status.nodes.map(\.accepted) == [101] && status.nodes.map(\.acknowledged) == [101])
        #expect(try admin.lastLines(2, of: .clusterSystem).map { $0.prefix { $0 != " " } } == ["100", "101"])
        #expect(harness.lines(.system).isEmpty && harness.lines(.application).isEmpty)
    }

    @Test("A created stream: attributes must agree; it ends with its last opener; its files stay")
    func created() throws {
        let harness = try DaemonHarness()
        let (name, streams) = (try Self.name("safLgStr=orders,safApp=shop"), LogStreams(places: harness.places))
        #expect(throws: CallError(.notExist, "stream \(name) does not exist; create it")) {
            try streams.open(name)
        }
        let attributes = StreamAttributes(fileName: "orders")
        let stream = try streams.open(name, creating: attributes)
        #expect(stream.rawValue >= LogStream.created.lowerBound)
        #expect(try streams.open(name) == stream)
        for wrong in [StreamAttributes(fileName: "orders", filesMax: 5), StreamAttributes(fileName: "other")] {
            #expect(throws: CallError(.exist, "stream \(name) exists with other attributes")) {
                try streams.open(name, creating: wrong)
            }
        }
        for fileName in ["a/b", "", "a_b", ".hidden"] {
            #expect(throws: CallError.self) {
                try streams.open(try Self.name("safLgStr=x"), creating: StreamAttributes(fileName: fileName))
            }
        }
        #expect(throws: CallError.self) {
            try streams.open(try Self.name("safLgStr=y"), creating: StreamAttributes(fileName: "system"))
        }
        // A process has one ring.
        let writer = Self.writer(harness)
        let log = Log(stream: stream, writer: writer)
        log.notice("before")
        try streams.close(stream)
        try harness.eventually("the record before closing") { Self.lines(harness, "orders").count == 1 }
        let admin = LogAdmin(places: harness.places)
        try harness.eventually("its end") { try admin.globalStatus().streams.count == 3 }
        log.notice("after")
        try harness.eventually("a lost record") { try admin.globalStatus().nodes.first?.lost == 1 }
        let again = try streams.open(name, creating: attributes)
        #expect(again != stream)
        Log(stream: again, writer: writer).notice("anew")
        try harness.eventually("the record of the next") { Self.lines(harness, "orders").count == 2 }
        #expect(Self.messages(Self.lines(harness, "orders")) == ["before", "anew"])
    }

    @Test("A stream with a format: how it is written stands beside its files, until it ends; a wrong one is refused")
    func formed() throws {
        let harness = try DaemonHarness()
        let (name, streams) = (try Self.name("safLgStr=formed"), LogStreams(places: harness.places))
        for wrong in ["@Cb @Cb", "@", "@Nt", "@C", "a\n"] {
            #expect(throws: CallError.self, "\(wrong)") {
                try streams.open(name, creating: StreamAttributes(fileName: "formed", format: wrong))
            }
        }
        let attributes = StreamAttributes(
            fileName: "formed", fileBytesMax: 4096, filesMax: 2, format: "@Cr|@Sv|@Cx|@Cb", recordBytes: 150)
        let stream = try streams.open(name, creating: attributes)
        #expect(throws: CallError(.exist, "stream \(name) exists with other attributes")) {
            try streams.open(name, creating: StreamAttributes(fileName: "formed", fileBytesMax: 4096, filesMax: 2))
        }
        Log(stream: stream, writer: Self.writer(harness)).notice("one\n" + String(repeating: "x", count: 200))
        try harness.eventually("the record") { Self.lines(harness, "formed").count == 1 }
        let line = try #require(Self.lines(harness, "formed").first)
        #expect(line == "         1|NO|T|one_" + String(repeating: "x", count: 149 - 20))
        let path = harness.places.logDirectory
        let text = try File.readText(path + "/formed.cfg")
        #expect(text.contains("FORMAT:@Cr|@Sv|@Cx|@Cb\nMAX_FILE_SIZE: 4096\nFIXED_LOG_REC_SIZE: 150\n"))
        #expect(text.hasSuffix("LOG_FULL_ACTION: ROTATE 2\n"))
        #expect(try File.readText(path + "/saLogSystem.cfg").contains("FORMAT:\n"))
        try streams.close(stream)
        try harness.eventually("its end") { !File.exists(path + "/formed.cfg") }
        let former = try File.list(path).filter { $0.hasPrefix("formed_") && $0.hasSuffix(".cfg") }
        #expect(try former.map { try File.readText(path + "/" + $0) } == [text])
    }

    @Test("A full file: halt stops and counts, rotate keeps so many, wrap keeps one")
    func full() throws {
        let harness = try DaemonHarness()
        let (streams, writer) = (LogStreams(places: harness.places), Self.writer(harness))
        for action in LogFullAction.allCases {
            let fileName = "\(action)"
            let attributes = StreamAttributes(
                fileName: fileName, fileBytesMax: 4096, filesMax: 3, fullAction: action)
            let stream = try streams.open(try Self.name("safLgStr=\(action)"), creating: attributes)
            let log = Log(stream: stream, writer: writer)
            for number in 0..<200 { log.notice("message \(number) \(String(repeating: "x", count: 50))") }
        }
        let admin = LogAdmin(places: harness.places)
        try harness.eventually("600 records") {
            let node = try admin.globalStatus().nodes.first
            return node?.acknowledged == 600
        }
        func files(_ name: String) throws -> Int {
            try File.list(harness.places.logDirectory).count { $0.hasPrefix(name + "_") }
        }
        #expect(try files("halt") == 1 && files("wrap") == 1 && files("rotate") == 3)
        #expect(Self.lines(harness, "halt").first?.hasPrefix("1 ") == true)
        for name in ["wrap", "rotate"] {
            let numbers = Self.lines(harness, name).compactMap { Int($0.prefix { $0 != " " }) }
            #expect(numbers.last == 200 && numbers == Array((numbers.first ?? 0)...200))
        }
    }

    @Test("kill -9 of logd under load: every record once, in order, numbered without a gap", arguments: 0..<3)
    func kills(_ run: Int) throws {
        let harness = try DaemonHarness()
        let streams = LogStreams(places: harness.places)
        let attributes = StreamAttributes(fileName: "load", fileBytesMax: 200_000, filesMax: 100)
        let stream = try streams.open(try Self.name("safLgStr=load"), creating: attributes)
        let log = Log(stream: stream, writer: Self.writer(harness))
        var number = 0
        for round in 0..<12 {
            let end = number + 1500
            while number < end {
                let before = log.writer.droppedCount
                log.notice("\(number) \(String(repeating: "y", count: number * 37 % 200))|")
                if log.writer.droppedCount == before { number += 1 } else { OSThread.yield() }
            }
            if round % 3 == run % 3 {
                try harness.eventually("some progress") { !Self.lines(harness, "load").isEmpty }
            }
            harness.kill()
            try harness.start()
        }
        try harness.eventually("the last record", within: .seconds(60)) {
            Self.lines(harness, "load").last?.contains(") \(number - 1) ") == true
        }
        let lines = Self.lines(harness, "load")
        #expect(lines.count == number)
        #expect(Self.messages(lines).map { Int($0.prefix { $0 != " " }) } == (0..<number).map { $0 })
        #expect(lines.map { Int($0.prefix { $0 != " " }) } == (1...number).map { $0 })
    }

    @Test("When the files cannot be written the spool fills; then records are dropped, and the stream says how many")
    func fullSpool() throws {
        let harness = try DaemonHarness(["SAF_LOG_SPOOL_BYTES=65536"])
        let log = Log(stream: .clusterSystem, writer: Self.writer(harness))
        let admin = LogAdmin(places: harness.places)
        func node() throws -> GlobalNodeStatus { try #require(try admin.globalStatus().nodes.first) }
        log.notice("first")
        try harness.eventually("the first record") { try node().acknowledged == 1 }
        // A directory stands where the file was.
        let folder = harness.places.logDirectory
        let file = try #require(try File.list(folder).first { $0.hasPrefix("saLogSystem_") })
        try File.remove(folder + "/" + file)
        try File.makeDirectories(folder + "/" + file)
        for number in 0..<1000 { log.notice("message \(number) \(String(repeating: "z", count: 100))") }
        try harness.eventually("all taken") { try node().accepted + node().lost == 1001 }
        let lost = try node().lost
        #expect(lost > 0 && lost < 1000)
        try harness.eventually("the reason") { try node().spoolBytes <= 65536 && !node().lastError.isEmpty }
        try File.removeEmptyDirectory(folder + "/" + file)
        try harness.eventually("what was kept") { try node().acknowledged == node().accepted }
        log.notice("last")
        try harness.eventually("the last record") { try node().acknowledged == 1001 - lost + 2 }
        let messages = Self.messages(Self.lines(harness, "saLogSystem"))
        #expect(messages.suffix(2) == ["\(lost) records lost from node test: its spool was full", "last"])
        #expect(messages.count == Int(1001 - lost) + 2 - 1)
    }
}
