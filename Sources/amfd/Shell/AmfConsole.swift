import AmfProtocol
import CliClient
import CliProtocol
import EOLoop
import OSAL
import SAFTypes

/// What amfd answers on the console. Everything here only looks.
enum AmfConsole {
    static func register(_ commands: LoopCommands, of daemon: AmfDaemon, loop: Loop, places: Places) {
        let status = CommandSpec(
            name: "status",
            help: "Sums up: who guards amfd, the model in use, how many components, instances and processes there are.")
        commands.register(status) { [unowned daemon] _, reply in
            let look = Look(daemon)
            reply.either(text: look.text, json: look.json)
        }
        let components = CommandSpec(
            name: "components",
            help: "Lists components: process, states, what they are for their instances, why they failed last.",
            arguments: [
                ArgumentSpec(
                    "entity", .text, optional: true, help: "only it, or what is in it; a short form will do")
            ])
        commands.register(components) { [unowned daemon] arguments, reply in
            guard let found = find(arguments["entity"], in: daemon.report, reply) else { return }
            reply.either(
                text: found.isEmpty ? "no components" : found.map(line).joined(separator: "\n"),
                json: .array(found.map(json)))
        }
        registerVersions(commands, of: daemon)
        let semaphores = CommandSpec(
            name: "semaphores", help: "Lists the node's named semaphores: permits, and the processes that hold them.")
        commands.register(semaphores) { [unowned daemon] _, reply in
            // Their files are other people's: looked at on the worker.
            let isTaken = loop.runSlow {
                Semaphore.all(in: places)
            } then: { [weak daemon] found in
                let owners = daemon.map { names(in: $0.report) } ?? [:]
                reply.either(
                    text: found.isEmpty
                        ? "no named semaphores; a process makes one with RobustSemaphore.named(…)"
                        : found.map { $0.line(owners) }.joined(separator: "\n"),
                    json: .array(found.map { $0.json(owners) }))
            }
            if !isTaken { reply.fail("amfd has too much to do now; try again") }
        }
    }

    /// A line for each node: name, version, the oldest and newest version of commands; or name and `silent`.
    private static func registerVersions(_ commands: LoopCommands, of daemon: AmfDaemon) {
        let spec = CommandSpec(
            name: "versions", help: "Asks the amfd of every node which build it is, and which commands it understands.")
        commands.register(spec) { [unowned daemon] _, reply in
            let own = [(name: daemon.nodeName, build: BuildVersion?.some(.own))]
            guard let cluster = daemon.cluster else { return answer(own, reply) }
            cluster.askVersions { answer(own + $0, reply) }
        }
    }

    private static func answer(_ nodes: [(name: String, build: BuildVersion?)], _ reply: CommandReply) {
        let lines = nodes.map { node in
            guard let build = node.build else { return "\(node.name) silent" }
            return "\(node.name) \(build.version) \(build.spoken.lowerBound) \(build.spoken.upperBound)"
        }
        let json = nodes.map { node -> JSONValue in
            guard let build = node.build else { return ["node": .string(node.name)] }
            return [
                "node": .string(node.name), "version": .string(build.version),
                "oldestCommands": .integer(Int64(build.spoken.lowerBound)),
                "newestCommands": .integer(Int64(build.spoken.upperBound)),
            ]
        }
        reply.either(text: lines.joined(separator: "\n"), json: .array(json))
    }

    // MARK: Status

    private struct Look {
        let daemon: AmfDaemon
        let report: StatusReport
        let components: [ComponentStatus]
        let instances: [ServiceInstanceStatus]

        init(_ daemon: AmfDaemon) {
            self.daemon = daemon
            report = daemon.report
            components = report.components
            instances = report.applications.flatMap(\.serviceInstances)
        }

        private var running: Int { components.count { $0.presenceState == .instantiated } }
        private var disabled: Int { components.count { $0.operationalState == .disabled } }
        private var assigned: Int { instances.count { $0.assignmentState == .fullyAssigned } }

        var text: String {
            let problems = report.problems.map { "PROBLEM: \($0)" }
            let lines = [
                "amfd \(Environment.processID) of node \(daemon.nodeName), guarded by "
                    + (daemon.guardPid == 0 ? "nobody yet" : "process \(daemon.guardPid)"),
                "components: \(components.count), of them \(running) instantiated, \(disabled) disabled",
                "service instances: \(instances.count), of them \(assigned) fully assigned",
                "processes: \(daemon.processCount)",
            ]
            return (problems + lines).joined(separator: "\n")
        }

