import AmfClient
import AmfProtocol
import ArgumentParser
import IOC
import OSAL
import SafText

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows nodes, service units, assignments and processes.",
        discussion: """
            For each service unit its administrative, operational, presence and readiness state; for each component \
            its \
            HA state, process, uptime and restarts; for each service instance who it is assigned to. A "…" marks an \
            assignment that is changing.

            Example, the pid of every component: saf status --json | jq '.. | .pid? // empty'
            Example, what a failover looks like: saf status --watch
            """)

    @Flag(help: "One JSON object on one line, with everything there is.") var json = false
    @Flag(name: .shortAndLong, help: "Shows it again whenever it changes, until interrupted.") var watch = false

    func run() throws {
        try Tool.requireNode()
        let client = AdminClient(places: Tool.places)
        if watch { return try follow(client) }
        do throws(CallError) {
            StandardOutput.write(text(try client.status()))
        } catch {
            throw Tool.explain(error, doing: "status")
        }
    }

    private func text(_ report: StatusReport) -> String {
        if json { return StatusText.json(report).text() + "\n" }
        let now = MonotonicClock.wallNanoseconds()
        return StatusText.render(report, now: now, width: Tool.width, isColoured: Tool.isColoured)
    }

    /// Asks five times a second: cheap, and not wrong when amfd or eventd is being restarted.
    private func follow(_ client: AdminClient) throws {
        let isScreen = isTerminal(StandardOutput.raw) && !json
        var shown: StatusReport?
        var shownAt: Int64 = 0
        var trouble = ""
        while true {
            let now = MonotonicClock.wallNanoseconds()
            do throws(CallError) {
                let report = try client.status(timeout: .seconds(1))
                // On a screen the uptimes go on, once a second.
                if report != shown || !trouble.isEmpty || (isScreen && now - shownAt >= 1_000_000_000) {
                    StandardOutput.write(
                        (isScreen ? "\u{1B}[H\u{1B}[J" : "") + text(report) + (isScreen || json ? "" : "\n"))
                    (shown, shownAt, trouble) = (report, now, "")
                }
            } catch {
                if shown == nil, error.code != .tryAgain { throw Tool.explain(error, doing: "status") }
                if trouble != error.text {
                    trouble = error.text
                    StandardError.write("saf: waiting for amfd: \(error.text)\n")
                }
            }
            Tool.rest(.milliseconds(200))
        }
    }
}
