import AmfProtocol
import OSAL
import SAFTypes

/// Turns a component's configuration into what is to be executed. Every refusal names the component's key that is
/// wrong.
struct SpawnPlan {
    let places: Places
    /// This node's number, which components find as SAF_NODE_ID.
    let node: NodeID
    /// Where programs without a "/" or with a relative path are.
    let binaryDirectory: String
    /// amfd's own environment, inherited by every component.
    let inherited: [String]

    init(places: Places, node: NodeID, inherited: [String] = Environment.all, executable: String) {
        self.places = places
        self.node = node
        self.inherited = inherited
        let given = inherited.first { $0.hasPrefix("SAF_BIN_DIR=") }?.dropFirst("SAF_BIN_DIR=".count)
        binaryDirectory = given.map(String.init).flatMap { $0.isEmpty ? nil : $0 } ?? File.parent(of: executable)
    }

    func path(_ command: String) -> String { command.hasPrefix("/") ? command : "\(binaryDirectory)/\(command)" }

    func options(
        _ component: SaName, _ model: ComponentModel, command: String, arguments: [String],
        extra: [String]
    ) throws(SpawnRefusal) -> SpawnOptions {
        let program = path(command)
        guard File.exists(program) else {
            throw SpawnRefusal(
                "\(program): no such program; check the component's command (relative: to \(binaryDirectory))")
        }
        guard File.isExecutable(program) else {
            throw SpawnRefusal("\(program) cannot be executed by this user; check its mode (chmod +x)")
        }
        var options = SpawnOptions(path: program, arguments: [program] + arguments)
        let account = try setUser(model, &options)
        options.environment = environment(component, model, account, extra)
        options.workingDirectory = model.workingDirectory.isEmpty ? places.runDirectory : model.workingDirectory
        options.limits = model.limits.map { ResourceLimit($0.resource.kernel, soft: $0.soft, hard: $0.hard) }
        options.noNewPrivileges = true
        options.newSession = true
        return options
    }

    /// Later entries win: the user's over the inherited, ours over those, the configured over ours, what the spawn
    /// needs over all.
    private func environment(
        _ component: SaName, _ model: ComponentModel, _ account: Environment.Account?, _ extra: [String]
    ) -> [String] {
        let user = account.map { ["HOME=\($0.home)", "USER=\($0.name)", "LOGNAME=\($0.name)"] } ?? []
        let own = [
            "SA_AMF_COMPONENT_NAME=\(component)", "SAF_NODE_ID=\(node.rawValue)", "SAF_BIN_DIR=\(binaryDirectory)",
        ]
        let configured = model.environment.map { "\($0.name)=\($0.value)" }
        var result: [String] = []
        var seen: Set<Substring> = []
        for entry in (inherited + user + places.environment + configured + own + extra).reversed() {
            let name = entry.prefix { $0 != "=" }
            if seen.insert(name).inserted { result.append(entry) }
        }
        return result.reversed()
    }

    /// Nil when the component keeps amfd's own user.
    private func setUser(
        _ model: ComponentModel, _ options: inout SpawnOptions
    ) throws(SpawnRefusal) -> Environment.Account? {
        var account: Environment.Account?
        if !model.user.isEmpty {
            account = Environment.account(named: model.user)
            guard let account else {
                throw SpawnRefusal("user \(model.user) does not exist on this node; check the component's user")
            }
            (options.userID, options.groupID, options.groups) = (account.userID, account.groupID, account.groups)
        }
        if !model.group.isEmpty {
            guard let group = Environment.groupID(named: model.group) else {
                throw SpawnRefusal("group \(model.group) does not exist on this node; check the component's group")
            }
            options.groupID = group
            if !options.groups.contains(group) { options.groups.append(group) }
            if options.userID == nil { options.userID = Environment.userID }
        }
        // Asking for what we are must work without the right to change it.
        if options.userID == Environment.userID, (options.groupID ?? Environment.groupID) == Environment.groupID {
            (options.userID, options.groupID, options.groups) = (nil, nil, [])
        }
        return account
    }
}

/// Why a component cannot even be tried.
struct SpawnRefusal: Error, Sendable {
    let text: String
    init(_ text: String) { self.text = text }
}

extension LimitedResource {
    var kernel: ResourceLimit.Resource {
        switch self {
        case .addressSpace: .addressSpaceBytes
        case .coreSize: .coreBytes
        case .cpuSeconds: .cpuSeconds
        case .dataSize: .dataBytes
        case .fileSize: .fileBytes
        case .openFiles: .openFiles
        case .processes: .processes
        case .lockedMemory: .lockedBytes
        case .stackSize: .stackBytes
        }
    }
}
