import CkptClient
import EngineKit
import OSAL
import SAFTypes
import SafStage

/// One whole run; true when the result is identical and nothing was left behind.
func demonstrate(_ options: Options) throws -> Bool {
    let template = try File.readText(options.example + "/model.yaml")
    let node = try PrivateNode(name: "demo")
    defer { node.destroy(keepingFolder: options.keepsFolder) }
    try Process.becomeSubreaper()  // what loses its parent comes to us, so that no zombie stays

    let text = node.folder + "/text"
    let planned = options.kills ?? 40
    let source = try Text.prepare(options.input, bytes: (options.megabytes ?? 36) << 20, at: text)
    let size = UInt64(try File.stat(text).size)
    try node.write(model: fill(template, ["input": text, "folder": node.folder]))
    // Every kill of the active is a fail-over; the node as a whole must not be blamed for them.
    try node.write(cluster: "nodes: { \(node.places.nodeName): { suFailoverMax: 1000000 } }\n")
    StandardOutput.write("demo: \(size >> 20) MiB from \(source), \(planned) kills, seed \(options.seed)\n")

    let observer = Observer(folder: node.folder)
    let progress = ProgressLine()
    progress.show("starting")
    try node.start()
    _ = try node.wait(for: "an active and a standby component", timeout: .seconds(60)) {
        Set(observer.assignments().map(\.haState)).isSuperset(of: ["active", "standby"]) ? true : nil
    }
    let begin = MonotonicClock.now()
    var killing = Killing(node: node, observer: observer, size: size)
    try killing.run(planKills(planned, over: size, seed: options.seed)) { position, kills in
        progress.show("counted \(position * 100 / max(1, size)) %, \(kills) of \(planned) kills")
    }
    let elapsed = MonotonicClock.now() - begin

    progress.show("comparing with tr | sort | uniq -c")
    let counts = try readCounts(in: node.places)
    let isIdentical = try compare(counts, with: text, in: node.folder)
    progress.show("stopping")
    let left = node.stop().map { "\($0.program) (pid \($0.pid))" }
    progress.clear()

    let run = RunSummary(
        source: source, size: size, seed: options.seed, commits: observer.commits, elapsed: elapsed,
        words: counts.count, isIdentical: isIdentical, overlaps: observer.overlapTexts(), left: left)
    let report = Report(
        run: run, kills: killing.made, failovers: killing.failovers(), longestGap: observer.longestGap)
    StandardOutput.write(report.text)
    if options.keepsFolder { StandardOutput.write("  folder            \(node.folder)\n") }
    return report.isGood
}

/// Whether the counts are what coreutils find in the text; both are left in the folder.
func compare(_ counts: [([UInt8], UInt64)], with text: String, in folder: String) throws -> Bool {
    let ours = Text.render(counts)
    try File.writeAtomically(folder + "/result", ours, durable: false)
    try Text.reference(of: text, to: folder + "/expected")
    return ours == (try File.readAll(folder + "/expected", limit: 1 << 31))
}

/// The example's model with other values for some keys.
func fill(_ template: String, _ values: [String: String]) -> String {
    let lines = template.split(separator: "\n", omittingEmptySubsequences: false).map { line -> String in
        let indent = line.prefix { $0 == " " }
        guard let colon = line.firstIndex(of: ":"), let value = values[String(line[indent.endIndex..<colon])] else {
            return String(line)
        }
        return line[...colon] + " \"\(value)\""
    }
    return lines.joined(separator: "\n")
}

/// The counts as ckptd holds them, through the same interface that an application uses.
func readCounts(in places: Places) throws -> [([UInt8], UInt64)] {
    guard let name = SaName("safCkpt=wordcount") else { throw StageError("the checkpoint's name is wrong") }
    let service = CheckpointService(places: places)
    defer { service.close() }
    let checkpoint = try Checkpoint.openBlocking(name, .read, timeout: .seconds(20), in: service)
    var counts: [([UInt8], UInt64)] = []
    for section in try checkpoint.readAllBlocking(timeout: .seconds(20)).sections
    where section.id.description.hasPrefix("bucket-") {
        guard let words = decode(section.data) else {
            throw StageError("section \(section.id) is not a bucket of words")
        }
        counts += words
    }
    try checkpoint.closeBlocking()
    return counts
}

/// A bucket: length u16 · word · count u64, little-endian, repeated; see `WordCounts` of the example.
private func decode(_ bytes: [UInt8]) -> [([UInt8], UInt64)]? {
    var words: [([UInt8], UInt64)] = []
    var reading: Result<Void, DecodeError> = .success(())
    bytes.withUnsafeBytes { raw in
        var reader = ByteReader(raw)
        do throws(DecodeError) {
            while reader.remaining > 0 {
                let length = try reader.integer(UInt16.self)
                words.append((try reader.raw(Int(length)), try reader.integer(UInt64.self)))
            }
        } catch {
            reading = .failure(error)
        }
    }
    guard case .success = reading else { return nil }
    return words
}

/// One line that is written over, on a terminal only.
final class ProgressLine {
    private var shown = ""
    private let isOnTerminal = isTerminal(StandardOutput.raw)

    func show(_ text: String) {
        guard isOnTerminal, text != shown else { return }
        shown = text
        StandardOutput.write("\r\u{1B}[Kdemo: \(text)")
    }

    func clear() {
        if isOnTerminal { StandardOutput.write("\r\u{1B}[K") }
    }
}
