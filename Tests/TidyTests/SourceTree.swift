import OSAL

/// The project's own text files, read once.
struct SourceFile: Sendable {
    /// From the root, with slashes: `Sources/OSAL/Descriptor.swift`.
    let path: String
    let lines: [Substring]

    var folder: String { path.split(separator: "/").dropLast().joined(separator: "/") }

    /// The modules this file imports, however the import is written.
    var imports: [(line: Int, module: String)] {
        lines.enumerated().compactMap { index, line in
            var words = line.split(separator: " ").filter { !$0.hasPrefix("@") }
            if ["public", "internal", "package", "private", "fileprivate"].contains(words.first) {
                words.removeFirst()
            }
            guard words.first == "import", words.count >= 2 else { return nil }
            let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
            let name = kinds.contains(words[1]) && words.count > 2 ? words[2] : words[1]
            return (index + 1, String(name.split(separator: ".")[0]))
        }
    }
}

enum SourceTree {
    static let root: String = {
        var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        parts.removeLast(3)  // Tests/TidyTests/SourceTree.swift
        return parts.joined(separator: "/")
    }()

    static let swift: [SourceFile] = ["Sources", "Tests", "deploy", "Benchmarks"].flatMap {
        read(below: $0, ending: ".swift")
    }
    static let shim: [SourceFile] = read(below: "Sources", ending: ".c") + read(below: "Sources", ending: ".h")

    /// The number of lines of a folder's README; 0 when there is none.
    static func readme(_ folder: String) -> Int { text(folder + "/README.md").count { $0 == "\n" } }

    /// A file's text; empty when there is none.
    static func text(_ path: String) -> String {
        guard let bytes = try? File.readAll(root + "/" + path) else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func read(below folder: String, ending suffix: String) -> [SourceFile] {
        guard let names = try? File.list(root + "/" + folder) else { return [] }
        return names.sorted().filter { !$0.hasPrefix(".") }.flatMap { name -> [SourceFile] in
            let path = folder + "/" + name
            if name.hasSuffix(suffix), let bytes = try? File.readAll(root + "/" + path) {
                let text = String(decoding: bytes, as: UTF8.self)
                return [SourceFile(path: path, lines: text.split(separator: "\n", omittingEmptySubsequences: false))]
            }
            let isFolder = (try? File.stat(root + "/" + path, followLinks: false))?.kind == .directory
            return isFolder ? read(below: path, ending: suffix) : []
        }
    }
}
