import LogProtocol
import OSAL
import Synchronization

/// Everything a process needs to log: its ring, the doorbell, the filter. Thread-safe; never blocks, never throws.
///
/// Works without logd: records wait in the ring. When not even the ring can be made (no memory, no directory) records
/// are counted, and it is tried again after a second.
///
/// Not for a forked child that does not exec: it would write into its parent's ring.
public final class LogWriter: Sendable {
    public struct Options: Sendable {
        public var places: Places
        /// The program named in each line; default: the executable's name.
        public var program: String
        /// Bytes of the ring; default `SAF_LOG_RING_BYTES`, else 1 MiB.
        public var ringBytes: Int
        /// Default `CL_LOG_SEVERITY`, else NOTICE.
        public var severity: LogSeverity
        /// Default: not `CL_LOG_TIME_ENABLE=0`.
        public var hasTime: Bool
        /// Variables of the environment that were not understood, a sentence each.
        public var mistakes: [String]
        /// Also write each line to stderr.
        public var echoes: Bool
        /// Who writes; only tests name another than this process.
        public var process: Int32
        public var startTime: UInt64

        /// The defaults, from this process's environment.
        public init(places: Places = .fromEnvironment()) {
            self.places = places
            let path = CommandLine.arguments.first ?? ""
            program = path.split(separator: "/").last.map(String.init) ?? "unknown"
            let settings = WriterSettings { Environment.get($0) }
            (ringBytes, severity, hasTime) = (settings.ringBytes, settings.severity, settings.hasTime)
            mistakes = settings.mistakes
            echoes = Environment.get("SAF_LOG_STDERR") == "1"
            process = Environment.processID
            startTime = ownStartTime()
        }
    }

    private final class Output: Sendable {
        let ring: RingWriter
        let bell: WriterBell
        init(ring: RingWriter, bell: WriterBell) { (self.ring, self.bell) = (ring, bell) }
    }

    public let options: Options
    private let filter: FilterCache
    /// An unmanaged ``Output``, so that a record costs a load and no lock.
    private let output = Atomic<UInt>(0)
    private let opening = Lock(())
    private let nextTry = Atomic<Int64>(0)
    private let unwritten = Atomic<UInt32>(0)
    private let echo: Echo?

    private static let retryNanoseconds: Int64 = 1_000_000_000

    public init(_ options: Options) {
        self.options = options
        echo = options.echoes ? Echo() : nil
        let directory = LogDirectory(places: options.places)
        try? directory.make()  // when that fails, so does the ring, which is tried again
        filter = FilterCache(
            page: try? directory.openFilter(writable: false), own: options.severity, node: options.places.nodeName,
            program: options.program)
    }

    deinit {
        let bits = output.load(ordering: .acquiring)
        if let pointer = UnsafeRawPointer(bitPattern: bits) { Unmanaged<Output>.fromOpaque(pointer).release() }
    }

    /// Records dropped so far, by a full ring or for want of one.
    public var droppedCount: UInt64 {
        let waiting = UInt64(unwritten.load(ordering: .relaxed))
        guard let pointer = UnsafeRawPointer(bitPattern: output.load(ordering: .acquiring)) else { return waiting }
        return waiting + Unmanaged<Output>.fromOpaque(pointer).takeUnretainedValue().ring.droppedCount
    }

    /// Whether a record of this severity can pass at all; for callers that prepare costly messages.
    @inline(__always)
    public func admits(_ severity: LogSeverity, _ stream: LogStream) -> Bool { filter.admits(severity, stream) }

    /// Writes one record. An ASCII or native Swift string is written without any allocation.
    public func write(
        _ severity: LogSeverity, _ stream: LogStream, message: String, area: String, context: String,
        file: StaticString,
        line: UInt32
    ) {
        var (message, area, context) = (message, area, context)
        area.withUTF8 { area in
            context.withUTF8 { context in
                message.withUTF8 { message in
                    file.withUTF8Buffer { file in
                        write(
                            severity, stream, message: UnsafeRawBufferPointer(message),
                            area: UnsafeRawBufferPointer(area),
                            context: UnsafeRawBufferPointer(context), file: UnsafeRawBufferPointer(file), line: line)
                    }
                }
            }
        }
    }

