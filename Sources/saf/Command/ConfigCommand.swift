import AmfProtocol
import ArgumentParser
import CliProtocol
import IOCCluster
import OSAL
import SafConfig
import SAFTypes

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Checks the configuration.", subcommands: [Check.self, Compile.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "check", abstract: "Tells every error of the configuration by file, line and column.",
            discussion: """
                Without a path: cluster.yaml and model/*.yaml of SAF_CONFIG_DIR. A folder
                is taken for such a one, or for the model folder itself; a file for a
                model. Exit status 2 when something is wrong.

                Example: saf config check my-model.yaml
                """)
        @Argument(help: "A model file, or a folder.", completion: .file()) var path: String?
        @Flag(help: "One JSON object a line for each error: file, line, column, message.") var json = false

        private static func count(_ number: Int, _ what: String) -> String {
            "\(number) \(what)\(number == 1 ? "" : "s")"
        }

        func run() throws {
            let outcome = try ConfigFiles.load(path)
            if json {
                for error in outcome.errors {
                    let value: JSONValue = [
                        "file": .string(error.file), "line": .integer(Int64(error.position.line)),
                        "column": .integer(Int64(error.position.column)), "message": .string(error.message),
                    ]
                    StandardOutput.write(value.text() + "\n")
                }
            } else {
                for error in outcome.errors { StandardError.write("\(error)\n") }
            }
            guard outcome.errors.isEmpty else { throw ExitCode(Tool.Status.refused.rawValue) }
            if !json {
                let units = outcome.model.applications.flatMap(\.serviceGroups).flatMap(\.serviceUnits)
                let components = units.reduce(0) { $0 + $1.components.count }
                let counts = [
                    Self.count(outcome.model.applications.count, "application"),
                    Self.count(units.count, "service unit"),
                    Self.count(components, "component"),
                ]
                StandardOutput.write("good: \(counts.joined(separator: ", "))\n")
                if outcome.model.applications.isEmpty {
                    StandardError.write(
                        "saf: no model was found in \(ConfigFiles.place(path)) (files *.yaml); a node runs the "
                            + "middleware alone\n")
                }
            }
        }
    }

    struct Compile: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "compile", abstract: "Writes the cluster and the checked model in wire form; for amfd.",
            discussion: """
                Writes to standard output; what is wrong goes to standard error, with exit status 2. A program that \
                cannot be executed is a warning only: its component will not start, the others run. When only a model \
                is wrong, the cluster is written all the same.
                """, shouldDisplay: false)
        @Argument(help: "A model file, or a folder.", completion: .file()) var path: String?

        func run() throws {
            let outcome = try ConfigFiles.load(path)
            for error in outcome.errors { StandardError.write("\(error)\n") }
            guard let cluster = outcome.cluster else { throw ExitCode(Tool.Status.refused.rawValue) }
            if isTerminal(StandardOutput.raw) {
                throw Tool.fail(
                    "saf: compile writes bytes, not text; send them to a file or use: saf config check", .refused)
            }
            do throws(OSError) {
                let model = outcome.isUsable ? outcome.model.encoded : nil
                let compiled = CompiledConfiguration(cluster: cluster.description, model: model)
                let bytes = ContiguousArray(compiled.encoded)
                try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
                    try IO.writeAll(StandardOutput.raw, UnsafeRawBufferPointer(buffer))
                }
            } catch {
                throw Tool.fail("saf: the configuration cannot be written: \(error)")
            }
            if !outcome.isUsable { throw ExitCode(Tool.Status.refused.rawValue) }
        }
    }
}

/// Finds and reads the files of a configuration.
enum ConfigFiles {
    static func load(_ path: String?) throws -> ConfigLoader.Outcome {
        do throws(OSError) {
            let (cluster, models) = try sources(path)
            return ConfigLoader.load(models: models, cluster: cluster, environment: environment)
        } catch {
            throw Tool.fail("saf: the configuration cannot be read: \(error)", .refused)
        }
    }

    private static func sources(_ path: String?) throws(OSError) -> (ConfigSource?, [ConfigSource]) {
        guard let path else {
            let folder = Tool.places.configDirectory
            // Nothing configured: a node with the middleware and no application.
            guard File.exists(folder) else { return (nil, []) }
            return try folderSources(folder)
        }
        if try File.stat(path).kind == .directory { return try folderSources(path) }
        return (nil, [ConfigSource(file: path, text: try File.readText(path, limit: 4 << 20))])
    }

    /// Where models are looked for, for people.
    static func place(_ path: String?) -> String {
        let folder = path ?? Tool.places.configDirectory
        return File.exists(folder + "/model") || path == nil ? folder + "/model" : folder
    }

    private static func folderSources(_ folder: String) throws(OSError) -> (ConfigSource?, [ConfigSource]) {
        var cluster: ConfigSource?
        let clusterFile = folder + "/cluster.yaml"
        if File.exists(clusterFile) {
            cluster = ConfigSource(file: clusterFile, text: try File.readText(clusterFile, limit: 4 << 20))
        }
        let modelFolder = folder + "/model"
        let isWhole = cluster != nil || File.exists(modelFolder)
        let place = isWhole ? modelFolder : folder
        guard File.exists(place) else { return (cluster, []) }
        var models: [ConfigSource] = []
        for name in try File.list(place) where name.hasSuffix(".yaml") || name.hasSuffix(".yml") {
            models.append(
                ConfigSource(file: "\(place)/\(name)", text: try File.readText("\(place)/\(name)", limit: 4 << 20)))
        }
        return (cluster, models)
    }

    /// Programs are looked for beside this one, where amfd is, then in PATH.
    static var environment: ConfigEnvironment {
        let own = Environment.executablePath.map { File.parent(of: $0) }
        let path = (Environment.get("PATH") ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":").map(String.init)
        let folders = ([own].compactMap { $0 } + path).filter { $0.hasPrefix("/") }
        var environment = ConfigEnvironment(
            nodeName: Tool.places.nodeName, programFolders: folders, workingDirectory: Environment.workingDirectory,
            configDirectory: Tool.places.configDirectory
        ) { path in
            guard let status = try? File.stat(path) else { return .missing }
            return status.kind == .file && File.isExecutable(path) ? .executable : .notExecutable
        }
        environment.hasUser = { Environment.account(named: $0) != nil }
        environment.hasGroup = { Environment.groupID(named: $0) != nil }
        environment.admits = { rule, user, group in
            // Whom this machine does not know is told already.
            guard let account = Environment.account(named: user) else { return true }
            let groups = account.groups + [Environment.groupID(named: group)].compactMap { $0 }
            return LocalAccess(rule).admits(user: account.userID, groups: groups)
        }
        environment.hasDirectory = { (try? File.stat($0))?.kind == .directory }
        return environment
    }
}
