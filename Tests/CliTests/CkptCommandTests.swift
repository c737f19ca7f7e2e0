import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

/// A real ckptd with a checkpoint of this process, and `saf ckpt` beside it. Nothing else of a node is there.
private final class Stand {
    private let temporary: TemporaryPlaces
    private let lock: Descriptor
    private let daemon: Int32
    let checkpoint: Checkpoint
    var places: Places { temporary.places }

    init(_ flags: CreationFlags = .writeAllReplicas) throws {
        temporary = try TemporaryPlaces()
        let places = temporary.places
        // A node is there when somebody holds amfd's lock.
        try File.makeDirectories(places.runDirectory + "/amfd")
        guard let lock = try File.fileLock(places.runDirectory + "/amfd/amfd.lock") else {
            throw OSError(code: 0, call: "flock", subject: places.runDirectory)
        }
        self.lock = lock
        let programs = File.parent(of: try #require(Environment.executablePath))
        for program in ["ckptd", "saf"] {
            try #require(File.isExecutable("\(programs)/\(program)"), "\(program) must have been built")
        }
        var options = SpawnOptions(path: programs + "/ckptd", environment: Environment.all + places.environment)
        options.deathSignal = .kill
        daemon = try Process.spawn(options).pid
        let attributes = CreationAttributes(
            flags: flags, checkpointSize: 1_000, retentionDuration: 60_000_000_000, sectionsMax: 4,
            sectionSizeMax: 500)
        let name = try #require(SaName("safCkpt=words,safApp=demo"))
        checkpoint = try Checkpoint.openBlocking(
            name, creating: attributes, timeout: .seconds(30), in: CheckpointService(places: places))
        guard flags == .writeAllReplicas else { return }
        try checkpoint.writeBlocking { batch in
            batch.create("position", [0, 0, 0, 7])
            batch.create("title", Array("a rose".utf8))
        }
    }

    deinit {
        _ = try? Process.kill(daemon, .kill)
        while Process.reap(daemon) == nil { OSAL.pause() }
    }

    struct Run {
        var status: OSAL.ExitStatus
        var output: String
    }

    func saf(_ words: String..., input: String? = nil) throws -> Run {
        let programs = File.parent(of: try #require(Environment.executablePath))
        let path = temporary.root + "/output"
        _ = try? File.remove(path)  // of the run before
        let file = try File.openForAppending(path)
        try File.writeAtomically(temporary.root + "/input", Array((input ?? "").utf8), durable: false)
        let stdin = try File.open(temporary.root + "/input")
        var options = SpawnOptions(path: "\(programs)/saf", arguments: ["saf", "ckpt"] + words)
        options.environment = Environment.all.filter { !$0.hasPrefix("SAF_") } + places.environment
        options.descriptors = [
            DescriptorMapping(stdin.raw, as: 0), DescriptorMapping(file.raw, as: 1), DescriptorMapping(file.raw, as: 2),
        ]
        options.deathSignal = .kill
        let child = try Process.spawn(options)
        guard try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(60)) else {
            _ = try Process.kill(child.pid, .kill)
            throw OSError(code: 110, call: "saf ckpt", subject: words.joined(separator: " "))
        }
        var status = Process.reap(child.pid)
        while status == nil {
            OSThread.yield()
            status = Process.reap(child.pid)
        }
        return Run(status: try #require(status), output: try File.readText(path))
    }

    /// The output of a line of bash, with our programs in its PATH.
    func shell(_ line: String) throws -> String {
        let programs = File.parent(of: try #require(Environment.executablePath))
        let path = temporary.root + "/shell"
        _ = try? File.remove(path)  // of the line before
        let file = try File.openForAppending(path)
        var options = SpawnOptions(path: "/bin/bash", arguments: ["bash", "-c", line])
        options.environment =
            Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("PATH=") } + places.environment
            + ["PATH=\(programs):/usr/bin:/bin"]
        options.descriptors = [DescriptorMapping(file.raw, as: 1), DescriptorMapping(file.raw, as: 2)]
        options.deathSignal = .kill
        let child = try Process.spawn(options)
        guard try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(120)) else {
            _ = try Process.kill(child.pid, .kill)
            throw OSError(code: 110, call: "bash", subject: line)
        }
        while Process.reap(child.pid) == nil { OSThread.yield() }
        return try File.readText(path)
    }

    /// What bash offers for the last word.
    func completions(_ words: String...) throws -> [String] {
        let line = words.map { "'\($0)'" }.joined(separator: " ")
        let output = try shell(
            """
            eval "$(saf --generate-completion-script bash)"
            COMP_WORDS=(\(line)); COMP_CWORD=\(words.count - 1); COMP_LINE="\(words.joined(separator: " "))"
            COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_KEY=9
            _saf saf "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            printf '%s\\n' "${COMPREPLY[@]}"
            """)
        return output.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("-") }
    }

