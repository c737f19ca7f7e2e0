import AmfClient
import AmfProtocol
import ArgumentParser
import IOC
import OSAL
import SafText

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows nodes, service units, assignments and processes.",
        discussion: """
            For each service unit its administrative, operational, presence and
            readiness state; for each component its HA state, process, uptime and
            restarts, and why it failed when it is not healthy; for each service
            instance who it is assigned to. A "…" marks an assignment that changes.

            With --check the troubles alone, and exit status 1 when there is one.

            Example, for a monitor: saf status --check
            Example, all pids: saf status --json | jq '.. | .pid? // empty'
            Example, what a failover looks like: saf status --watch
            """)

    @Flag(help: "One JSON object on one line, with everything there is.") var json = false
    @Flag(name: .shortAndLong, help: "Shows it again whenever it changes, until interrupted.") var watch = false
    @Flag(help: "Shows only what is wrong; exit status 1 when something is.") var check = false

    func validate() throws {
        if watch, check { throw ValidationError("--watch goes on and --check ends: give one of them") }
    }

    func run() async throws {
        try Tool.requireNode()
        let client = AdminClient(places: Tool.places)
        if watch { return try await follow(client) }
        let isTroubled: Bool
        do throws(CallError) {
            let report = try await seen(client)
            StandardOutput.write(text(report))
            isTroubled = check && !StatusText.troubles(in: report.0, sights: report.1).isEmpty
        } catch {
            throw Tool.explain(error, doing: "status")
        }
        if isTroubled { throw ExitCode(Tool.Status.failed.rawValue) }
    }

    /// What is seen on several nodes beside amfd's report; kept for the text.
    private func seen(_ client: AdminClient) async throws(CallError) -> (StatusReport, ClusterSights?) {
        let report = try await client.statusAsync()
        return (report, report.nodes.count > 1 ? ClusterSights.gather() : nil)
    }

    private func text(_ seen: (report: StatusReport, sights: ClusterSights?)) -> String {
        let (report, sights) = seen
        if json { return StatusText.json(report, sights: sights).text() + "\n" }
        if check {
            return StatusText.summary(report, sights: sights, width: Tool.width, isColoured: Tool.isColoured)
        }
        let now = MonotonicClock.wallNanoseconds()
        return StatusText.render(report, sights: sights, now: now, width: Tool.width, isColoured: Tool.isColoured)
    }

    /// Asks amfd when it tells of a change, and not oftener than five times a second.
    private func follow(_ client: AdminClient) async throws {
        let isScreen = isTerminal(StandardOutput.raw) && !json
        let changes = ChangeSignals(places: Tool.places, ticks: isScreen)
        var shown: (StatusReport, ClusterSights?)?
        var said = ""
        for await _ in changes.signals {
            var trouble = changes.notice
            if changes.takeChange() || shown == nil {
                do throws(CallError) {
                    let report = try await seen(client)
                    if !isScreen, shown.map({ $0 == report }) != true {
                        StandardOutput.write(text(report) + (json ? "" : "\n"))
                    }
                    shown = report
                } catch {
                    if shown == nil, error.code != .tryAgain { throw Tool.explain(error, doing: "status") }
                    trouble = "waiting for amfd: \(error.text)"
                    changes.changed()  // the next look waits until amfd is there
                }
            }
            if isScreen {
                // On a screen the uptimes go on.
                let lines = (shown.map(text) ?? "") + (trouble.isEmpty ? "" : "\n\(trouble)\n")
                StandardOutput.write("\u{1B}[H\u{1B}[J" + lines)
            } else if trouble != said, !trouble.isEmpty {
                StandardError.write("saf: \(trouble)\n")
            }
            said = trouble
            try await Task.sleep(for: .milliseconds(200))
        }
    }
}
