public import AmfProtocol
import CliProtocol
public import SAFTypes

/// `saf status` for people: nodes, service units with all their states, processes, assignments.
public enum StatusText {
    /// What an operator should look at, most serious first; empty when everything is in service.
    public static func troubles(in report: StatusReport, sights: ClusterSights? = nil) -> [String] {
        StatusTrouble.all(in: report, sights)
    }

    /// The troubles alone, or that there are none.
    public static func summary(
        _ report: StatusReport, sights: ClusterSights? = nil, width: Int = 80, isColoured: Bool = false
    ) -> String {
        StatusRendering(report: report, sights: sights, now: 0).headline.text(width: width, isColoured: isColoured)
    }

    /// - Parameters:
    ///   - now: UTC, nanoseconds since 1970; uptimes count up to it.
    ///   - width: of the terminal; names are cut for it, what does not fit goes on in the next line.
    ///   - sights: of several nodes, what else is to be seen.
    public static func render(
        _ report: StatusReport, sights: ClusterSights? = nil, now: SaTime, width: Int = 80, isColoured: Bool = false
    ) -> String {
        let rendering = StatusRendering(report: report, sights: sights, now: now)
        var text = rendering.headline.text(width: width, isColoured: isColoured)
        text += "\n" + rendering.nodes.text(width: width, isColoured: isColoured)
        if let sights {
            let table = sights.table { id in report.nodeName(id) }
            if !table.rows.isEmpty { text += "\n" + table.text(width: width, isColoured: isColoured) }
        }
        for application in report.applications where !application.isMiddleware {
            text += "\n" + rendering.units(of: application).text(width: width, isColoured: isColoured)
            let instances = rendering.instances(of: application)
            if !instances.rows.isEmpty { text += instances.text(width: width, isColoured: isColoured) }
        }
        let middleware = rendering.middleware
        if !middleware.rows.isEmpty { text += "\n" + middleware.text(width: width, isColoured: isColoured) }
        return text
    }

    /// `12s`, `5m03s`, `3h05m`, `2d04h`; `-` when there is no process.
    public static func uptime(since start: SaTime, now: SaTime) -> String {
        guard start != 0 else { return "-" }
        let (difference, overflow) = now.subtractingReportingOverflow(start)
        let seconds = overflow ? 0 : max(0, difference / 1_000_000_000)
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }
        if seconds < 60 { return "\(seconds)s" }
        if seconds < 3_600 { return "\(seconds / 60)m\(two(seconds % 60))s" }
        if seconds < 86_400 { return "\(seconds / 3_600)h\(two(seconds / 60 % 60))m" }
        return "\(seconds / 86_400)d\(two(seconds / 3_600 % 24))h"
    }
}

private struct StatusRendering {
    let report: StatusReport
    let sights: ClusterSights?
    let now: SaTime
    private let allNames: [String]
    private static let troublesMax = 8

    init(report: StatusReport, sights: ClusterSights?, now: SaTime) {
        self.report = report
        self.sights = sights
        self.now = now
        allNames = report.applications.flatMap(\.serviceGroups).flatMap(\.serviceUnits).map(\.dn.description)
    }

    var headline: TextTable {
        var table = TextTable()
        let troubles = StatusTrouble.all(in: report, sights)
        let cluster =
            "Cluster \(report.cluster)" + (report.adminState == .unlocked ? "" : " (\(report.adminState.word))")
        guard let first = troubles.first else {
            table.line("\(cluster): everything is in service", .good)
            return table
        }
        // An error list is a line each; the first says where to look.
        func line(_ trouble: String) -> String { trouble.split(separator: "\n").first.map(String.init) ?? "" }
        table.rows.append(.flow(.text("\(cluster): \(line(first))", .attention, indent: 0)))
        for trouble in troubles.dropFirst().prefix(Self.troublesMax - 1) {
            table.rows.append(.flow(.text(line(trouble), .attention, indent: 2)))
        }
        if troubles.count > Self.troublesMax {
            table.line("  and \(troubles.count - Self.troublesMax) more", .attention)
        }
        return table
    }

