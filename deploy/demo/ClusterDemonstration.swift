import EngineKit
import OSAL
import SafLab
import SafStage

/// One whole run on three nodes; true when the result is identical and never two were active at once.
func demonstrateCluster(_ options: Options) throws -> Bool {
    let template = try File.readText(options.example + "/model.yaml")
    let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-demo")
    defer { if !options.keepsFolder { try? File.removeTree(folder) } }
    let text = folder + "/text"
    let source = try Text.prepare(options.input, bytes: (options.megabytes ?? 192) << 20, at: text)
    let plan = planFaults(options.kills ?? 135, only: options.only, seed: options.seed)

    var choice = LabOptions()
    (choice.name, choice.payloads, choice.areLinksEncrypted) = ("demo", [3], true)
    StandardOutput.write("demo: three nodes, \(plan.count) faults, seed \(options.seed)\n")
    let progress = ProgressLine()
    progress.show("starting")
    let lab = try ClusterLab.up(choice)
    let labFolder = lab.folder
    Interruption.atEnd(labFolder) {
        try? ClusterLab.remove(folder: labFolder)  // the next lab finds what is left
        try? File.removeTree(folder)
    }
    defer {
        if options.keepsFolder { keepLogs(of: lab, in: folder) }
        try? lab.down()
        Interruption.atEnd(labFolder, nil)
    }
    try lab.awaitFormed()
    for node in choice.allNodes {
        try lab.write(model: fill(template, ["input": text, "folder": folder, "piece": "128"]), on: node)
        try lab.startNode(node)
    }

    let observer = Observer(folder: folder)
    let begin = MonotonicClock.now()
    let faults = FaultRun(lab: lab, observer: observer, size: UInt64(try File.stat(text).size))
    faults.onProgress = {
        let now = faults.current?.kind.name ?? ""
        progress.show("\(observer.position >> 10) KiB counted, \(faults.made.count) of \(plan.count) faults; \(now)")
    }
    let list = try FaultList(folder + "/faults")
    faults.onFault = { list.write("\($0.kind.name), node \($1), for \($0.lasts.short)") }
    faults.onMade = { list.write("overcome: new active after \($0.failover?.short ?? "-"), gap \($0.gap.short)") }
    try faults.run(plan)
    let size = try Text.cut(text, behind: observer.position + 1 << 17)
    faults.size = size
    try faults.awaitEnd()
    let elapsed = MonotonicClock.now() - begin

    progress.show("comparing with tr | sort | uniq -c")
    let counts = try readCounts(in: lab.places(of: 1))
    let isIdentical = try compare(counts, with: text, in: folder)
    progress.show("stopping")
    let left = choice.allNodes.filter { node in
        do { try lab.stopNode(node) } catch { return true }
        return false
    }
    progress.clear()

    let run = RunSummary(
        source: source, size: size, seed: options.seed, commits: observer.commits, elapsed: elapsed,
        words: counts.count, isIdentical: isIdentical, overlaps: observer.overlapTexts(),
        left: left.map { "node \($0)" })
    let report = ClusterReport(run: run, faults: faults.made, planned: plan.count)
    StandardOutput.write(report.text)
    if options.keepsFolder { StandardOutput.write("  folder            \(folder)\n") }
    return report.isGood
}

/// What was done when, for whoever reads the logs.
private final class FaultList {
    private let file: Descriptor

    init(_ path: String) throws(OSError) { file = try File.openForAppending(path) }

    func write(_ text: String) {
        let time = MonotonicClock.calendar(wallNanoseconds: MonotonicClock.wallNanoseconds(), utc: true)
        func digits(_ number: Int, _ count: Int) -> String {
            String(repeating: "0", count: max(0, count - String(number).count)) + String(number)
        }
        let clock = [time.hour, time.minute, time.second].map { digits($0, 2) }.joined(separator: ":")
        var line = "\(clock).\(digits(time.nanosecond / 1_000_000, 3)) \(text)\n"
        line.withUTF8 { _ = try? IO.write(file.raw, UnsafeRawBufferPointer($0)) }  // nothing depends on it
    }
}

/// What the nodes have said, beside what was counted.
private func keepLogs(of lab: ClusterLab, in folder: String) {
    for node in lab.options.allNodes {
        let options = SpawnOptions(
            path: "/bin/cp", arguments: ["cp", "-r", lab.folder(of: node) + "/log", "\(folder)/log\(node)"])
        guard let child = try? Process.spawn(options) else { continue }  // only the logs are missing then
        _ = try? IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        _ = Process.reap(child.pid)
    }
}
