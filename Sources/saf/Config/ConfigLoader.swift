public import AmfProtocol
public import IOCCluster
import SAFTypes
public import SafCluster

/// A file of the configuration, already read.
public struct ConfigSource: Hashable, Sendable {
    /// The name in messages; programs given as relative paths are looked for beside it.
    public var file: String
    public var text: String

    public init(file: String, text: String) {
        self.file = file
        self.text = text
    }
}

/// What the loader must know of the machine it runs on.
public struct ConfigEnvironment: Sendable {
    /// What is found under a path.
    public enum Program: Hashable, Sendable { case executable, notExecutable, missing }

    /// The name of this node: `SAF_NODE_NAME`, or the host's.
    public var nodeName: String
    /// Where a program given by its bare name is looked for, in this order.
    public var programFolders: [String]
    /// What relative paths of files are relative to.
    public var workingDirectory: String
    /// `SAF_CONFIG_DIR`: keys and certificates are in it.
    public var configDirectory: String
    public var program: @Sendable (String) -> Program
    /// Whether there is a user, a group of this name or number, and a directory.
    public var hasUser: @Sendable (String) -> Bool = { _ in true }
    public var hasGroup: @Sendable (String) -> Bool = { _ in true }
    public var hasDirectory: @Sendable (String) -> Bool = { _ in true }
    /// Whether a process of that user and group may connect to the daemons.
    public var admits: @Sendable (AccessRule, _ user: String, _ group: String) -> Bool = { _, _, _ in true }

    public init(
        nodeName: String, programFolders: [String], workingDirectory: String = "/",
        configDirectory: String = "/etc/swiftsaf", program: @escaping @Sendable (String) -> Program
    ) {
        self.workingDirectory = workingDirectory
        self.configDirectory = configDirectory
        self.nodeName = nodeName
        self.programFolders = programFolders
        self.program = program
    }
}

/// Turns `cluster.yaml` and `model/*.yaml` into a checked model, or into every error they have.
public enum ConfigLoader {
    public struct Outcome: Sendable {
        /// Complete only when it is usable.
        public var model: AmfModel
        /// Nil when `cluster.yaml` is wrong; usable also when a model is not.
        public var cluster: ClusterPlan?
        /// Sorted by file, line and column; no two alike. Warnings included.
        public var errors: [ConfigError]
        /// Nothing is wrong that touches more than one component.
        public var isUsable: Bool { errors.allSatisfy(\.isWarning) }
    }

    /// - Parameter cluster: `cluster.yaml`; nil stands for one node with the name in `environment`.
    public static func load(
        models: [ConfigSource], cluster: ConfigSource?, environment: ConfigEnvironment
    ) -> Outcome {
        let loading = Loading(environment)
        loading.loadCluster(cluster)
        for source in models { loading.loadModel(source) }
        loading.validate()
        return Outcome(model: loading.model, cluster: loading.plan, errors: loading.diagnostics.errors.sorted())
    }
}

/// One run of the loader.
final class Loading {
    let environment: ConfigEnvironment
    let diagnostics = Diagnostics()
    var model = AmfModel()
    var plan: ClusterPlan?
    /// Where each thing in `model` came from, by the path that `AmfModel.validate` uses.
    private var places: [String: (file: String, position: SourcePosition)] = [:]

    init(_ environment: ConfigEnvironment) { self.environment = environment }

    func note(_ path: String, _ file: String, _ position: SourcePosition) { places[path] = (file, position) }

    func read(_ source: ConfigSource) -> ConfigNode? {
        let outcome = YamlReader.read(source.text, file: source.file)
        diagnostics.add(outcome.errors)
        return outcome.root
    }

    /// Checks what only the whole model shows: dangling names, names that are too long, contradictions.
    func validate() {
        for error in model.validate() {
            let (file, position) = place(of: error.path) ?? ("model", SourcePosition(line: 1, column: 1))
            if diagnostics.hasError(in: file, line: position.line) { continue }
            diagnostics.report(file, position, error.dn.isEmpty ? error.message : "\(error.dn): \(error.message)")
        }
    }

    /// The place of the longest beginning of `path` that is known.
    func place(of path: String) -> (file: String, position: SourcePosition)? {
        var rest = path[...]
        while !rest.isEmpty {
            if let place = places[String(rest)] { return place }
            guard let cut = rest.lastIndex(where: { $0 == "." || $0 == "[" }) else { break }
            rest = rest[..<cut]
        }
        return nil
    }
}