        var json: JSONValue {
            [
                "pid": .integer(Int64(Environment.processID)), "guard": .integer(Int64(daemon.guardPid)),
                "node": .string(daemon.nodeName), "problems": .array(report.problems.map { .string($0) }),
                "components": .integer(Int64(components.count)), "instantiated": .integer(Int64(running)),
                "disabled": .integer(Int64(disabled)), "serviceInstances": .integer(Int64(instances.count)),
                "fullyAssigned": .integer(Int64(assigned)), "processes": .integer(Int64(daemon.processCount)),
            ]
        }
    }

    // MARK: Components

    /// Nil: it was answered why not.
    private static func find(
        _ entity: String?, in report: StatusReport, _ reply: CommandReply
    ) -> [ComponentStatus]? {
        guard let entity else { return report.components }
        let groups = report.applications.flatMap(\.serviceGroups)
        let units = groups.flatMap(\.serviceUnits)
        let names =
            report.applications.map(\.dn) + groups.map(\.dn) + units.map(\.dn) + units.flatMap(\.components).map(\.dn)
        switch NameMatching.find(entity, among: names.map(\.description)) {
        case .found(let name):
            return report.components.filter { $0.dn.description == name || $0.dn.description.hasSuffix("," + name) }
        case .ambiguous(let candidates):
            reply.fail("'\(entity)' may be:\n" + candidates.map { "  " + $0 }.joined(separator: "\n"))
        case .unknown(let nearest):
            let hint = nearest.isEmpty ? "" : "; the nearest:\n" + nearest.map { "  " + $0 }.joined(separator: "\n")
            reply.fail("nothing here is called '\(entity)'" + hint)
        }
        return nil
    }

    private static func line(_ component: ComponentStatus) -> String {
        var words = [
            component.dn.description, component.pid == 0 ? "no process" : "process \(component.pid)",
            component.presenceState.word, component.operationalState.word, component.readinessState.word,
        ]
        let held = component.assignments.map { "\($0.haState.word) for \(NameMatching.leaf(of: $0.csi.description))" }
        words.append(held.isEmpty ? "not assigned" : held.joined(separator: ", "))
        words.append(component.restarts == 1 ? "1 restart" : "\(component.restarts) restarts")
        if !component.lastError.isEmpty { words.append("last error: \(component.lastError)") }
        return words.joined(separator: "  ")
    }

    private static func json(_ component: ComponentStatus) -> JSONValue {
        let assignments: [JSONValue] = component.assignments.map {
            ["csi": .string($0.csi.description), "haState": .string($0.haState.word)]
        }
        return [
            "name": .string(component.dn.description), "pid": .integer(Int64(component.pid)),
            "presenceState": .string(component.presenceState.word),
            "operationalState": .string(component.operationalState.word),
            "readinessState": .string(component.readinessState.word), "assignments": .array(assignments),
            "restarts": .integer(Int64(component.restarts)), "lastError": .string(component.lastError),
        ]
    }

    // MARK: Semaphores

    private static func names(in report: StatusReport) -> [Int32: String] {
        let running = report.components.filter { $0.pid != 0 }
        return Dictionary(running.map { ($0.pid, $0.dn.description) }) { first, _ in first }
    }

    private struct Semaphore: Sendable {
        struct Holder: Sendable {
            let pid: Int32
            let permits: Int
        }

        let name: String
        let permits: Int
        let free: Int
        let holders: [Holder]

        static func all(in places: Places) -> [Semaphore] {
            RobustSemaphore.all(in: places).map { name, semaphore in
                let holders = semaphore.holders.map { Holder(pid: $0.pid, permits: $0.permits) }
                let taken = holders.reduce(0) { $0 + $1.permits }
                return Semaphore(
                    name: name, permits: semaphore.permits, free: semaphore.permits - taken, holders: holders)
            }
        }

        func line(_ owners: [Int32: String]) -> String {
            let held = holders.map { holder in
                "\(holder.permits) by process \(holder.pid)" + (owners[holder.pid].map { " (\($0))" } ?? "")
            }
            return "\(name)  \(free) of \(permits) permits free"
                + (held.isEmpty ? "" : "  held: " + held.joined(separator: ", "))
        }

        func json(_ owners: [Int32: String]) -> JSONValue {
            let held: [JSONValue] = holders.map { holder in
                [
                    "pid": .integer(Int64(holder.pid)), "permits": .integer(Int64(holder.permits)),
                    "component": owners[holder.pid].map { .string($0) } ?? .null,
                ]
            }
            return [
                "name": .string(name), "permits": .integer(Int64(permits)), "free": .integer(Int64(free)),
                "holders": .array(held),
            ]
        }
    }
}

extension StatusReport {
    fileprivate var components: [ComponentStatus] {
        applications.flatMap(\.serviceGroups).flatMap(\.serviceUnits).flatMap(\.components)
    }
}
