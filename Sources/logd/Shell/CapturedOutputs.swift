import EOLoop
import EngineKit
import LogEngine
import LogProtocol
import OSAL
import SAFTypes

/// The components' outputs: read from their pipes, made into lines of the application stream. Loop thread only.
///
/// What a component says is written whatever the thresholds are, as long as it does not say too much: what a component
/// says beyond its rate is dropped and counted until it has earned the right again. It is looked at now and then only,
/// so that a runaway costs logd little; what its pipe cannot hold meanwhile is lost to it without delay, as its end
/// does not block.
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
        var timer: LoopTimer?
        var flushTimer: LoopTimer?
        var assembler = LineAssembler(bytesMax: RecordLayout.messageBytesMax)
        var number: UInt32 = 0
        var bytes: UInt64 = 0
        var suppressions: UInt64 = 0
        var suppressedBytes: UInt64 = 0
        /// While output is dropped: until then.
        var suppressedUntil: Instant?

        init(key: Key, descriptor: consuming Descriptor, origin: LineFormat.Origin) {
            (self.key, self.origin) = (key, origin)
            self.descriptor = descriptor
        }
    }

    /// One component's rate, shared by its outputs.
    private struct Account {
        var bucket: TokenBucket
        /// It was said that output is suppressed; not said again before the bucket was full.
        var isReported = false
    }

    static let pipesMax = 4096
    static let readBytesMax = 64 * 1024
    /// A line without an end is written after this time.
    static let partialTime: Duration = .seconds(1)
    /// Reading goes on when this much was earned.
    static let resumeBytes: Int64 = 64 * 1024
    /// How often a suppressed output is looked at, and how much is dropped then at most: 40 MiB a second.
    static let dropInterval: Duration = .milliseconds(25)
    static let dropBytesMax = 1 << 20

    let rate: Int64
    let burst: Int64 = 1 << 20
    private let loop: Loop
    private let files: LogFiles
    private let node: [UInt8]
    private let hasLines: () -> Void
    private var pipes: [Key: Pipe] = [:]
    private var accounts: [SaName: Account] = [:]
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
        if accounts[key.component] == nil {
            accounts[key.component] = Account(bucket: TokenBucket(rate: rate, burst: burst, at: loop.now))
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
                isSuppressed: $0.suppressedUntil != nil)
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
        guard let allowed = accounts[pipe.key.component]?.bucket.available(at: loop.now), allowed > 0 else {
            return suppress(pipe)
        }
        if accounts[pipe.key.component]?.bucket.isFull(at: loop.now) == true {
            accounts[pipe.key.component]?.isReported = false
        }
        let limit = min(Self.readBytesMax, Int(allowed))
        let count: Int?
        do throws(OSError) {
            count = try chunk.withUnsafeMutableBufferPointer { (buffer) throws(OSError) in
                try pipe.descriptor.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<limit]))
            }
        } catch {
            return end(pipe)  // a pipe that cannot be read has nothing more to say
        }
        guard let count else { return }
        if count == 0 { return end(pipe) }
        pipe.bytes += UInt64(count)
        var cost: Int64 = 0
        chunk.withUnsafeBytes { raw in
            pipe.assembler.append(UnsafeRawBufferPointer(rebasing: raw[..<count])) { cost += write($0, of: pipe) }
        }
        // At least what was read: lines that are cut or empty cost, too.
        accounts[pipe.key.component]?.bucket.take(max(cost, Int64(count)), at: loop.now)
        if pipe.assembler.hasPartial, pipe.flushTimer == nil {
            pipe.flushTimer = loop.schedule(after: Self.partialTime) { [weak self, weak pipe] in
                guard let self, let pipe else { return }
                pipe.flushTimer = nil
                flush(pipe)
            }
        }
        hasLines()
    }

    private func flush(_ pipe: Pipe) {
        var cost: Int64 = 0
        pipe.assembler.flush { cost += write($0, of: pipe) }
        accounts[pipe.key.component]?.bucket.take(cost, at: loop.now)
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

    /// Drops what comes until its component has earned some bytes.
    private func suppress(_ pipe: Pipe) {
        unwatch(pipe)
        flush(pipe)
        pipe.suppressions += 1
        report(pipe)
        let pause =
            accounts[pipe.key.component]?.bucket.time(of: min(burst, Self.resumeBytes), at: loop.now) ?? .seconds(1)
        pipe.suppressedUntil = loop.now + pause
        dropLater(pipe)
    }

    private func dropLater(_ pipe: Pipe) {
        pipe.timer = loop.schedule(after: Self.dropInterval) { [weak self, weak pipe] in
            guard let self, let pipe else { return }
            pipe.timer = nil
            drop(pipe)
        }
    }

    private func drop(_ pipe: Pipe) {
        var dropped = 0
        while dropped < Self.dropBytesMax {
            let count: Int?
            do throws(OSError) {
                count = try chunk.withUnsafeMutableBufferPointer { (buffer) throws(OSError) in
                    try pipe.descriptor.read(into: UnsafeMutableRawBufferPointer(buffer))
                }
            } catch {
                return end(pipe)
            }
            guard let count else { break }
            if count == 0 { return end(pipe) }
            dropped += count
            pipe.suppressedBytes += UInt64(count)
        }
        if let until = pipe.suppressedUntil, loop.now < until { return dropLater(pipe) }
        pipe.suppressedUntil = nil
        // What comes first is the rest of a line whose beginning was dropped, if anything was.
        if dropped > 0 { pipe.assembler.skipToNextLine() }
        if (try? watch(pipe)) == nil { end(pipe) }
    }

    private func report(_ pipe: Pipe) {
        guard accounts[pipe.key.component]?.isReported == false else { return }
        accounts[pipe.key.component]?.isReported = true
        pipe.number &+= 1
        files.add(.application) { format, out in
            begin(pipe, .warning, &format, &out)
            out.append(
                contentsOf: "output suppressed: more than \(rate) bytes a second; the rest is dropped\n"
                    .utf8)
        }
        hasLines()
    }

    private func end(_ pipe: Pipe) {
        flush(pipe)
        unwatch(pipe)
        pipe.timer.map { loop.cancel($0) }
        pipe.flushTimer.map { loop.cancel($0) }
        if pipes[pipe.key] === pipe { pipes[pipe.key] = nil }
        if !pipes.keys.contains(where: { $0.component == pipe.key.component }) { accounts[pipe.key.component] = nil }
    }

    /// Takes what the pipes hold now, as far as it is allowed, for the end. The pipes stay with whoever made them.
    func close() {
        for key in pipes.keys.sorted(by: { ($0.component, $0.process) < ($1.component, $1.process) }) {
            guard let pipe = pipes[key] else { continue }
            if pipe.suppressedUntil == nil { read(pipe) }
            flush(pipe)
            unwatch(pipe)
        }
        pipes = [:]
    }
}