    func type(_ words: String...) throws -> Typist { try Typist(places, ["ckpt"] + words) }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}

@Suite("saf ckpt, real processes", .serialized)
struct CkptCommandTests {
    @Test("What is there is shown: list, show, sections, dump, in words and as JSON")
    func looking() throws {
        let stand = try Stand()
        let list = try stand.saf("list")
        #expect(list.status == .exited(code: 0))
        #expect(
            list.output.contains("safCkpt=words,safApp=demo  2 sections, 10 B, change 1, open in pid"), "\(list.output)"
        )
        let show = try stand.saf("show", "words").output
        #expect(show.contains("synchronous; kept 1m when nobody has it open"), "\(show)")
        #expect(show.contains("open in pid \(Environment.processID), reads, writes"), "\(show)")
        #expect(show.contains("position  4 B  0x00000007") && show.contains("title  6 B  a rose"), "\(show)")
        let json = try stand.saf("show", "words", "--json").output
        #expect(
            json.contains(#""mode":"synchronous""#) && json.contains(#""retentionNanoseconds":60000000000"#), "\(json)")
        let sections = try stand.saf("sections", "words").output
        #expect(sections.contains("title  6 B  changed 20") && !sections.contains("expires"), "\(sections)")
        #expect(
            try stand.saf("sections", "words", "--json").output.contains(#""id":"position","size":4,"corrupted":false"#)
        )
        #expect(try stand.saf("dump", "words", "--section", "title", "--text").output == "title  6 bytes\na rose\n")
        #expect(try stand.saf("dump", "words", "--section", "title", "--raw").output == "a rose")
        #expect(try stand.saf("dump", "words", "--json").output.contains(#""data":"00000007""#))
    }

