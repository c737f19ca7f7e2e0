import CliClient
import CliProtocol
import DBAL
import EOLoop
import IOC
import IOCCluster
import IOCLinks
import OSAL
import SafCluster

/// Looks at this machine for ``Doctor``; decides nothing. What cannot be seen stays unknown.
struct DoctorGatherer {
    let plan: ClusterPlan

    func facts() -> DoctorFacts {
        var facts = DoctorFacts(plan)
        for (name, _) in Doctor.kernelSettings { facts.kernelSettings[name] = kernelSetting(name) }
        // lib/swiftsaf/saf, and beside lib: share.
        let prefix = Environment.executablePath.map { File.parent(of: File.parent(of: File.parent(of: $0))) } ?? ""
        let installed = prefix + "/share/swiftsaf/sysctl/60-swiftsaf.conf"
        if File.exists(installed) { facts.sysctlFile = installed }
        if let clock = try? ClockSynchronisation.current() {
            facts.clock = .init(isSynchronised: clock.isSynchronised, maximumError: clock.maximumError)
        }
        facts.sharedMemory = space()
        let amfd = Tool.places.runDirectory + "/amfd"
        facts.isNodeRunning = [amfd + "/amfd.lock", amfd + "/guard.lock"].contains { File.isLocked($0) == true }
        facts.versions = versions()
        if facts.isNodeRunning { facts.builds = builds() }
        guard plan.description.groupEngine == .corosync else { return facts }
        for node in plan.description.nodes {
            facts.resolved["\(node.name)"] = Network.addresses(of: "\(node.name)")
        }
        facts.ownAddresses = (try? Network.ownAddresses()) ?? []
        facts.databaseTrouble = DatabaseEngine(rawValue: "\(plan.description.database)")?.missing?.text
        facts.ports = ports()
        if plan.description.links.security == .tls { facts.certificates = certificates() }
        facts.corosync = corosync()
        return facts
    }

    /// The last number: of three it is the most.
    private func kernelSetting(_ name: String) -> Int? {
        let path = "/proc/sys/" + String(name.map { $0 == "." ? "/" : $0 })
        let words = (try? File.readText(path, limit: 4_096))?.split { $0 == " " || $0 == "\t" || $0 == "\n" }
        return words?.last.flatMap { Int($0) }
    }

    private func space() -> DoctorFacts.Space? {
        var path = Tool.places.shmDirectory
        while !File.exists(path), path.count > 1 { path = File.parent(of: path) }
        return (try? File.freeBytes(path)).map { DoctorFacts.Space(path: path, freeBytes: $0) }
    }

    /// This program, and the daemons beside it.
    private func versions() -> [DoctorFacts.Version] {
        let folder = Environment.executablePath.map { File.parent(of: $0) } ?? "."
        let daemons = ["amfd"].map { name -> DoctorFacts.Version in
            let output = Program.output([folder + "/" + name, "--version"])
            return .init(
                who: name, version: output?.split(separator: " ").last?.split(separator: "\n").first.map(String.init))
        }
        return [.init(who: "saf", version: DaemonProgram.version)] + daemons
    }

    /// amfd asks the others over its links, a second at most.
    private func builds() -> [DoctorFacts.Build] {
        let output = try? Console(places: Tool.places).run(
            ["amfd", "versions"], format: .text, timeLimit: .seconds(3))
        guard let output, output.status == .done else { return [] }
        return output.text.split(separator: "\n").compactMap { DoctorFacts.Build(line: $0) }
    }

    private func ports() -> [DoctorFacts.Port] {
        WellKnownService.allCases.filter { $0 != .cliserver }.flatMap { service in
            plan.description.local.addresses.map { address in
                let number = plan.description.links.portBase &+ UInt16(service.rawValue)
                return .init(
                    service: service.name, address: address.host, number: number,
                    state: portState(address.host, number))
            }
        }
    }

    private func portState(_ host: String, _ number: UInt16) -> DoctorFacts.Port.State {
        do throws(OSError) {
            _ = try TcpSocket.listen(on: try SocketAddress(host, port: number))
            return .free
        } catch {
            return error.isAddressInUse ? .inUse : .refused("\(error)")
        }
    }

    private func certificates() -> DoctorFacts.Certificates {
        let cluster = plan.description
        do throws(LinkError) {
            let check = try CertificateCheck(folder: cluster.links.certificateDirectory)
            return .read(
                identity: check.identity,
                expected: CertificateCheck.identity(cluster: cluster.clusterName, node: "\(cluster.local.name)"),
                daysLeft: check.secondsLeft / 86_400 - (check.secondsLeft < 0 ? 1 : 0), isSigned: check.isSigned,
                keyMatches: check.keyMatches, isValidYet: check.secondsUntilValid <= 0)
        } catch {
            return .unusable(error.text)
        }
    }

    private func corosync() -> DoctorFacts.Corosync {
        var facts = DoctorFacts.Corosync()
        facts.keyMode = (try? File.stat(plan.corosync.keyFile))?.mode
        let pids = ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }
        facts.pid = pids.first { Process.information(of: $0).map { $0.name == "corosync" && !$0.isExiting } ?? false }
        if let pid = facts.pid {
            facts.isRealtime = isRealtime(pid)
            facts.path = configurationPath(pid) ?? facts.path
            facts.quorum = Program.output(["corosync-quorumtool", "-s"]).flatMap { QuorumStatus($0) }
        }
        facts.configuration = try? File.readText(facts.path, limit: 1 << 20)
        return facts
    }

    /// The policy of the main thread: 1 is SCHED_FIFO, 2 SCHED_RR. Source: proc_pid_stat(5), field 41.
    private func isRealtime(_ pid: Int32) -> Bool {
        guard let text = try? File.readText("/proc/\(pid)/stat", limit: 4_096),
            let rest = text.split(separator: ")").last
        else { return false }
        // The first field after the name is the third.
        let fields = rest.split(separator: " ")
        return fields.count > 38 && ["1", "2"].contains(fields[38])
    }

    /// Where it was told to look.
    private func configurationPath(_ pid: Int32) -> String? {
        func parts(_ name: String) -> [String] {
            ((try? File.readAll("/proc/\(pid)/\(name)", limit: 1 << 20)) ?? []).split(separator: 0).map {
                String(decoding: $0, as: UTF8.self)
            }
        }
        let arguments = parts("cmdline")
        if let place = arguments.firstIndex(of: "-c"), place + 1 < arguments.count { return arguments[place + 1] }
        let variable = "COROSYNC_MAIN_CONFIG_FILE="
        return parts("environ").first { $0.hasPrefix(variable) }.map { String($0.dropFirst(variable.count)) }
    }
}
