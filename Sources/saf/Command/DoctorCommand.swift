import ArgumentParser
import CliProtocol
import OSAL
import SafCluster

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Looks at what a node needs, and says how to mend what is missing.",
        discussion: """
            Kernel buffers, clock, name resolution, addresses and ports, RAM files, versions, certificates, corosync \
            (runs, realtime, configured as cluster.yaml says) and quorum. Works whether the node runs or not. Exit \
            status 1 when something is wrong; "attention" works, and might not when it matters.

            Example: saf doctor --json | jq -r '.findings[] | select(.verdict != "good") | .remedy'
            """)
    @Flag(help: "One JSON object on one line.") var json = false

    func run() throws {
        let files = ClusterFiles.here
        let plan = File.exists(files.cluster) ? try files.plan() : try Self.alone()
        let findings = Doctor.examine(DoctorGatherer(plan: plan).facts())
        StandardOutput.write(json ? Self.json(findings).text() + "\n" : Self.text(findings))
        if findings.contains(where: { $0.verdict == .wrong }) { throw ExitCode(Tool.Status.failed.rawValue) }
    }

    private static func alone() throws -> ClusterPlan {
        try ClusterFiles.plan(of: "", file: "cluster.yaml")
    }

    private static func text(_ findings: [DoctorFinding]) -> String {
        let width = findings.map(\.check.count).max() ?? 0
        var text = ""
        for finding in findings {
            let check = finding.check + String(repeating: " ", count: width - finding.check.count)
            let verdict = finding.verdict == .good ? "good     " : paint(finding.verdict)
            text += "\(verdict)  \(check)  \(finding.found)\n"
            if finding.verdict == .good { continue }
            text += "           expected: \(finding.expected)\n"
            if !finding.remedy.isEmpty { text += "           mend it:  \(finding.remedy)\n" }
        }
        return text
    }

    private static func paint(_ verdict: DoctorFinding.Verdict) -> String {
        let word = verdict.rawValue + String(repeating: " ", count: 9 - verdict.rawValue.count)
        guard Tool.isColoured else { return word }
        return "\u{1B}[\(verdict == .wrong ? "31" : "33")m\(word)\u{1B}[0m"
    }

    private static func json(_ findings: [DoctorFinding]) -> JSONValue {
        let all = findings.map { finding -> JSONValue in
            [
                "check": .string(finding.check), "verdict": .string(finding.verdict.rawValue),
                "found": .string(finding.found), "expected": .string(finding.expected),
                "remedy": .string(finding.remedy),
            ]
        }
        let worst = findings.contains { $0.verdict == .wrong } ? "wrong" : "good"
        return ["result": .string(worst), "findings": .array(all)]
    }
}