    @Test("Sections are written: from the line, a file, the input; at an offset; made; deleted")
    func writing() throws {
        let stand = try Stand()
        let checkpoint = stand.checkpoint
        let written = try stand.saf("write", "words", "title", "a tulip")
        #expect(written.output == "safCkpt=words,safApp=demo: 7 bytes written to title, change 2\n")
        #expect(try checkpoint.readBlocking("title") == Array("a tulip".utf8))
        #expect(
            try stand.saf("write", "words", "position", "--hex", "00 ff", "--at", "4", "--json").output
                == #"{"checkpoint":"safCkpt=words,safApp=demo","section":"position","bytes":2,"change":3}"# + "\n")
        #expect(try checkpoint.readBlocking("position") == [0, 0, 0, 7, 0, 255])
        #expect(try stand.saf("write", "words", "new", "--create", input: "from the input").status == .exited(code: 0))
        #expect(try checkpoint.readBlocking("new") == Array("from the input".utf8))
        try File.writeAtomically(stand.places.runDirectory + "/data", [1, 2], durable: false)
        #expect(
            try stand.saf("write", "words", "new", "--create", "--file", stand.places.runDirectory + "/data").status
                == .exited(code: 0))
        #expect(try checkpoint.readBlocking("new") == [1, 2])
        #expect(try stand.saf("delete", "words", "new").output == "safCkpt=words,safApp=demo: section new deleted\n")
        #expect(try checkpoint.containsBlocking("new") == false)
        let unknown = try stand.saf("write", "words", "titel", "x")
        #expect(unknown.status == .exited(code: 1))
        #expect(unknown.output.contains("has no section 'titel'; did you mean title?"), "\(unknown.output)")
        let large = try stand.saf("write", "words", "title", String(repeating: "x", count: 501))
        #expect(
            large.status == .exited(code: 1) && large.output.contains("a section has at most 500"), "\(large.output)")
        for wrong in [["--hex", "0"], ["--hex", "zz"], ["--at", "-1"], ["text", "--hex", "00"]] {
            let words = ["write", "words", "title"] + wrong
            let run = try stand.saf(words[0], words[1], words[2], words[3], words.count > 4 ? words[4] : "")
            #expect(run.status == .exited(code: 64), "\(words): \(run.output)")
        }
        #expect(try stand.saf("show", "wrods").output.contains("did you mean"))
    }

    @Test("Retention, active replica and unlink; what is not possible says why, and what is")
    func operating() throws {
        let stand = try Stand()
        #expect(
            try stand.saf("retention", "words").output == "safCkpt=words,safApp=demo: kept 1m after its last close\n")
        #expect(
            try stand.saf("retention", "words", "2h").output
                == "safCkpt=words,safApp=demo: kept 2h after its last close\n")
        #expect(try stand.checkpoint.statusBlocking().attributes.retentionDuration == 7_200_000_000_000)
        #expect(try stand.saf("retention", "words", "forever", "--json").output.contains(#""forever":true"#))
        #expect(try stand.saf("retention", "words", "soon").status == .exited(code: 64))
        let active = try stand.saf("active", "words")
        #expect(active.status == .exited(code: 1))
        #expect(active.output.contains("only a collocated checkpoint with asynchronous updates"), "\(active.output)")
        let unasked = try stand.saf("unlink", "words")
        #expect(unasked.status == .exited(code: 1) && unasked.output.contains("say so with --yes"), "\(unasked.output)")
        #expect(try stand.saf("unlink", "words", "--yes").output == "safCkpt=words,safApp=demo: unlinked\n")
        #expect(try stand.checkpoint.readBlocking("title") == Array("a rose".utf8), "who has it open keeps it")
        #expect(try stand.saf("unlink", "words", "--yes").status == .exited(code: 1))
    }

    @Test("Without an active replica it says how to get one; then it has one")
    func activating() throws {
        let stand = try Stand([.writeActiveReplica, .collocated])
        let refused = try stand.saf("write", "words", "a", "x", "--create")
        #expect(refused.status == .exited(code: 1))
        #expect(refused.output.contains("it with: saf ckpt active"), "\(refused.output)")
        let active = try stand.saf("active", "words")
        #expect(active.output.contains("(active)"), "\(active.output)")
        #expect(try stand.saf("write", "words", "a", "x", "--create").status == .exited(code: 0))
    }

    @Test("On a terminal: unlink asks, watch goes on until Ctrl-C, and both can be followed")
    func terminal() throws {
        let stand = try Stand()
        let watch = try stand.type("watch", "words")
        #expect(try watch.sees(["replicas on node", "title  6 B  a rose"]))
        try stand.checkpoint.writeBlocking("position", at: 3, [8])
        #expect(try watch.sees("position  1 B written at 3  0x08"))
        try stand.checkpoint.putBlocking("fresh", [65], expires: .saTimeEnd - 1)
        #expect(try watch.sees("fresh  created, 1 B, expires 2262-"))
        try stand.checkpoint.deleteSectionBlocking("fresh")
        #expect(try watch.sees("fresh  deleted"))
        let asked = try stand.type("unlink", "words")
        #expect(try asked.sees("Go on? [y/N]"))
        try asked.type("n\r")
        #expect(try asked.sees("nothing was done"))
        #expect(try asked.end() == .exited(code: 1))
        let again = try stand.type("unlink", "words")
        #expect(try again.sees("Go on? [y/N]"))
        try again.type("y\r")
        #expect(try again.sees("unlinked"))
        #expect(try again.end() == .exited(code: 0))
        try watch.interrupt()
        #expect(try watch.end() == .signaled(.interrupt))
    }

    @Test("watch --count ends by itself; --section and --json choose and form the lines")
    func watching() throws {
        let stand = try Stand()
        let run = try stand.saf("watch", "words", "--count", "2", "--json")
        #expect(run.status == .exited(code: 0))
        #expect(run.output.split(separator: "\n").count == 2)
        #expect(
            run.output.contains(#""replicas":{"epoch":0"#) && run.output.contains(#""snapshot":["#), "\(run.output)")
        let chosen = try stand.type("watch", "words", "--section", "position", "--json")
        #expect(try chosen.sees(#""snapshot":[{"id":"position""#))
        try stand.checkpoint.writeBlocking("title", at: 0, [66])
        try stand.checkpoint.writeBlocking("position", at: 1, [9])
        #expect(try chosen.sees(#""change":3,"#))
        #expect(try chosen.sees(#""what":"written","offset":1,"data":"09""#))
        #expect(!chosen.shown.contains(#""change":2,"#), "another section's")
    }

    @Test("Tab completes names of checkpoints and of their sections")
    func completion() throws {
        let stand = try Stand()
        #expect(try stand.completions("saf", "ckpt", "show", "") == ["words"])
        #expect(
            try stand.completions("saf", "ckpt", "dump", "words", "--section", "").sorted() == ["position", "title"])
        #expect(try stand.completions("saf", "ckpt", "delete", "words", "ti") == ["title"])
    }

    @Test("A section larger than one answer is dumped whole", .timeLimit(.minutes(5)))
    func large() throws {
        let stand = try Stand()
        let name = try #require(SaName("safCkpt=large"))
        let size = 70 << 20
        let attributes = CreationAttributes(checkpointSize: UInt64(size), sectionSizeMax: UInt64(size))
        let checkpoint = try Checkpoint.openBlocking(
            name, creating: attributes, in: CheckpointService(places: stand.places))
        try checkpoint.writeBlocking(at: 0, [7])
        try checkpoint.writeBlocking(at: size - 3, [1, 2, 3], timeout: .seconds(60))
        let count = try stand.shell("saf ckpt dump large --section '' --raw | wc -c")
        #expect(count.trimmed == "\(size)")
        #expect(
            try stand.shell("saf ckpt dump large --section '' --raw | tail -c 4 | od -An -tu1").trimmed
                == "0   1   2   3")
    }

    @Test(
        "--help of each says what it does, with an example, and each answers as JSON",
        arguments: [
            "list", "show", "sections", "dump", "watch", "write", "delete", "unlink", "retention", "active",
        ])
    func help(command: String) throws {
        let stand = try Stand(.writeActiveReplica)
        let help = try stand.saf(command, "--help")
        #expect(help.status == .exited(code: 0))
        #expect(help.output.contains("OVERVIEW: ") && help.output.contains("--json"), "\(help.output)")
        #expect(help.output.contains("Example"), "\(help.output)")
    }

    @Test("Without a node it says so at once")
    func noNode() throws {
        let stand = try Stand()
        let temporary = try TemporaryPlaces()
        let typist = try Typist(temporary.places, ["ckpt", "write", "x", "y", "z"])
        #expect(try typist.sees("no SwiftSAF node is running here"))
        #expect(try typist.end() == .exited(code: 3))
        withExtendedLifetime(stand) {}
    }
}
