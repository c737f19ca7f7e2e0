import Testing

@Suite("Text")
struct TextTests {
    @Test("Lines are at most 120 columns and files at most 600 lines")
    func size() {
        for file in SourceTree.swift {
            for (index, line) in file.lines.enumerated() where line.count > 120 {
                Issue.record("\(file.path):\(index + 1): \(line.count) columns")
            }
            if file.lines.count > 600 { Issue.record("\(file.path): \(file.lines.count) lines hide a second thing") }
        }
    }

    /// What must not stand in the tree, with what to write instead. Cut in two so that this file passes itself.
    static let banned: [(text: String, instead: String)] = [
        ("TO" + "DO", "do it, or say nothing"), ("FIX" + "ME", "mend it"),
        ("try" + "! ", "typed throws"), (" as" + "! ", "as? with an error"),
        ("print" + "(", "StandardOutput.write, or Log"),
        ("-Ouncheck" + "ed", "-O; it removes our invariants"),
    ]

    @Test("Nothing unfinished, nothing that traps by surprise")
    func bannedText() {
        for file in SourceTree.swift {
            for (index, line) in file.lines.enumerated() {
                let code = line.drop { $0 == " " }
                for (text, instead) in Self.banned where code.contains(text) {
                    if text == "print" + "(", !file.path.hasPrefix("Sources/") { continue }
                    Issue.record("\(file.path):\(index + 1): \(text): \(instead)")
                }
            }
        }
    }

    @Test("Engines and protocols never wait, read a clock or draw unseeded chance")
    func purity() {
        let impure = [
            "async ", "await ", "Task {", "SystemRandomNumberGenerator", ".random(in: 0", "ContinuousClock",
            "MonotonicClock",
        ]
        for file in SourceTree.swift
        where file.path.hasPrefix("Sources/")
            && ["Engine", "Protocol"].contains(where: { file.folder.split(separator: "/").contains(Substring($0)) })
        {
            for (index, line) in file.lines.enumerated() where !line.drop(while: { $0 == " " }).hasPrefix("//") {
                for text in impure where line.contains(text) && !line.contains("using:") {
                    Issue.record("\(file.path):\(index + 1): \(text)")
                }
            }
        }
    }

    @Test("The README's first component is the example that is built and tested")
    func firstComponent() {
        let example = Set(
            (SourceTree.swift.first { $0.path == "deploy/examples/hello/Main.swift" }?.lines ?? [])
                .map { $0.drop { $0 == " " } })
        let snippet =
            SourceTree.text("README.md").split(separator: "```swift", maxSplits: 1).last?
            .split(separator: "```", maxSplits: 1).first?.split(separator: "\n") ?? []
        #expect(snippet.count > 8 && snippet.count < 18, "the snippet in README.md was not found")
        for line in snippet.map({ $0.drop { $0 == " " } }) where !example.contains(line) {
            Issue.record("README.md: not a line of the example: \(line)")
        }
    }

    @Test("Every service and every library has its README")
    func readmes() {
        for folder in [
            "amfd", "clmd", "ckptd", "logd", "eventd", "cliserver", "saf", "IOC", "EO", "OSAL", "Containers",
        ] {
            #expect(SourceTree.readme("Sources/\(folder)") > 20, "Sources/\(folder)/README.md is missing or empty")
        }
    }
}
