import EOLoop
import EngineKit
import LogEngine
import LogProtocol
import OSAL
import SAFTypes

/// The components' outputs: read from their pipes, made into lines of the application stream. Loop thread only.
///
/// What a component says is written whatever the thresholds are, as long as it does not say too much: beyond its budget
/// it is read on, so that its pipe has room, but what it says is dropped, and counted in a line now and then. A pipe
/// that fills up all the same (logd stopped, or slower than the component) makes the component's write(2) fail with
/// EAGAIN: its end never blocks.
final class CapturedOutputs {
    struct Key: Hashable {
        var component: SaName
        var process: Int32
        var output: OutputStream
    }

    private final class Pipe {
        let key: Key
        let descriptor: Descriptor
        let origin: LineFormat.Origin
        var watch: WatchID?
        var newsTimer: LoopTimer?
        var flushTimer: LoopTimer?
        var assembler = LineAssembler(bytesMax: RecordLayout.messageBytesMax)
        var number: UInt32 = 0
        var bytes: UInt64 = 0
        var suppressions: UInt64 = 0
        var suppressedBytes: UInt64 = 0
        /// What came last was dropped.
        var isSuppressed = false

        init(key: Key, descriptor: consuming Descriptor, origin: LineFormat.Origin) {
            (self.key, self.origin) = (key, origin)
            self.descriptor = descriptor
        }
    }

    static let pipesMax = 4096
    static let readBytesMax = 64 * 1024
    /// A line without an end is written after this time.
    static let partialTime: Duration = .seconds(1)
    /// The least that is read to be written.
    static let writeBytesMin = 4096
    /// Reads in a row of a pipe whose content is dropped; then others have their turn.
    static let dropsMax = 16

    let rate: Int64
    let burst: Int64 = 1 << 20
    private let loop: Loop
    private let files: LogFiles
    private let node: [UInt8]
    private let hasLines: () -> Void
    private var pipes: [Key: Pipe] = [:]
    /// By component: its outputs share one.
    private var budgets: [SaName: OutputBudget] = [:]
    private var chunk = [UInt8](repeating: 0, count: readBytesMax)

    init(loop: Loop, files: LogFiles, node: String, rate: Int64, hasLines: @escaping () -> Void) {
        (self.loop, self.files, self.hasLines) = (loop, files, hasLines)
        self.node = Array(node.utf8)
        self.rate = max(1, rate)
    }

    /// Reads `descriptor`, which becomes ours, from now on.
    func capture(_ key: Key, _ descriptor: consuming Descriptor) throws(OSError) {
        if let old = pipes[key] { end(old) }
        guard pipes.count < Self.pipesMax else {
            throw OSError(code: 24, call: "capture", subject: "\(Self.pipesMax) outputs are captured already")
        }
        try descriptor.setNonBlocking()
        let origin = LineFormat.Origin(node: node, process: key.process, program: Self.shortName(key.component))
        let pipe = Pipe(key: key, descriptor: descriptor, origin: origin)
        if budgets[key.component] == nil {
            budgets[key.component] = OutputBudget(rate: rate, burst: burst, at: loop.now)
        }
        try watch(pipe)
        pipes[key] = pipe
    }

    /// The value of a DN's first part: `safComp=Reader,safSu=…` is Reader.
    static func shortName(_ component: SaName) -> [UInt8] {
        let first = component.bytes.prefix { $0 != UInt8(ascii: ",") }
        let value = first.firstIndex(of: UInt8(ascii: "=")).map { first[($0 + 1)...] } ?? first
        return Array(value.isEmpty ? first : value)
    }

    var status: [OutputStatus] {
        pipes.values.sorted {
            ($0.key.component, $0.key.process, $0.key.output.rawValue)
                < ($1.key.component, $1.key.process, $1.key.output.rawValue)
        }.map {
            OutputStatus(
                component: $0.key.component, process: $0.key.process, output: $0.key.output, bytes: $0.bytes,
                suppressions: $0.suppressions, suppressedBytes: $0.suppressedBytes,
                isSuppressed: $0.isSuppressed)
        }
    }

    private func watch(_ pipe: Pipe) throws(OSError) {
        pipe.watch = try loop.watch(pipe.descriptor.raw, [.read], lane: .low) { [weak self, weak pipe] _ in
            guard let self, let pipe else { return }
            read(pipe)
        }
    }

    private func unwatch(_ pipe: Pipe) {
        pipe.watch.map { loop.unwatch($0) }
        pipe.watch = nil
    }

    // MARK: Reading

    private func read(_ pipe: Pipe) {
        var drops = 0
        while drops < Self.dropsMax, take(pipe) == .dropped { drops += 1 }
    }

    private enum Taken { case nothing, written, dropped }

