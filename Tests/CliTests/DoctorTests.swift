import IOCCluster
import SAFTypes
import Testing

@testable import SafCluster

@Suite("saf doctor")
struct DoctorTests {
    private static let plan = CorosyncConfigurationTests.plan(nodes: 3, planes: 2, token: 300)

    private static var healthy: DoctorFacts {
        var facts = DoctorFacts(plan)
        for (name, least) in Doctor.kernelSettings { facts.kernelSettings[name] = least }
        facts.clock = .init(isSynchronised: true, maximumError: .milliseconds(20))
        facts.sharedMemory = .init(path: "/dev/shm", freeBytes: 1 << 30)
        facts.versions = [.init(who: "saf", version: "1"), .init(who: "amfd", version: "1")]
        facts.builds = ["n1", "n2"].map { .init(node: $0, version: "1", commands: 1...3) }
        for node in plan.description.nodes { facts.resolved["\(node.name)"] = [node.addresses[1].host] }
        facts.ownAddresses = ["127.0.0.1", "10.0.0.1", "10.1.0.1"]
        facts.ports = [.init(service: "amfd", address: "10.0.0.1", number: 7_402, state: .free)]
        facts.certificates = .read(
            identity: "x", expected: "x", daysLeft: 300, isSigned: true, keyMatches: true, isValidYet: true)
        var corosync = DoctorFacts.Corosync()
        corosync.pid = 10
        corosync.isRealtime = true
        corosync.configuration = CorosyncConfiguration.text(plan)
        corosync.keyMode = 0o400
        corosync.quorum = QuorumStatus("Ring ID: 1.8\nQuorate: Yes\nNodeid Votes\n1 1\n2 1\n3 1\n")
        facts.corosync = corosync
        return facts
    }

    /// What is not good after a change, as `check: verdict`.
    private func troubles(_ change: (inout DoctorFacts) -> Void) -> [String] {
        var facts = Self.healthy
        change(&facts)
        let findings = Doctor.examine(facts).filter { $0.verdict != .good }
        for finding in findings where finding.verdict != .unknown {
            #expect(!finding.remedy.isEmpty, "\(finding.check) says how to mend it")
        }
        return findings.map { "\($0.check): \($0.verdict)" }
    }

    @Test("A healthy node has nothing but good findings, each with what was found and expected")
    func healthy() {
        #expect(troubles { _ in } == [])
        let findings = Doctor.examine(Self.healthy)
        #expect(findings.count > 12)
        for finding in findings {
            #expect(!finding.found.isEmpty && !finding.expected.isEmpty && finding.remedy.isEmpty)
        }
    }