    var nodes: TextTable {
        var table = TextTable()
        table.add(
            .init("NODE", .faint), .init("ID", .faint, right: true), .init("MEMBER", .faint), .init("ADMIN", .faint),
            .init("OPERATIONAL", .faint), .init("SU FAILOVERS", .faint, right: true))
        for node in report.nodes {
            let isWell = node.isMember && node.isHeard
            table.add(
                .init(node.name, .strong), .init("\(node.id)", right: true),
                .init(Self.membership(node), isWell ? .good : .bad), Self.cell(node.adminState),
                Self.cell(node.operationalState), .init("\(node.suFailovers)", right: true))
        }
        guard report.nodes.count > 1 else { return table }
        let oldest = report.oldest == NodeID(0) ? "nobody" : report.nodeName(report.oldest)
        let lease = report.nodes.first { $0.lease != .none }
        table.line(
            "quorum: \(report.isQuorate ? "yes" : "no"); what is done once is done by \(oldest)"
                + (lease.map { "; lease of \($0.name): \($0.lease == .held ? "held" : "over")" } ?? ""),
            report.isQuorate ? .faint : .attention)
        let silent = report.nodes.filter { $0.isMember && !$0.isHeard }.map(\.name)
        if !silent.isEmpty {
            table.rows.append(
                .flow(.text("of \(silent.joined(separator: ", ")) here is what was known last", .attention, indent: 0)))
        }
        return table
    }

    private static func membership(_ node: NodeStatus) -> String {
        switch (node.isMember, node.isHeard) {
        case (true, true): "yes"
        case (true, false): "yes, silent"
        case (false, _): "no"
        }
    }

    func units(of application: ApplicationStatus) -> TextTable {
        var table = TextTable()
        let state = application.adminState == .unlocked ? "" : " (\(application.adminState.word))"
        table.line("APPLICATION \(application.name)\(state)", .strong)
        table.indent = 2
        // On a cluster of one node the column would say nothing.
        let hasNodes = report.nodes.count > 1
        if hasNodes { table.flexible.append(1) }
        func row(_ name: TextTable.Cell, _ node: TextTable.Cell, _ states: [TextTable.Cell]) {
            table.rows.append(.cells([name] + (hasNodes ? [node] : []) + states))
        }
        for group in application.serviceGroups {
            let groupState = group.adminState == .unlocked ? "" : ", \(group.adminState.word)"
            row(
                .init("\(group.name) (\(group.redundancyModel.word)\(groupState))", .faint), .init("NODE", .faint),
                ["ADMIN", "OPERATIONAL", "PRESENCE", "READINESS"].map { .init($0, .faint) })
            let longest = group.serviceUnits.flatMap(\.components).map(\.name.count).max() ?? 0
            for unit in group.serviceUnits {
                row(
                    .init(unit.name, .strong), .init(unit.node),
                    [
                        Self.cell(unit.adminState), Self.cell(unit.operationalState), Self.cell(unit.presenceState),
                        Self.cell(unit.readinessState),
                    ])
                let isStopped = report.stoppedNode.map { $0.name == unit.node } ?? false
                for component in unit.components {
                    table.rows += rows(of: component, nameWidth: longest, isStopped: isStopped)
                }
            }
        }
        return table
    }

    /// Under its service unit: in which HA state it is, what runs, since when, how often it was restarted; and what
    /// is wrong.
    private func rows(of component: ComponentStatus, nameWidth: Int, isStopped: Bool) -> [TextTable.Row] {
        let padding = String(repeating: " ", count: max(0, nameWidth - component.name.count) + 1)
        let isHalted = isStopped && Self.haText(component) == "active"
        var parts: [TextTable.Cell] = [
            isHalted
                ? .init("active, but stopped: no lease", .bad)
                : .init(Self.haText(component), Self.haStyle(component))
        ]
        let isDisabled = component.operationalState == .disabled
        if component.presenceState != .instantiated { parts.append(Self.cell(component.presenceState)) }
        if isDisabled { parts.append(.init("disabled", .bad)) }
        if component.pid == 0 {
            parts.append(.init("no process"))
        } else {
            parts.append(.init("pid \(component.pid)"))
            parts.append(.init("up \(StatusText.uptime(since: component.startedAt, now: now))"))
        }
        parts.append(.init(component.restarts == 1 ? "1 restart" : "\(component.restarts) restarts"))
        var rows: [TextTable.Row] = [
            .flow(.init(title: .init(component.name + padding), parts: parts, indent: 4))
        ]
        if isDisabled || component.presenceState != .instantiated, !component.lastError.isEmpty {
            rows.append(.flow(.text("last error: \(errorText(component))", .bad, indent: 6)))
        }
        return rows
    }

