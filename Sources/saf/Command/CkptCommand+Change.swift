import ArgumentParser
import CkptClient
import CkptProtocol
import CliProtocol
import OSAL
import SAFTypes
import SafConfig
import SafText

// What changes a checkpoint.
extension CkptCommand {
    struct Write: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "write", abstract: "Writes a section's data.",
            usage: """
                saf ckpt write <name> <section> [<text> | --hex <hex> | --file <file>]
                                [--at <at> | --create] [--json]
                """,
            discussion: """
                Replaces all of the section's data; with --at only the bytes from there on,
                and the section grows as it must. Without TEXT, --hex and --file the data
                comes from the standard input.

                Example: saf ckpt write wordcount title 'a new one'
                Example: saf ckpt write wordcount position --at 4 --hex 0000ffff
                Example: saf ckpt write wordcount picture --create --file picture.png
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Argument(help: "The section.", completion: Completions.sections) var section: String
        @Argument(help: "The data, as it stands here.") var text: String?
        @Option(help: "The data in hexadecimal; blanks do not count.") var hex: String?
        @Option(help: "A file with the data.", completion: .file()) var file: String?
        @Option(help: "Writes from this offset on instead of replacing everything.") var at: Int?
        @Flag(help: "Makes the section when there is none.") var create = false
        @Flag(help: "One JSON object.") var json = false

        func validate() throws {
            if [text, hex, file].count(where: { $0 != nil }) > 1 {
                throw ValidationError("one of TEXT, --hex and --file expected, several found")
            }
            if let at, at < 0 { throw ValidationError("--at is \(at); 0 or more expected") }
            if create, at != nil { throw ValidationError("--at writes into a section that exists; without --create") }
            if let hex, Self.bytes(hex) == nil {
                throw ValidationError("--hex '\(hex)': two hexadecimal digits for each byte expected")
            }
        }

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.name(name)
            let known = try checkpoints.sections(of: checkpoint, dataMax: 0).map(\.id)
            let id: SectionID
            if create, !known.contains(where: { PrintableBytes.text($0.bytes) == section }) {
                id = SectionID(section)
            } else {
                id = try Checkpoints.section(section, among: known, of: checkpoint)
            }
            let data = try data()
            let (name, change) = try checkpoints.with("\(checkpoint)", .write, doing: "ckpt write") {
                opened throws(AisError) in
                if let at { return try opened.writeBlocking(id, at: at, data) }
                return create ? try opened.putBlocking(id, data) : try opened.overwriteBlocking(id, data)
            }
            let value: JSONValue = [
                "checkpoint": .string("\(name)"), "section": .string(PrintableBytes.text(id.bytes)),
                "bytes": .integer(Int64(data.count)), "change": .integer(Int64(clamping: change)),
            ]
            let words = "\(name): \(data.count) bytes written to \(Checkpoints.title(id)), change \(change)"
            StandardOutput.write((json ? value.text() : words) + "\n")
        }

        private func data() throws -> [UInt8] {
            if let text { return Array(text.utf8) }
            if let hex { return Self.bytes(hex) ?? [] }  // looked at before
            do {
                if let file { return try File.readAll(file) }
                return try Self.standardInput()
            } catch {
                throw Tool.fail("saf: ckpt write: \(error)")
            }
        }

        private static func standardInput() throws -> [UInt8] {
            var data: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = try chunk.withUnsafeMutableBytes { try IO.read(0, into: $0) } ?? 0
                if count == 0 { return data }
                data += chunk[..<count]
            }
        }

        static func bytes(_ hex: String) -> [UInt8]? {
            var digits = hex.filter { $0 != " " }
            if digits.hasPrefix("0x") { digits.removeFirst(2) }
            guard digits.count % 2 == 0 else { return nil }
            var bytes: [UInt8] = []
            var rest = digits[...]
            while !rest.isEmpty {
                guard let byte = UInt8(rest.prefix(2), radix: 16), rest.prefix(2).allSatisfy(\.isHexDigit) else {
                    return nil
                }
                bytes.append(byte)
                rest = rest.dropFirst(2)
            }
            return bytes
        }
    }

    struct Delete: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "delete", abstract: "Deletes a section.",
            discussion: """
                The whole checkpoint goes with: saf ckpt unlink NAME

