public import EOLoop
import EngineKit
import IOC
public import IOCCluster
import LogClient
import LogEngine
public import LogProtocol
public import OSAL
import SAFTypes

/// What logd can be told at its start.
public struct LogDaemonOptions: Sendable {
    public var fileBytesMax: UInt64
    public var filesMax: Int
    /// Bytes a second of one component's outputs.
    public var outputRate: Int64
    /// Bytes of records of global streams that wait for the owner of the files; a power of two.
    public var spoolBytes = 8 << 20
    /// Bytes of the ledger that a controller keeps for others that were away.
    public var ledgerBytes = 64 << 20

    public init(fileBytesMax: UInt64 = 5_000_000, filesMax: Int = 4, outputRate: Int64 = 256 * 1024) {
        (self.fileBytesMax, self.filesMax, self.outputRate) = (fileBytesMax, filesMax, outputRate)
    }

    /// A variable that is set to something that is no number in its range.
    public struct BadVariable: Error, CustomStringConvertible {
        public let description: String
    }

    /// `SAF_LOG_FILE_BYTES`, `SAF_LOG_FILES`, `SAF_LOG_OUTPUT_RATE`, `SAF_LOG_SPOOL_BYTES`, `SAF_LOG_LEDGER_BYTES`.
    public static func fromEnvironment() throws(BadVariable) -> LogDaemonOptions {
        var options = LogDaemonOptions()
        options.fileBytesMax = try number(
            "SAF_LOG_FILE_BYTES", LogLimits.fileBytesMin...LogLimits.fileBytesMax, or: options.fileBytesMax)
        options.filesMax = Int(try number("SAF_LOG_FILES", 1...LogLimits.filesMax, or: UInt32(options.filesMax)))
        options.outputRate = try number("SAF_LOG_OUTPUT_RATE", 1...(1 << 40), or: options.outputRate)
        let spoolBytes = try number("SAF_LOG_SPOOL_BYTES", (64 << 10)...(1 << 30), or: options.spoolBytes)
        options.spoolBytes = 1 << (Int.bitWidth - 1 - spoolBytes.leadingZeroBitCount)
        options.ledgerBytes = try number("SAF_LOG_LEDGER_BYTES", (1 << 20)...(1 << 40), or: options.ledgerBytes)
        return options
    }

    private static func number<Value: FixedWidthInteger>(
        _ name: String, _ range: ClosedRange<Value>, or standard: Value
    ) throws(BadVariable) -> Value {
        guard let text = Environment.get(name), !text.isEmpty else { return standard }
        guard let value = Value(text), range.contains(value) else {
            throw BadVariable(
                description:
                    "\(name) is '\(text)'; a whole number from \(range.lowerBound) to \(range.upperBound) expected")
        }
        return value
    }
}

/// The shell of logd. Loop thread only.
public final class LogDaemon {
    private let loop: Loop
    private let files: LogFiles
    let drain: LogDrain
    private let outputs: CapturedOutputs
    let tails: Tails
    private let filter: FilterPage
    let global: GlobalLog
    private let server: IOCServer