    /// One chunk; nothing also when the pipe has ended.
    private func take(_ pipe: Pipe) -> Taken {
        let allowed = budgets[pipe.key.component]?.allowed(at: loop.now) ?? 0
        let limit = allowed > 0 ? min(Self.readBytesMax, max(Self.writeBytesMin, Int(allowed))) : Self.readBytesMax
        let count: Int?
        do throws(OSError) {
            count = try chunk.withUnsafeMutableBufferPointer { (buffer) throws(OSError) in
                try pipe.descriptor.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<limit]))
            }
        } catch {
            end(pipe)  // a pipe that cannot be read has nothing more to say
            return .nothing
        }
        guard let count else { return .nothing }
        if count == 0 {
            end(pipe)
            return .nothing
        }
        if allowed > 0 { write(count, of: pipe) } else { drop(count, of: pipe) }
        return allowed > 0 ? .written : .dropped
    }

    private func write(_ count: Int, of pipe: Pipe) {
        pipe.isSuppressed = false
        pipe.bytes += UInt64(count)
        var cost: Int64 = 0
        chunk.withUnsafeBytes { raw in
            pipe.assembler.append(UnsafeRawBufferPointer(rebasing: raw[..<count])) { cost += write($0, of: pipe) }
        }
        // At least what was read: lines that are cut or empty cost, too.
        budgets[pipe.key.component]?.wrote(count, cost: max(cost, Int64(count)), at: loop.now)
        if pipe.assembler.hasPartial, pipe.flushTimer == nil {
            pipe.flushTimer = loop.schedule(after: Self.partialTime) { [weak self, weak pipe] in
                guard let self, let pipe else { return }
                pipe.flushTimer = nil
                flush(pipe)
            }
        }
        hasLines()
    }

    private func drop(_ count: Int, of pipe: Pipe) {
        if !pipe.isSuppressed {
            pipe.isSuppressed = true
            pipe.suppressions += 1
            flush(pipe)
        }
        pipe.assembler.missed(endingWithinLine: chunk[count - 1] != UInt8(ascii: "\n"))
        pipe.suppressedBytes += UInt64(count)
        budgets[pipe.key.component]?.dropped(count)
        tellNews(pipe)
    }

    private func flush(_ pipe: Pipe) {
        var cost: Int64 = 0
        pipe.assembler.flush { cost += write($0, of: pipe) }
        if cost > 0 { budgets[pipe.key.component]?.wrote(0, cost: cost, at: loop.now) }
        hasLines()
    }

    /// Writes one line; what it costs in the file.
    private func write(_ line: LineAssembler.Line, of pipe: Pipe) -> Int64 {
        if line.bytes.isEmpty { return 0 }
        pipe.number &+= 1
        return Int64(
            files.add(.application) { format, out in
                begin(pipe, pipe.key.output.severity, &format, &out)
                line.bytes.withUnsafeBytes { LineFormat.appendPrintable($0, to: &out) }
                if line.isCut { out.append(contentsOf: LineFormat.cutMark) }
                out.append(UInt8(ascii: "\n"))
            })
    }

    private static let area = Array("OUT".utf8)
    private static let contexts = [Array("stdout".utf8), Array("stderr".utf8)]

    private func begin(_ pipe: Pipe, _ severity: LogSeverity, _ format: inout LineFormat, _ out: inout [UInt8]) {
        let context = Self.contexts[pipe.key.output == .standardOutput ? 0 : 1]
        Self.area.withUnsafeBytes { area in
            context.withUnsafeBytes { context in
                format.begin(
                    pipe.origin, time: MonotonicClock.wallNanoseconds(),
                    file: UnsafeRawBufferPointer(start: nil, count: 0),
                    line: 0, area: area, context: context, number: pipe.number, severity: severity, to: &out)
            }
        }
    }

    /// Says how much was dropped: at once, then once a window as long as there is something to say.
    private func tellNews(_ pipe: Pipe) {
        if let bytes = budgets[pipe.key.component]?.news(at: loop.now) { report(bytes, pipe) }
        guard pipe.newsTimer == nil else { return }
        pipe.newsTimer = loop.schedule(after: OutputBudget.window) { [weak self, weak pipe] in
            guard let self, let pipe else { return }
            pipe.newsTimer = nil
            if let bytes = budgets[pipe.key.component]?.news(at: loop.now) { report(bytes, pipe) }
        }
    }

    private func report(_ bytes: UInt64, _ pipe: Pipe) {
        pipe.number &+= 1
        let isRunaway = budgets[pipe.key.component]?.isRunaway == true
        let allowed = isRunaway ? "; while it goes on, \(rate / OutputBudget.trickle) bytes a second are kept" : ""
        files.add(.application) { format, out in
            begin(pipe, .warning, &format, &out)
            out.append(
                contentsOf: "output suppressed: \(bytes) bytes beyond \(rate) a second were dropped\(allowed)\n".utf8)
        }
        hasLines()
    }

    private func end(_ pipe: Pipe) {
        flush(pipe)
        unwatch(pipe)
        if pipe.suppressions > 0, let bytes = budgets[pipe.key.component]?.lastNews() { report(bytes, pipe) }
        pipe.newsTimer.map { loop.cancel($0) }
        pipe.flushTimer.map { loop.cancel($0) }
        if pipes[pipe.key] === pipe { pipes[pipe.key] = nil }
        if !pipes.keys.contains(where: { $0.component == pipe.key.component }) { budgets[pipe.key.component] = nil }
    }

    /// Takes what the pipes hold now, as far as it is allowed, for the end. The pipes stay with whoever made them.
    func close() {
        for key in pipes.keys.sorted(by: { ($0.component, $0.process) < ($1.component, $1.process) }) {
            guard let pipe = pipes[key] else { continue }
            read(pipe)
            flush(pipe)
            unwatch(pipe)
            if let bytes = budgets[key.component]?.lastNews() { report(bytes, pipe) }
        }
        pipes = [:]
    }
}