    @Test("Each thing that is wrong is found alone")
    func single() {
        #expect(
            troubles { $0.kernelSettings["net.core.rmem_max"] = 212_992 } == ["kernel net.core.rmem_max: attention"])
        #expect(troubles { $0.kernelSettings["net.core.rmem_max"] = nil } == ["kernel net.core.rmem_max: unknown"])
        #expect(troubles { $0.clock = .init(isSynchronised: false, maximumError: .zero) } == ["clock: attention"])
        #expect(troubles { $0.clock = .init(isSynchronised: true, maximumError: .seconds(1)) } == ["clock: attention"])
        #expect(troubles { $0.sharedMemory = .init(path: "/x", freeBytes: 100 << 20) } == ["RAM files: attention"])
        #expect(troubles { $0.sharedMemory = .init(path: "/x", freeBytes: 10 << 20) } == ["RAM files: wrong"])
        #expect(troubles { $0.versions[1].version = "2" } == ["version of amfd: attention"])
        #expect(troubles { $0.resolved["n2"] = ["127.0.1.1"] } == ["name n2: attention"])
        #expect(troubles { $0.ownAddresses = ["10.0.0.1"] } == ["own addresses: wrong"])
        #expect(troubles { $0.ports[0].state = .inUse } == ["port 7402 of amfd at 10.0.0.1: wrong"])
        #expect(
            troubles {
                $0.ports[0].state = .inUse
                $0.isNodeRunning = true
            } == [])
    }

    @Test("A quorum device must be registered, and give its vote")
    func quorumDevice() {
        let table = "Ring ID: 1.8\nQuorate: Yes\nNodeid Votes Qdevice\n1 1 A\n2 1 A\n3 1 A\n"
        func troubles(_ row: String) -> [String] {
            self.troubles {
                $0.plan.corosync.quorum.device = QuorumDevice(host: "q")
                $0.corosync?.configuration = CorosyncConfiguration.text($0.plan)
                $0.corosync?.quorum = QuorumStatus(table + row)
            }
        }
        #expect(troubles("0 1 Qdevice") == [])
        #expect(troubles("0 0 Qdevice (votes 1)") == ["quorum device: attention"])
        #expect(troubles("") == ["quorum device: wrong"])
    }

    @Test("The engine of the databases is looked for where it is not the one that is always there")
    func database() {
        #expect(self.troubles { $0.databaseTrouble = "not asked for" } == [])
        func troubles(_ trouble: String?) -> [String] {
            self.troubles {
                $0.plan.description.database = .gdbm
                $0.databaseTrouble = trouble
            }
        }
        #expect(troubles(nil) == [])
        #expect(troubles("no libgdbm.so.6") == ["database engine: wrong"])
    }

    @Test("Certificates: of whom, by whom, until when")
    func certificates() {
        let check = "certificate in /etc/swiftsaf/certificates"
        func read(_ identity: String = "x", days: Int = 300, signed: Bool = true, key: Bool = true, yet: Bool = true)
            -> [String]
        {
            troubles {
                $0.certificates = .read(
                    identity: identity, expected: "x", daysLeft: days, isSigned: signed, keyMatches: key,
                    isValidYet: yet)
            }
        }
        #expect(read() == [])
        #expect(read("y") == ["\(check): wrong"])
        #expect(read(days: 29) == ["\(check): attention"])
        #expect(read(days: -1) == ["\(check): wrong"])
        #expect(read(signed: false) == ["\(check): wrong"])
        #expect(read(key: false) == ["\(check): wrong"])
        #expect(read(yet: false) == ["\(check): wrong"])
        #expect(troubles { $0.certificates = .unusable("no file") } == ["\(check): wrong"])
        #expect(
            troubles {
                $0.plan.description.links.security = .none
                $0.certificates = nil
            } == [])
    }

    @Test("Corosync: runs, has priority, its file and key, and its quorum")
    func corosync() {
        #expect(
            troubles { $0.corosync?.pid = nil } == ["corosync: wrong", "realtime priority: unknown"])
        #expect(troubles { $0.corosync?.configuration = nil } == ["corosync.conf: wrong"])
        #expect(troubles { $0.corosync?.configuration?.append("x: y\n") } == ["corosync.conf: wrong"])
        #expect(troubles { $0.corosync?.keyMode = 0o444 } == ["corosync key: wrong"])
        #expect(troubles { $0.corosync?.isRealtime = false } == ["realtime priority: wrong"])
        #expect(
            troubles {
                $0.corosync?.isRealtime = false
                $0.plan.description.token = .seconds(1)
                $0.corosync?.configuration = CorosyncConfiguration.text($0.plan)
            } == ["realtime priority: attention"])
        #expect(troubles { $0.corosync?.quorum?.isQuorate = false } == ["quorum: wrong"])
        #expect(troubles { $0.corosync?.quorum?.members = [1, 2] } == ["quorum: attention"])
        #expect(troubles { $0.corosync?.quorum?.members = [1, 2, 3, 4] } == ["quorum: wrong"])
        #expect(troubles { $0.corosync?.quorum = nil } == ["quorum: unknown"])
    }

    @Test("What runs on each node is compared, and whether it can work together")
    func builds() {
        #expect(troubles { $0.builds = [] } == [])
        #expect(
            troubles { $0.builds[1] = .init(node: "n2", version: "2", commands: 3...4) } == ["version on n2: attention"]
        )
        #expect(
            troubles { $0.builds[1] = .init(node: "n2", version: "2", commands: 4...5) } == ["version on n2: wrong"])
        #expect(troubles { $0.builds[1] = .init(node: "n2") } == ["version on n2: unknown"])
        #expect(troubles { $0.builds[0].version = "0" } == ["version on n1: attention", "version on n2: attention"])
        #expect(DoctorFacts.Build(line: "b 0.1.0 1 3") == .init(node: "b", version: "0.1.0", commands: 1...3))
        #expect(DoctorFacts.Build(line: "b silent") == .init(node: "b"))
        for line in ["", "b", "b 1 3 2", "b 1 x 2", "b loud"] { #expect(DoctorFacts.Build(line: line[...]) == nil) }
    }

    @Test("A node alone is asked for nothing of a cluster")
    func alone() {
        var facts = Self.healthy
        facts.plan = ClusterPlan(.alone(name: facts.plan.description.nodes[0].name))
        facts.corosync = nil
        facts.builds = []
        #expect(Doctor.examine(facts).map(\.check) == ["clock", "RAM files", "version of amfd"])
    }
}