    /// Writes one record whose texts are bytes.
    public func write(
        _ severity: LogSeverity, _ stream: LogStream, message: UnsafeRawBufferPointer, area: UnsafeRawBufferPointer,
        context: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer, line: UInt32
    ) {
        let threshold: UInt8
        if stream.isGlobal {
            guard filter.admitsGlobal(severity, stream) else { return }
            threshold = LogSeverity.notice.rawValue
        } else {
            threshold = filter.threshold(stream, area: area, context: context, file: file)
            guard severity.rawValue <= threshold else { return }
        }
        // File and line belong to a record when its threshold is DEBUG or lower, whatever its own severity is.
        let shown = threshold >= LogSeverity.debug.rawValue ? file : UnsafeRawBufferPointer(start: nil, count: 0)
        let record = RingWriter.Record(
            time: MonotonicClock.wallNanoseconds(), severity: severity, stream: stream, line: shown.isEmpty ? 0 : line,
            area: area, context: context, file: shown, message: message)
        put(record)
        if let echo { Self.echo(record, echo, options) }
    }

    /// The format of stderr's lines.
    private final class Echo: Sendable {
        let format = Lock(LineFormat())
    }

    private func put(_ record: RingWriter.Record) {
        let bits = output.load(ordering: .acquiring)
        guard let pointer = UnsafeRawPointer(bitPattern: bits) else {
            if open(at: record.time) { put(record) } else { unwritten.wrappingAdd(1, ordering: .relaxed) }
            return
        }
        let output = Unmanaged<Output>.fromOpaque(pointer)
        output._withUnsafeGuaranteedRef { output in
            let outcome = output.ring.append(record)
            output.bell.ring(isUrgent: outcome != .written)
        }
    }

    /// Makes the ring; false when that is not possible now.
    private func open(at time: Int64) -> Bool {
        guard time >= nextTry.load(ordering: .relaxed) else { return false }
        return opening.withLock { _ in
            if output.load(ordering: .acquiring) != 0 { return true }
            nextTry.store(time &+ Self.retryNanoseconds, ordering: .relaxed)
            guard let made = try? makeOutput() else { return false }
            made.ring.countDropped(unwritten.exchange(0, ordering: .relaxed))
            output.store(UInt(bitPattern: Unmanaged.passRetained(made).toOpaque()), ordering: .releasing)
            return true
        }
    }

    private func makeOutput() throws(OSError) -> Output {
        let directory = LogDirectory(places: options.places)
        try directory.make()
        let bell = WriterBell(page: try directory.openDoorbell())
        removeStaleRings(directory)
        let ring = try RingWriter.create(
            directory: directory.path, process: options.process, startTime: options.startTime, program: options.program,
            node: options.places.nodeName, capacity: options.ringBytes, hasTime: options.hasTime)
        bell.announceRing()
        return Output(ring: ring, bell: bell)
    }

    /// Where no logd ever runs nobody would remove the rings of dead writers: beyond a limit the oldest go.
    private func removeStaleRings(_ directory: LogDirectory) {
        let ringsMax = 64
        guard let names = try? File.list(directory.path), names.count > ringsMax else { return }
        let rings = names.compactMap { name in RingLayout.parse(fileName: name).map { (name, $0) } }
        let dead = rings.filter { !File.exists("/proc/\($0.1.process)") }.sorted { $0.1.startTime < $1.1.startTime }
        for (name, _) in dead.prefix(max(0, rings.count - ringsMax)) {
            _ = try? File.remove(directory.path + "/" + name)  // another process may do the same
        }
    }

    private static func echo(_ record: RingWriter.Record, _ echo: Echo, _ options: Options) {
        let origin = LineFormat.Origin(
            node: Array(options.places.nodeName.utf8), process: options.process, program: Array(options.program.utf8),
            hasTime: options.hasTime)
        var line: [UInt8] = []
        let (time, severity, number) = (record.time, record.severity, record.line)
        let (area, context, file) = (record.area, record.context, record.file)
        line = echo.format.withLock { format in
            var line: [UInt8] = []
            format.begin(
                origin, time: time, file: file, line: number, area: area, context: context, number: 0,
                severity: severity, to: &line)
            return line
        }
        LineFormat.appendPrintable(record.message, to: &line)
        line.append(UInt8(ascii: "\n"))
        StandardError.write(String(decoding: line, as: UTF8.self))
    }
}
