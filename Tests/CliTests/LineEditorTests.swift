import EngineKit
import CliProtocol
import SafText
import Testing

@Suite("The console's line editor")
struct LineEditorTests {
    private func editor() -> LineEditor {
        LineEditor { words in
            words.count == 1 ? ["clmd", "ckptd", "cliserver"] : words[0] == "clmd" ? ["nodes", "names"] : []
        }
    }

    private func type(_ text: String, into editor: inout LineEditor) {
        for character in text { _ = editor.handle(.character(character)) }
    }

    @Test("Characters go in at the cursor and come out of a line")
    func editing() {
        var editor = editor()
        type("acd", into: &editor)
        _ = editor.handle(.home)
        _ = editor.handle(.right)
        type("bé", into: &editor)
        #expect(editor.line == "abécd")
        _ = editor.handle(.backspace)
        _ = editor.handle(.delete)
        #expect(editor.line == "abd")
        #expect(editor.cursor == 2)
        #expect(editor.handle(.enter) == .line("abd"))
        #expect(editor.line == "")
        #expect(editor.handle(.endOfInput) == .end)
    }

    @Test("Up and down recall, and the line being typed comes back")
    func history() {
        var editor = editor()
        for line in ["one", "two", "two", ""] {
            type(line, into: &editor)
            _ = editor.handle(.enter)
        }
        #expect(editor.history == ["one", "two"])
        type("dra", into: &editor)
        _ = editor.handle(.up)
        #expect(editor.line == "two")
        _ = editor.handle(.up)
        _ = editor.handle(.up)
        #expect(editor.line == "one")
        _ = editor.handle(.down)
        _ = editor.handle(.down)
        #expect(editor.line == "dra")
    }

    @Test("Tab completes what is certain and lists what is not")
    func completion() {
        var editor = editor()
        type("cl", into: &editor)
        #expect(editor.handle(.tab) == .candidates(["cliserver", "clmd"]))
        type("m", into: &editor)
        #expect(editor.handle(.tab) == .editing)
        #expect(editor.line == "clmd ")
        _ = editor.handle(.tab)
        #expect(editor.line == "clmd n")
        type("o", into: &editor)
        _ = editor.handle(.tab)
        #expect(editor.line == "clmd nodes ")
        type("x", into: &editor)
        #expect(editor.handle(.tab) == .editing)
    }

    @Test("Keys in pieces, arrows, letters beyond ASCII, and bytes that are none")
    func keys() {
        var decoder = KeyDecoder()
        #expect(decoder.keys(from: Array("a\u{1B}[".utf8)) == [.character("a")])
        #expect(decoder.keys(from: Array("A\u{1B}[3~\u{1B}OF".utf8)) == [.up, .delete, .end])
        #expect(decoder.keys(from: [0xC3]) == [])
        #expect(
            decoder.keys(from: [0xA9, 0xFF, 0x0D, 0x7F, 0x09, 0x04]) == [
                .character("é"), .enter, .backspace, .tab, .endOfInput,
            ])
    }

    @Test("No bytes and no keys break it", arguments: 0..<50 as Range<UInt64>)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var decoder = KeyDecoder()
        var editor = editor()
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 1...8, using: &random)).map { _ in
                random.chance(percent: 30) ? UInt8(0x1B) : UInt8.random(in: .min ... .max, using: &random)
            }
            for key in decoder.keys(from: bytes) {
                _ = editor.handle(key)
                #expect((0...editor.text.count).contains(editor.cursor), "seed \(seed)")
            }
        }
    }
}

@Suite("Text for people")
struct TextForPeopleTests {
    @Test("Severities are read from log lines")
    func severities() {
        let line =
            "2026-03-01T12:34:56.123456Z [a.swift:12] (n.1 : wc.AR.CTX.00042 : WARN) disk (nearly) full : NOTICE)"
        #expect(LogLine.severity(of: line) == "warning")
        #expect(LogLine.severity(of: "plain (text) here") == nil)
        #expect(LogLine.admits(line, severity: "warning"))
        #expect(!LogLine.admits(line, severity: "error"))
        #expect(LogLine.admits("plain", severity: "error"))
        #expect(LogLine.admits(line, severity: nil))
    }

    @Test("Severities are named as people and as the lines name them")
    func severityNames() {
        #expect(LogLine.severity(named: "WARN") == "warning")
        #expect(LogLine.severity(named: "Warning") == "warning")
        #expect(LogLine.severity(named: "warnung") == nil)
    }

    @Test("A stream's files are those that logd numbers, in their order; the link to the newest is none")
    func logFiles() {
        let names = [
            "system.log", "system_20260301T123456-10.log", "system_20260301T123456.log", "system_20260301T123456-2.log",
            "system_20250301T123456.log", "application_20260301T123456.log", "system_x.log", "notes",
        ]
        #expect(
            LogLine.files(of: "system", in: names) == [
                "system_20250301T123456.log", "system_20260301T123456.log", "system_20260301T123456-2.log",
                "system_20260301T123456-10.log",
            ])
        #expect(LogLine.files(of: "sys", in: names).isEmpty)
    }

    @Test("Two streams are merged by time; a line without one follows its predecessor")
    func merged() {
        let first = ["2026-03-01T12:00:01.000000Z a", "tail of a", "2026-03-01T12:00:03.000000Z c"]
        let second = ["2026-03-01T12:00:02.000000Z b"]
        #expect(LogLine.merged(first, second) == [first[0], first[1], second[0], first[2]])
        #expect(LogLine.merged(first, []) == first)
    }

    @Test("Bytes are shown as text only when they are")
    func bytes() {
        #expect(PrintableBytes.text(Array("wörd".utf8)) == "wörd")
        #expect(PrintableBytes.text([0, 255]) == "0x00ff")
        #expect(PrintableBytes.text(Array("a\u{1B}[31m".utf8)) == "0x611b5b33316d")
        #expect(
            PrintableBytes.dump(Array("0123456789abcdefZ\n".utf8)) == """
                00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|
                00000010  5a 0a                                             |Z.|

                """)
        #expect(PrintableBytes.dump([]) == "")
    }

    @Test(
        "Sizes",
        arguments: [
            (0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (3_500, "3.4 KiB"), (1 << 20, "1.0 MiB"),
            (50 << 20, "50 MiB"),
        ] as [(UInt64, String)])
    func sizes(bytes: UInt64, text: String) { #expect(PrintableBytes.size(bytes) == text) }
}
