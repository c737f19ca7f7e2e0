import IOCCluster

extension Doctor {
    static func corosync(_ facts: DoctorFacts) -> [DoctorFinding] {
        guard let corosync = facts.corosync else {
            return [DoctorFinding("corosync", .unknown, found: "cannot be seen", expected: "running")]
        }
        return [running(corosync), configuration(corosync, facts.plan)] + key(corosync, facts.plan)
            + [realtime(corosync, facts.plan)] + quorum(corosync, facts.plan)
    }

    private static func running(_ corosync: DoctorFacts.Corosync) -> DoctorFinding {
        DoctorFinding(
            "corosync", corosync.pid == nil ? .wrong : .good,
            found: corosync.pid.map { "process \($0)" } ?? "not running", expected: "running",
            remedy: "systemctl enable --now corosync (its log says why it ends)")
    }

    private static func configuration(_ corosync: DoctorFacts.Corosync, _ plan: ClusterPlan) -> DoctorFinding {
        let remedy = "saf cluster config --write \(corosync.path), and restart corosync, one node after the other"
        let expected = "what cluster.yaml gives"
        guard let text = corosync.configuration else {
            return DoctorFinding(
                "corosync.conf", .wrong, found: "\(corosync.path) cannot be read", expected: expected, remedy: remedy)
        }
        let wanted = CorosyncConfiguration.text(plan)
        let isSame = CorosyncConfiguration.isSame(text, wanted)
        let lines = CorosyncConfiguration.difference(text, wanted)
        let differs = "differs" + (lines.isEmpty ? " in its order" : ": \(lines.prefix(4).joined(separator: " | "))")
        return DoctorFinding(
            "corosync.conf", isSame ? .good : .wrong, found: isSame ? corosync.path : "\(corosync.path) \(differs)",
            expected: expected, remedy: remedy)
    }

    private static func key(_ corosync: DoctorFacts.Corosync, _ plan: ClusterPlan) -> [DoctorFinding] {
        guard plan.corosync.isEncrypted else { return [] }
        let isGood = corosync.keyMode.map { $0 & 0o077 == 0 } ?? false
        let mode = corosync.keyMode.map { "mode \(String($0 & 0o777, radix: 8))" }
        return [
            DoctorFinding(
                "corosync key", isGood ? .good : .wrong, found: mode ?? "\(plan.corosync.keyFile) is not there",
                expected: "\(plan.corosync.keyFile), readable by its owner only",
                remedy: mode == nil ? "saf cluster join FILE brings it" : "chmod 400 \(plan.corosync.keyFile)")
        ]
    }

    /// Measured: with a token of 300 ms and both processors busy only realtime priority prevents false deaths.
    private static func realtime(_ corosync: DoctorFacts.Corosync, _ plan: ClusterPlan) -> DoctorFinding {
        let token = milliseconds(plan.description.token)
        guard corosync.pid != nil else {
            return DoctorFinding("realtime priority", .unknown, found: "corosync does not run", expected: "SCHED_RR")
        }
        let isShort = token < 1_000
        return DoctorFinding(
            "realtime priority", corosync.isRealtime ? .good : isShort ? .wrong : .attention,
            found: (corosync.isRealtime ? "SCHED_RR" : "none") + ", token \(token) ms",
            expected: "SCHED_RR; without it a token of 1000 ms or more",
            remedy: "realtime: true in cluster.yaml; in a container allow SYS_NICE; where control groups forbid it: "
                + "sysctl kernel.sched_rt_runtime_us=-1; or token: 1000ms")
    }

    private static func quorum(_ corosync: DoctorFacts.Corosync, _ plan: ClusterPlan) -> [DoctorFinding] {
        guard corosync.pid != nil else { return [] }
        let wanted = plan.description.nodes.map { Int($0.id.rawValue) }
        let expected = "quorate, nodes \(text(wanted))"
        guard let status = corosync.quorum else {
            return [
                DoctorFinding(
                    "quorum", .unknown, found: "corosync-quorumtool does not answer", expected: expected,
                    remedy: "corosync-quorumtool -s says why")
            ]
        }
        let missing = wanted.filter { !status.members.contains($0) }
        let strangers = status.members.filter { !wanted.contains($0) }
        let verdict: DoctorFinding.Verdict =
            !status.isQuorate || !strangers.isEmpty ? .wrong : missing.isEmpty ? .good : .attention
        let state = status.isQuorate ? "quorate" : "not quorate"
        return device(status, plan) + [
            DoctorFinding(
                "quorum", verdict, found: "\(state), nodes \(text(status.members))", expected: expected,
                remedy: missing.isEmpty
                    ? "the same cluster.yaml and corosync.conf on all nodes"
                    : "nodes \(text(missing)): do they run, and is UDP port 5405 and up open both ways?")
        ]
    }

    private static func device(_ status: QuorumStatus, _ plan: ClusterPlan) -> [DoctorFinding] {
        guard let device = plan.corosync.quorum.device else { return [] }
        let expected = "corosync-qdevice registered, with a vote of \(device.host)"
        guard let votes = status.deviceVotes else {
            return [
                DoctorFinding(
                    "quorum device", .wrong, found: "none is registered", expected: expected,
                    remedy: "systemctl enable --now corosync-qdevice")
            ]
        }
        let certificates = device.isEncrypted ? "; are its certificates there (corosync-qdevice-net-certutil)" : ""
        return [
            DoctorFinding(
                "quorum device", votes > 0 ? .good : .attention,
                found: votes > 0 ? "registered, votes \(votes)" : "registered, gives no vote", expected: expected,
                remedy: "does corosync-qnetd run on \(device.host), and is TCP port 5403 open\(certificates)?")
        ]
    }

    private static func text(_ numbers: [Int]) -> String { numbers.map(String.init).joined(separator: ", ") }
}