    /// - Throws: when another logd serves these places, and what the file system says of shared memory and sockets. Log
    ///   files that cannot be written are no error: they are tried again for ever.
    ///
    /// - Parameter description: of the cluster whose global streams are served.
    public init(
        loop: Loop, places: Places, description: ClusterDescription, options settings: LogDaemonOptions
    ) throws(OSError) {
        self.loop = loop
        let directory = LogDirectory(places: places)
        try directory.make()
        var options = ServerOptions()
        // Who may ask what is checked for each request, as components run as any user.
        options.socketMode = 0o666
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.logd), places: places, options: options)
        let access = LocalAccess(description.access)
        server.admit = { access.admits(user: $0.credentials.uid, groups: $0.groups) ? nil : .access }
        let journal = try BatchJournal(directory: directory.path)
        let unfinished = journal.pending
        let isWritten = unfinished.map { BatchWriter.isWritten($0, directory: places.logDirectory) } ?? true
        if let unfinished, !isWritten { BatchWriter.undo(unfinished.pieces[...], directory: places.logDirectory) }
        filter = try FilterPage(directory: directory)
        let origin = LineFormat.Origin(
            node: Array(places.nodeName.utf8), process: Environment.processID, program: Array("logd".utf8))
        var say: (LogSeverity, String) -> Void = { _, _ in }
        files = LogFiles(
            loop: loop, directory: places.logDirectory, journal: journal,
            limits: RotationLimits(fileBytesMax: settings.fileBytesMax, filesMax: settings.filesMax)
        ) { say($0, $1) }
        var globalOptions = GlobalLog.Options()
        (globalOptions.spoolBytes, globalOptions.ledgerBytes) = (settings.spoolBytes, settings.ledgerBytes)
        global = try GlobalLog(loop: loop, places: places, description: description, options: globalOptions) {
            say($0 ? .error : .notice, $1)
        }
        drain = try LogDrain(loop: loop, directory: directory, files: files, global: global) { say(.warning, $0) }
        if let unfinished, isWritten { drain.recover(unfinished) }
        journal.end()
        var hasLines: () -> Void = {}
        outputs = CapturedOutputs(loop: loop, files: files, node: places.nodeName, rate: settings.outputRate) {
            hasLines()
        }
        tails = Tails(loop: loop, files: files)
        let (files, drain, tails, filter) = (files, drain, tails, filter)
        say = { [weak files, weak drain] severity, text in
            files?.add(.system) { format, out in
                format.append(
                    text, of: origin, time: MonotonicClock.wallNanoseconds(), area: "LOG", context: "", number: 0,
                    severity: severity, to: &out)
            }
            loop.enqueue(.low) { drain?.write() }
        }
        hasLines = { [weak drain] in drain?.write() }
        files.onLines = { [weak tails] in tails?.publish(system: $0, application: $1) }
        global.onLines = { [weak tails] in tails?.publish($0, $1) }
        global.onSeverities = { [weak filter] in filter?.set($1, ofGlobal: $0) }
        server.onRequest = { [unowned self] request, body in asked(request, body) }
        server.onDisconnect = { [weak tails] in tails?.left($0) }
        global.beforeClosing = { [weak drain] in drain?.look() }
        global.start()
        try drain.start()
    }

    private func asked(_ request: Request, _ body: UnsafeRawBufferPointer) {
        // Whatever is not taken over is closed.
        var descriptors = request.descriptors.map { SharedDescriptor(Descriptor(owning: $0)) }
        let user = request.peer.info.credentials.uid
        // What belongs to writing is for everybody.
        if LogRequest.isForWriters(request.code) { return askedByWriter(request, body) }
        guard user == 0 || user == Environment.userID else {
            // Writing needs no request: records go through the process's own ring.
            return request.fail(
                .access, "user \(user) may not read or administer the log; root and user \(Environment.userID) may")
        }
        do throws(DecodeError) {
            switch try LogRequest(code: request.code, body: body) {
            case .captureOutput(let component, let process, let output):
                guard descriptors.count == 1, let descriptor = descriptors.popLast() else {
                    return request.fail(
                        .invalidParam, "\(descriptors.count) descriptors came with an output to be captured; 1 expected"
                    )
                }
                capture(request, .init(component: component, process: process, output: output), descriptor)
            case .tail(let stream, let threshold, let backlog, let follows):
                let filter = LineFilter(stream: stream, threshold: threshold)
                if let stream, stream.isGlobal {
                    tailGlobal(request, stream, filter, backlog: Int(backlog), follows: follows)
                } else {
                    tails.begin(request, filter, backlog: Int(backlog), follows: follows)
                }
            case .setSeverity(let stream, let severity) where stream.isGlobal:
                setGlobalSeverity(request, stream, severity)
            case .setSeverity(let stream, let severity):
                setSeverity(severity, of: stream)
                request.reply([])
            case .setRules(let text): request.reply(RuleMistakes(texts: setRules(text)).encoded)
            case .setRotation(let stream, let fileBytesMax, let filesMax):
                setRotation(stream, fileBytesMax: fileBytesMax, filesMax: Int(filesMax))
                request.reply([])
            case .status: request.reply(status.encoded)
            case .globalStatus: globalStatus { request.reply($0.encoded) }
            case .open, .close: break  // of a writer
            }
        } catch {
            request.fail(.invalidParam, "logd cannot read request \(request.code): \(error)")
        }
    }

    private func capture(_ request: Request, _ key: CapturedOutputs.Key, _ descriptor: SharedDescriptor) {
        do throws(OSError) {
            try outputs.capture(key, try Descriptor(duplicating: descriptor.raw))
            request.reply([])
        } catch {
            request.fail(.noResources, "\(key.output) of \(key.component) cannot be captured: \(error)")
        }
    }

    // MARK: Administration

    public func setSeverity(_ severity: LogSeverity?, of stream: LogStream) { filter.set(severity, of: stream) }

    public func severity(of stream: LogStream) -> LogSeverity? { filter.severity(of: stream) }

    /// What is wrong with the rules; empty: they are in force.
    public func setRules(_ text: String) -> [String] {
        guard text.utf8.count <= LogLimits.ruleBytesMax else {
            return ["\(text.utf8.count) bytes of rules; at most \(LogLimits.ruleBytesMax) expected"]
        }
        let mistakes = FilterRules.parse(text).mistakes.map(\.description)
        if mistakes.isEmpty { filter.set(rules: text) }
        return mistakes
    }

    public func setRotation(_ stream: LogStream, fileBytesMax: UInt64, filesMax: Int) {
        files.setLimits(RotationLimits(fileBytesMax: fileBytesMax, filesMax: filesMax), of: stream)
    }

    public var status: LogStatus {
        let streams = LogStream.local.map { stream -> StreamStatus in
            let (series, counts) = (files.series[stream], files.counts[stream] ?? .init())
            return StreamStatus(
                stream: stream, severity: filter.severity(of: stream),
                file: series?.current.map { files.directory + "/" + $0 } ?? "", fileBytes: series?.currentBytes ?? 0,
                fileBytesMax: series?.limits.fileBytesMax ?? 0, filesMax: UInt32(series?.limits.filesMax ?? 0),
                records: counts.records, bytes: counts.bytes, dropped: counts.dropped, writeErrors: counts.errors,
                lastError: files.lastError)
        }
        let rings = drain.rings.entries.map { entry in
            RingStatus(
                process: entry.reader.process, program: String(decoding: entry.reader.origin.program, as: UTF8.self),
                records: entry.reader.recordCount, lost: entry.reader.lostCount, corrupt: entry.reader.corruptCount)
        }
        return LogStatus(streams: streams, rings: rings, outputs: outputs.status, rules: filter.rules)
    }

    /// Writes everything that is there, within `timeout`, and stops. What cannot be written stays in the rings.
    public func close(timeout: Duration = .seconds(5)) {
        outputs.close()
        defer { global.close() }
        if !drain.finish(until: MonotonicClock.now() + timeout) {
            StandardError.write(
                "logd: not everything could be written to \(files.directory); it waits for the next logd\n")
        }
        server.onDisconnect = { _ in }
        server.close()
    }
}
