import CkptClient
import CkptProtocol
import OSAL
import SAFTypes
import Testing

// The example of Sources/ckptd/README.md: what stands there is what runs here.

// example begin
struct Progress: Codable {
    var line = 0
    var words: [String: Int] = [:]
}

/// Counts words so that it may die at any moment: the next one goes on where this one was.
func countWords(of lines: [String], in checkpoint: Checkpoint) async throws -> Progress {
    var progress = Progress()
    if try await checkpoint.contains("progress") { progress = try await checkpoint.value(of: "progress") }
    for line in lines.dropFirst(progress.line) {
        for word in line.split(separator: " ") { progress.words[String(word), default: 0] += 1 }
        progress.line += 1
        try await checkpoint.setValue(progress, of: "progress")
    }
    return progress
}

/// A hot standby: has every change in its own memory a moment after it was made.
func standBy(for checkpoint: Checkpoint, until line: Int) async throws -> Progress {
    var sections: [SectionID: [UInt8]] = [:]
    for await event in checkpoint.updates {
        event.apply(to: &sections)
        guard let data = sections["progress"] else { continue }
        let progress = try CheckpointCoding.value(data, as: Progress.self)
        if progress.line >= line { return progress }
    }
    return Progress()
}

func example(_ service: CheckpointService) async throws -> (active: Progress, standby: Progress) {
    let attributes = CreationAttributes(
        checkpointSize: 1 << 20, retentionDuration: 60_000_000_000, sectionsMax: 8, sectionSizeMax: 1 << 17)
    let active = try await Checkpoint.open("safCkpt=words", creating: attributes, in: service)
    let standby = try await Checkpoint.open("safCkpt=words", [.read], in: service)
    async let copy = standBy(for: standby, until: 3)
    let counted = try await countWords(of: ["a rose", "is a rose", "is a rose"], in: active)
    return (counted, try await copy)
}
// example end

@Suite("The example of the README, a real process")
struct ExampleTests {
    @Test("It counts, its standby has the same, and a second run goes on from the end of the first")
    func runs() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let (counted, copy) = try await example(service)
        #expect(counted.words == ["a": 3, "rose": 3, "is": 2])
        #expect(copy.words == counted.words)
        let again = try await Checkpoint.open("safCkpt=words", in: service)
        #expect(try await countWords(of: ["a rose", "is a rose", "is a rose"], in: again).words == counted.words)
    }

    @Test("What stands in the README is what runs here")
    func isTheReadme() throws {
        let own = try File.readText(#filePath, limit: 1 << 20)
        let root = File.parent(of: File.parent(of: File.parent(of: #filePath)))
        let readme = try File.readText(root + "/Sources/ckptd/README.md", limit: 1 << 20)
        func part(_ text: String, _ begin: String, _ end: String) -> [Substring] {
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            guard let first = lines.firstIndex(where: { $0 == begin }) else { return [] }
            return Array(lines[(first + 1)...].prefix { $0 != end })
        }
        let code = part(own, "// example begin", "// example end")
        #expect(code.count > 20)
        #expect(part(readme, "```swift", "```") == code)
    }
}