    func instances(of application: ApplicationStatus) -> TextTable {
        var table = TextTable()
        guard !application.serviceInstances.isEmpty else { return table }
        table.indent = 2
        table.add(
            .init("SERVICE INSTANCE", .faint), .init("ADMIN", .faint), .init("ASSIGNMENT", .faint),
            .init("ASSIGNED TO", .faint))
        for instance in application.serviceInstances {
            let assignments = instance.assignments.map { assignment in
                let unit = NameMatching.shortForm(of: assignment.serviceUnit.description, among: allNames)
                return "\(unit) \(assignment.haState.word)\(assignment.isChanging ? "…" : "")"
            }
            table.add(
                .init(instance.name, .strong), Self.cell(instance.adminState), Self.cell(instance.assignmentState),
                .init(assignments.isEmpty ? "nobody" : assignments.joined(separator: ", ")))
        }
        return table
    }

    var middleware: TextTable {
        var table = TextTable()
        let isCluster = report.nodes.count > 1
        let units = report.applications.filter(\.isMiddleware).flatMap(\.serviceGroups).flatMap(\.serviceUnits)
        // Node by node; a group's own order is by service.
        let places = isCluster ? report.nodes.map(\.name) : [""]
        let components = places.flatMap { place in
            units.filter { !isCluster || $0.node == place }.flatMap(\.components).map { (place, $0) }
        }
        guard !components.isEmpty else { return table }
        table.flexible.append(isCluster ? 6 : 5)
        table.add(
            [.init("MIDDLEWARE", .strong)] + (isCluster ? [.init("NODE", .faint)] : []) + [
                .init("PID", .faint, right: true), .init("UPTIME", .faint, right: true),
                .init("RESTARTS", .faint, right: true), .init("PRESENCE", .faint), .init("LAST ERROR", .faint),
            ])
        for (place, component) in components {
            table.add(
                [.init(component.name)] + (isCluster ? [.init(place)] : []) + [
                    .init(component.pid == 0 ? "-" : "\(component.pid)", right: true),
                    .init(StatusText.uptime(since: component.startedAt, now: now), right: true),
                    .init("\(component.restarts)", right: true), Self.cell(component.presenceState),
                    .init(errorText(component)),
                ])
        }
        return table
    }

    /// Why it failed last, and how long ago.
    private func errorText(_ component: ComponentStatus) -> String {
        guard component.lastErrorAt != 0 else { return component.lastError }
        return "\(component.lastError), \(StatusText.uptime(since: component.lastErrorAt, now: now)) ago"
    }

    private static func haText(_ component: ComponentStatus) -> String {
        for state in [HAState.active, .standby, .quiescing, .quiesced]
        where component.assignments.contains(where: { $0.haState == state }) {
            return state.word
        }
        return "unassigned"
    }

    private static func haStyle(_ component: ComponentStatus) -> TextTable.Style {
        switch haText(component) {
        case "active": .good
        case "standby": .plain
        default: .attention
        }
    }

    private static func cell(_ state: AdminState) -> TextTable.Cell {
        .init(state.word, state == .unlocked ? .plain : .attention)
    }
    private static func cell(_ state: OperationalState) -> TextTable.Cell {
        .init(state.word, state == .enabled ? .plain : .bad)
    }
    private static func cell(_ state: ReadinessState) -> TextTable.Cell {
        .init(state.word, state == .inService ? .good : .attention)
    }

    private static func cell(_ state: PresenceState) -> TextTable.Cell {
        switch state {
        case .instantiated: .init(state.word)
        case .instantiationFailed, .terminationFailed: .init(state.word, .bad)
        case .uninstantiated, .instantiating, .terminating, .restarting: .init(state.word, .attention)
        }
    }

    private static func cell(_ state: AssignmentState) -> TextTable.Cell {
        switch state {
        case .fullyAssigned: .init(state.word, .good)
        case .partiallyAssigned: .init(state.word, .attention)
        case .unassigned: .init(state.word, .bad)
        }
    }
}
