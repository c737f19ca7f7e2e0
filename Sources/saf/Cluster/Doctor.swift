import IOCCluster

/// What a node needs to be a dependable member: facts in, findings out, always in the same order.
public enum Doctor {
    /// Socket buffers as `deploy/sysctl/60-swiftsaf.conf` sets them. Most packets that are lost in a fast local network
    /// are lost in these, not on the wire. knet asks for 8 MiB each way.
    public static let kernelSettings: [(name: String, least: Int)] = [
        ("net.core.rmem_max", 8 << 20), ("net.core.wmem_max", 8 << 20), ("net.core.netdev_max_backlog", 5_000),
        ("net.ipv4.tcp_rmem", 8 << 20), ("net.ipv4.tcp_wmem", 8 << 20),
    ]
    static let memoryNeeded = 64 << 20
    static let memoryWanted = 256 << 20
    static let clockErrorMax: Duration = .milliseconds(500)
    static let certificateDaysWanted = 30

    public static func examine(_ facts: DoctorFacts) -> [DoctorFinding] {
        var findings = [clock(facts), memory(facts)]
        findings += versions(facts) + builds(facts)
        guard facts.plan.description.groupEngine == .corosync else { return findings }
        findings.insert(contentsOf: kernel(facts), at: 0)
        findings += names(facts) + ports(facts) + certificates(facts) + database(facts) + corosync(facts)
        return findings
    }

    /// Of controllers, when it is not the one that is always there.
    private static func database(_ facts: DoctorFacts) -> [DoctorFinding] {
        let cluster = facts.plan.description
        guard cluster.database != .sqlite, cluster.local.role == .controller else { return [] }
        return [
            DoctorFinding(
                "database engine", facts.databaseTrouble == nil ? .good : .wrong,
                found: facts.databaseTrouble ?? "\(cluster.database)", expected: "\(cluster.database)",
                remedy: "install its library (libdb5.3, libgdbm6) on every controller; or database: sqlite")
        ]
    }

    // MARK: The machine

    private static func kernel(_ facts: DoctorFacts) -> [DoctorFinding] {
        kernelSettings.map { name, least in
            let found = facts.kernelSettings[name]
            let verdict: DoctorFinding.Verdict = found.map { $0 >= least ? .good : .attention } ?? .unknown
            return DoctorFinding(
                "kernel \(name)", verdict, found: found.map(String.init) ?? "not visible here (a container?)",
                expected: "\(least) or more",
                remedy: "cp \(facts.sysctlFile) /etc/sysctl.d/ && sysctl --system")
        }
    }

    private static func clock(_ facts: DoctorFacts) -> DoctorFinding {
        let expected = "kept by chrony, ntpd or systemd-timesyncd, at most \(milliseconds(clockErrorMax)) ms off"
        guard let clock = facts.clock else {
            return DoctorFinding("clock", .unknown, found: "the kernel does not say", expected: expected)
        }
        let isGood = clock.isSynchronised && clock.maximumError <= clockErrorMax
        let found =
            clock.isSynchronised ? "kept, at most \(milliseconds(clock.maximumError)) ms off" : "kept by nobody"
        return DoctorFinding(
            "clock", isGood ? .good : .attention, found: found, expected: expected,
            remedy: "install chrony (timers do not need it; log lines of different nodes do)")
    }

    private static func memory(_ facts: DoctorFacts) -> DoctorFinding {
        let expected = "\(memoryWanted >> 20) MiB or more, and what the checkpoints need"
        guard let space = facts.sharedMemory else {
            return DoctorFinding("RAM files", .unknown, found: "cannot be seen", expected: expected)
        }
        let verdict: DoctorFinding.Verdict =
            space.freeBytes < memoryNeeded ? .wrong : space.freeBytes < memoryWanted ? .attention : .good
        return DoctorFinding(
            "RAM files", verdict, found: "\(space.freeBytes >> 20) MiB free in \(space.path)", expected: expected,
            remedy: "enlarge the tmpfs (mount -o remount,size=… /dev/shm), or set SAF_SHM_DIR to a larger one")
    }

    private static func versions(_ facts: DoctorFacts) -> [DoctorFinding] {
        guard let own = facts.versions.first?.version else { return [] }
        return facts.versions.dropFirst().map { entry in
            let verdict: DoctorFinding.Verdict = entry.version.map { $0 == own ? .good : .attention } ?? .unknown
            return DoctorFinding(
                "version of \(entry.who)", verdict, found: entry.version ?? "it does not say", expected: own,
                remedy: "upgrade the older one; two neighbouring versions work together meanwhile")
        }
    }

