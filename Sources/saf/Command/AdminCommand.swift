import AmfClient
import AmfProtocol
import ArgumentParser
import CliProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes

struct AdminCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin", abstract: "Performs an administrative operation on an entity.",
        discussion: """
            lock                  takes an entity out of service; others take over
            unlock                puts it back into service
            lock-instantiation    of a locked entity: ends its processes
            unlock-instantiation  starts them again; the entity stays locked
            shutdown              as lock, but lets the active finish their work
            restart               of a component or service unit: its processes
            swap                  of a service instance: active and standby change places
            repaired              of a service unit or node: enables it again
            adjust                of a service group; the models 2n and no-redundancy
                                  have nothing to adjust: they refuse it

            A lock, lock-instantiation or shutdown of the middleware is refused
            without --force. A lock of a node concerns its applications.

            Names may be short, as long as they say which: SU1, WC/SU1, safSu=SU1,
            or the whole DN. A node goes before an application's entity of that name,
            and that before one of the middleware.

            Example: saf admin swap words
            Example: saf admin lock wordcount/WC/SU1
            Source: SAI-AIS-AMF-B.02.01 §8.
            """)

    @Argument(help: "The operation.", completion: .list(AdminOperation.allCases.map(\.description)))
    var operation: String
    @Argument(help: "The DN of the entity, or a short form of it.", completion: Completions.entities)
    var entity: String
    @Flag(help: "Also when it takes a service of the middleware away.") var force = false
    @Option(help: "How long to wait for it, in seconds.") var timeout = 60

    func validate() throws {
        guard (1...3_600).contains(timeout) else {
            throw ValidationError("--timeout is \(timeout); 1 to 3600 seconds expected")
        }
        guard Self.operation(operation) == nil else { return }
        let words = AdminOperation.allCases.map(\.description)
        let nearest = NameMatching.nearest(to: operation, among: words)
        let hint = nearest.isEmpty ? "" : " Did you mean \(nearest.joined(separator: " or "))?"
        throw ValidationError(
            "'\(operation)' is no operation.\(hint) One of \(words.joined(separator: ", ")) expected.")
    }

    func run() throws {
        guard let operation = Self.operation(operation) else { return }
        try Tool.requireNode()
        let client = AdminClient(places: Tool.places)
        let what = "\(operation) \(entity)"
        let deadline = MonotonicClock.now() + .seconds(timeout)
        var wasAsked = false
        do throws(CallError) {
            let report = try client.status(timeout: .seconds(timeout))
            let name = try Self.find(entity, for: operation, in: report)
            let remaining = max(deadline - MonotonicClock.now(), .milliseconds(1))
            wasAsked = true
            try client.perform(operation, on: name, isForced: force, timeout: remaining)
            StandardOutput.write("\(operation) \(name): done\n")
        } catch {
            switch error.code {
            case .noOp: StandardOutput.write("\(what): nothing to do, it is so already\n")
            case .notExist, .badOperation, .notSupported, .repairPending, .invalidParam, .failedOperation:
                throw Tool.fail("saf: \(what): \(error.text.isEmpty ? "\(error.code)" : error.text)")
            default: throw Tool.explain(error, doing: what, mayHaveChanged: wasAsked)
            }
        }
    }

    private static func operation(_ word: String) -> AdminOperation? {
        AdminOperation.allCases.first { $0.description == word }
    }

    /// Only entities the operation applies to are meant: `swap words` finds the SI although an SU has that name, too.
    static func find(
        _ text: String, for operation: AdminOperation, in report: StatusReport
    ) throws(CallError) -> SaName {
        let all = EntityNames.all(in: report)
        let types = EntityNames.types(for: operation)
        let groups = EntityNames.inOrder(report).map { $0.filter { types.contains(DN.type($0)) } }
        switch NameMatching.find(text, inOrder: groups.map { $0.map(\.description) }) {
        case .found(let found):
            guard let name = SaName(found) else { throw CallError(.invalidParam, "'\(found)' is no name") }
            return name
        case .ambiguous(let names):
            throw CallError(
                .invalidParam, "'\(text)' may be\n  \(names.joined(separator: "\n  "))\nSay more of the name.")
        case .unknown(let nearest):
            if case .found(let other) = NameMatching.find(text, among: all.map(\.description)) {
                let allowed = types.joined(separator: ", ")
                throw CallError(.notSupported, "\(other): the operation applies to \(allowed)")
            }
            let hint = nearest.isEmpty ? "" : " Did you mean \(nearest.joined(separator: " or "))?"
            throw CallError(.notExist, "'\(text)' is unknown.\(hint)\nThe names there are: saf status --json")
        }
    }
}

/// The entities of a status report.
enum EntityNames {
    static func all(in report: StatusReport) -> [SaName] { inOrder(report).flatMap { $0 } }

    /// Whom a short name means rather: the nodes, what belongs to applications, what belongs to the middleware. Its
    /// parts are called as the node and the daemons are.
    static func inOrder(_ report: StatusReport) -> [[SaName]] {
        [
            report.nodes.map(\.dn), names(of: report.applications.filter { !$0.isMiddleware }),
            names(of: report.applications.filter(\.isMiddleware)),
        ]
    }

    private static func names(of applications: [ApplicationStatus]) -> [SaName] {
        var names: [SaName] = []
        for application in applications {
            names.append(application.dn)
            for group in application.serviceGroups {
                names.append(group.dn)
                for unit in group.serviceUnits { names += [unit.dn] + unit.components.map(\.dn) }
            }
            names += application.serviceInstances.map(\.dn)
        }
        return names
    }

    /// Source: SAI-AIS-AMF-B.02.01 §8.2 ff.
    static func types(for operation: AdminOperation) -> [String] {
        switch operation {
        case .unlock, .lock, .shutdown: ["safApp", "safSg", "safAmfNode", "safSu", "safSi"]
        case .lockInstantiation, .unlockInstantiation: ["safApp", "safSg", "safAmfNode", "safSu"]
        case .restart: ["safApp", "safAmfNode", "safSu", "safComp"]
        case .siSwap: ["safSi"]
        case .sgAdjust: ["safSg"]
        case .repaired: ["safAmfNode", "safSu"]
        }
    }
}