                Example: saf ckpt delete wordcount position
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Argument(help: "The section.", completion: Completions.sections) var section: String
        @Flag(help: "One JSON object.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.name(name)
            let known = try checkpoints.sections(of: checkpoint, dataMax: 0).map(\.id)
            let id = try Checkpoints.section(section, among: known, of: checkpoint)
            _ = try checkpoints.with("\(checkpoint)", .write, doing: "ckpt delete") { opened throws(AisError) in
                try opened.deleteSectionBlocking(id)
            }
            let value: JSONValue = [
                "checkpoint": .string("\(checkpoint)"), "section": .string(PrintableBytes.text(id.bytes)),
                "deleted": true,
            ]
            StandardOutput.write(
                (json ? value.text() : "\(checkpoint): section \(Checkpoints.title(id)) deleted") + "\n")
        }
    }

    struct Unlink: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "unlink", abstract: "Deletes a checkpoint: its name at once, its data with the last close.",
            discussion: """
                Who has it open keeps it until then; the name may be used anew meanwhile.
                On a terminal it asks first; elsewhere it needs --yes.

                Example: saf ckpt unlink wordcount --yes
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Flag(help: "Does not ask.") var yes = false
        @Flag(help: "One JSON object.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.name(name)
            if !yes { try confirm(checkpoint) }
            do throws(AisError) {
                try Checkpoint.unlinkBlocking(checkpoint, in: checkpoints.service)
            } catch {
                throw checkpoints.failure(error, "ckpt unlink \(checkpoint)", mayHaveChanged: true)
            }
            let value: JSONValue = ["checkpoint": .string("\(checkpoint)"), "unlinked": true]
            StandardOutput.write((json ? value.text() : "\(checkpoint): unlinked") + "\n")
        }

        private func confirm(_ checkpoint: SaName) throws {
            guard isTerminal(0), isTerminal(StandardError.raw) else {
                throw Tool.fail("saf: ckpt unlink \(checkpoint): its data is lost for good; say so with --yes")
            }
            StandardError.write("\(checkpoint) and its data will be deleted. Go on? [y/N] ")
            guard let answer = readLine(), ["y", "yes"].contains(answer.lowercased()) else {
                throw Tool.fail("saf: nothing was done")
            }
        }
    }

    struct Retention: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "retention", abstract: "Shows or sets how long a checkpoint is kept when nobody has it open.",
            discussion: """
                A duration is a number with its unit (ns, us, ms, s, m, h, d), 0 (gone with
                the last close), or forever.

                Example: saf ckpt retention wordcount
                Example: saf ckpt retention wordcount 10m
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Argument(help: "The new duration.") var duration: String?
        @Flag(help: "One JSON object.") var json = false

        func validate() throws {
            if let duration, Self.parse(duration) == nil {
                throw ValidationError("'\(duration)' is no duration; 30s, 10m, 2h, 0 or forever expected")
            }
        }

        private static func parse(_ text: String) -> SaTime? {
            if text == "forever" { return .saTimeEnd }
            return DurationText.parse(text)?.nanoseconds
        }

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint: SaName
            let retention: SaTime
            if let new = duration.flatMap(Self.parse) {
                retention = new
                (checkpoint, _) = try checkpoints.with(name, .read, doing: "ckpt retention") {
                    opened throws(AisError) in
                    try opened.setRetentionDurationBlocking(new)
                }
            } else {
                checkpoint = try checkpoints.name(name)
                do throws(AisError) {
                    let found = try Checkpoint.attributesBlocking(of: checkpoint, in: checkpoints.service)
                    guard let found else { throw AisError.notExist }
                    retention = found.retentionDuration
                } catch {
                    throw checkpoints.failure(error, "ckpt retention \(checkpoint)")
                }
            }
            let value: JSONValue = [
                "checkpoint": .string("\(checkpoint)"), "retentionNanoseconds": .integer(retention),
                "forever": .bool(retention == .saTimeEnd),
            ]
            let words = retention == 0 ? "gone with its last close" : "kept \(Checkpoints.retention(retention))"
            StandardOutput.write(
                (json ? value.text() : "\(checkpoint): \(words)\(retention == 0 ? "" : " after its last close")") + "\n"
            )
        }
    }

    struct Active: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "active", abstract: "Makes the replica of this node the active one.",
            discussion: """
                Of a collocated checkpoint with asynchronous updates; of any other the service
                chooses it. It ends when this node's replica has everything the former one had.
                The application does this itself as a rule: it may set another at any time.

                Example: saf ckpt active wordcount
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Flag(help: "One JSON object.") var json = false

        func run() throws {
            try Tool.requireNode()
            let (checkpoint, set) = try Checkpoints().with(name, .write, doing: "ckpt active") {
                opened throws(AisError) in
                try opened.setActiveReplicaBlocking(timeout: .seconds(30))
                return try opened.replicasBlocking()
            }
            if json {
                let value: JSONValue = ["checkpoint": .string("\(checkpoint)"), "replicas": ReplicaText.json(set)]
                return StandardOutput.write(value.text() + "\n")
            }
            StandardOutput.write("\(checkpoint): \(ReplicaText.line(set))\n")
        }
    }
}