    /// What runs on the nodes, beside what runs here.
    private static func builds(_ facts: DoctorFacts) -> [DoctorFinding] {
        guard let own = facts.builds.first, let version = own.version, let commands = own.commands else { return [] }
        return facts.builds.enumerated().compactMap { index, build in
            let what = "version on \(build.node)"
            guard let found = build.version, let spoken = build.commands else {
                return DoctorFinding(
                    what, .unknown, found: "its amfd does not say: it does not run, or is older", expected: version,
                    remedy: "start it, or upgrade it: there, amfd --version")
            }
            // What is installed here may be newer than what runs.
            let wanted = index == 0 ? facts.versions.first?.version ?? version : version
            if found == wanted { return DoctorFinding(what, .good, found: found, expected: wanted) }
            guard spoken.overlaps(commands) else {
                return DoctorFinding(
                    what, .wrong,
                    found: "\(found), with commands of versions \(spoken.lowerBound) to \(spoken.upperBound); "
                        + "\(commands.lowerBound) to \(commands.upperBound) here: they cannot work together",
                    expected: wanted, remedy: "stop it and upgrade the older one, by way of the versions between")
            }
            return DoctorFinding(
                what, .attention, found: "\(found); they work together, in the older one's way", expected: wanted,
                remedy: index == 0
                    ? "systemctl restart swiftsaf: what runs is not what is installed"
                    : "upgrade the older one, and restart SwiftSAF there")
        }
    }

    // MARK: The network

    private static func names(_ facts: DoctorFacts) -> [DoctorFinding] {
        let cluster = facts.plan.description
        var findings: [DoctorFinding] = cluster.nodes.map { node in
            let found = facts.resolved["\(node.name)"] ?? []
            let wanted = node.addresses.map(\.host)
            let isGood = found.contains { wanted.contains($0) }
            return DoctorFinding(
                "name \(node.name)", isGood ? .good : .attention,
                found: found.isEmpty ? "unknown to the resolver" : found.joined(separator: ", "),
                expected: wanted.joined(separator: " or "),
                remedy: "add to /etc/hosts: \(wanted.first ?? "ADDRESS") \(node.name) (people need it, daemons do not)")
        }
        let missing = cluster.local.addresses.map(\.host).filter { host in
            !facts.ownAddresses.contains(String(host.prefix { $0 != "%" }))
        }
        findings.append(
            DoctorFinding(
                "own addresses", missing.isEmpty ? .good : .wrong,
                found: missing.isEmpty ? "all here" : "not of this machine: \(missing.joined(separator: ", "))",
                expected: cluster.local.addresses.map(\.host).joined(separator: ", "),
                remedy: "bring the interface up, or mend node \(cluster.local.name) in cluster.yaml"))
        return findings
    }

    private static func ports(_ facts: DoctorFacts) -> [DoctorFinding] {
        facts.ports.map { port in
            let what = "port \(port.number) of \(port.service) at \(port.address)"
            let expected = facts.isNodeRunning ? "free, or the daemon's own" : "free"
            let remedy = "see who has it: ss -ltnp 'sport = \(port.number)'; or choose another portBase in cluster.yaml"
            switch port.state {
            case .free: return DoctorFinding(what, .good, found: "free", expected: expected)
            case .inUse where facts.isNodeRunning:
                return DoctorFinding(what, .good, found: "in use, and the node runs", expected: expected)
            case .inUse: return DoctorFinding(what, .wrong, found: "taken", expected: expected, remedy: remedy)
            case .refused(let text):
                return DoctorFinding(what, .wrong, found: text, expected: expected, remedy: remedy)
            }
        }
    }

    private static func certificates(_ facts: DoctorFacts) -> [DoctorFinding] {
        let links = facts.plan.description.links
        guard links.security == .tls else { return [] }
        let expected =
            "of this node and cluster, signed by its authority, valid for \(certificateDaysWanted) days or more"
        let remedy =
            "on the machine with the authority: saf cluster invite \(facts.plan.description.local.name); "
            + "here: saf cluster join --force FILE"
        guard let certificates = facts.certificates else {
            return [DoctorFinding("certificate", .unknown, found: "cannot be seen", expected: expected)]
        }
        let verdict: DoctorFinding.Verdict
        var found: String
        switch certificates {
        case .unusable(let text): (verdict, found) = (.wrong, text)
        case .read(let identity, let wanted, let days, let isSigned, let keyMatches, let isValidYet):
            var troubles: [String] = []
            if identity != wanted { troubles.append("it is of \(identity), not of \(wanted)") }
            if !isSigned { troubles.append("ca.pem has not signed it") }
            if !keyMatches { troubles.append("node.key is not its key") }
            if !isValidYet { troubles.append("not valid yet: is the clock right?") }
            if days < 0 { troubles.append("expired \(-days) days ago") }
            let isShort = days < certificateDaysWanted
            verdict = !troubles.isEmpty ? .wrong : isShort ? .attention : .good
            found = troubles.isEmpty ? "valid for \(days) days" : troubles.joined(separator: "; ")
        }
        return [
            DoctorFinding(
                "certificate in \(links.certificateDirectory)", verdict, found: found, expected: expected,
                remedy: remedy)
        ]
    }
}
