import AmfProtocol
import CliProtocol
import SAFTypes
import SafText
import Testing

private let second: SaTime = 1_000_000_000
private let now: SaTime = 1_800_000_000 * second

private func name(_ text: String) -> SaName { SaName(text)! }

private func unit(_ number: Int, _ state: HAState, restarts: UInt32, age: SaTime) -> ServiceUnitStatus {
    var component = ComponentStatus()
    component.dn = name("safComp=counter,safSu=SU\(number),safSg=WC,safApp=wordcount")
    component.name = "counter"
    component.presenceState = .instantiated
    component.operationalState = .enabled
    component.readinessState = .inService
    component.pid = 4_100 + Int32(number)
    component.startedAt = now - age * second
    component.restarts = restarts
    component.assignments = [HeldAssignment(csi: name("safCsi=words,safSi=words,safApp=wordcount"), state)]
    var unit = ServiceUnitStatus()
    unit.dn = name("safSu=SU\(number),safSg=WC,safApp=wordcount")
    unit.name = "SU\(number)"
    unit.node = "demo"
    unit.rank = UInt32(number)
    unit.operationalState = .enabled
    unit.presenceState = .instantiated
    unit.readinessState = .inService
    unit.components = [component]
    return unit
}

private func middleware(_ daemon: String, pid: Int32) -> ApplicationStatus {
    var component = ComponentStatus()
    component.name = daemon
    component.presenceState = .instantiated
    component.operationalState = .enabled
    component.readinessState = .inService
    component.pid = pid
    component.startedAt = now - 3_725 * second
    var unit = ServiceUnitStatus()
    unit.name = daemon
    unit.operationalState = .enabled
    unit.presenceState = .instantiated
    unit.readinessState = .inService
    unit.components = [component]
    var group = ServiceGroupStatus()
    group.serviceUnits = [unit]
    var application = ApplicationStatus()
    application.name = daemon
    application.isMiddleware = true
    application.serviceGroups = [group]
    return application
}

private func report() -> StatusReport {
    var node = NodeStatus()
    node.dn = name("safAmfNode=demo,safAmfCluster=swiftsaf")
    node.name = "demo"
    node.id = NodeID(1)
    node.isMember = true
    node.operationalState = .enabled
    var group = ServiceGroupStatus()
    group.dn = name("safSg=WC,safApp=wordcount")
    group.name = "WC"
    group.serviceUnits = [unit(1, .active, restarts: 0, age: 3_725), unit(2, .standby, restarts: 12, age: 63)]
    var instance = ServiceInstanceStatus()
    instance.dn = name("safSi=words,safApp=wordcount")
    instance.name = "words"
    instance.serviceGroup = "WC"
    instance.assignmentState = .fullyAssigned
    for (number, state) in [(1, HAState.active), (2, .standby)] {
        var assignment = SUAssignmentStatus()
        assignment.serviceUnit = name("safSu=SU\(number),safSg=WC,safApp=wordcount")
        assignment.haState = state
        instance.assignments.append(assignment)
    }
    var application = ApplicationStatus()
    application.dn = name("safApp=wordcount")
    application.name = "wordcount"
    application.serviceGroups = [group]
    application.serviceInstances = [instance]
    var report = StatusReport()
    report.cluster = "swiftsaf"
    report.nodes = [node]
    report.applications = [application]
    for (index, daemon) in ["clmd", "logd", "ckptd", "eventd", "cliserver"].enumerated() {
        report.applications.append(middleware(daemon, pid: 4_000 + Int32(index)))
    }
    return report
}

@Suite("saf status")
struct StatusTextTests {
    /// Two nodes beside this one, one plane to the second cut, one checkpoint being copied.
    private func sights() -> ClusterSights {
        var sights = ClusterSights()
        for (node, number, isUp) in [(2, 0, true), (2, 1, false), (3, 0, true)] {
            sights.links.append(.init(node: NodeID(UInt32(node)), number: number, isUp: isUp))
        }
        sights.checkpoints = 2
        sights.placements = [.init(node: NodeID(1)), .init(node: NodeID(2))]
        sights.placements[0].replicas = 2
        sights.placements[0].active = 2
        sights.placements[1].replicas = 1
        sights.incomplete = ["safCkpt=words: node 2 being copied, 7 updates behind"]
        return sights
    }

    @Test("On several nodes: links, where the replicas are, and what is not complete")
    func cluster() {
        let text = StatusText.render(report(), sights: sights(), now: now)
        #expect(text.hasPrefix("Cluster swiftsaf: link 1 to node 2 is down\n"))
        #expect(
            text.contains(
                """

                LINK  TO node 2  TO node 3
                0     up         up
                1     down       -
                checkpoints: 2; replicas: demo 2 (2 active), node 2 1
                  safCkpt=words: node 2 being copied, 7 updates behind

                """), "\(text)")
        var unknown = ClusterSights()
        unknown.linksProblem = "corosync does not answer"
        #expect(
            StatusText.render(report(), sights: unknown, now: now)
                .contains("\nlinks: not known, corosync does not answer\n"))
        let json = StatusText.json(report(), sights: sights()).text()
        #expect(json.contains(#"{"node":2,"number":1,"up":false}"#), "\(json)")
        #expect(StatusText.json(report()).text().contains(#""links":null"#))
    }

    /// Node n1 answers, cut off from n2 and n3, and without a lease.
    private func minority() -> (StatusReport, ClusterSights) {
        var status = report()
        status.nodes = (1...3).map { number in
            var node = NodeStatus()
            (node.name, node.id, node.isMember) = ("n\(number)", NodeID(UInt32(number)), true)
            (node.isHeard, node.operationalState) = (number == 1, .enabled)
            return node
        }
        (status.isQuorate, status.nodes[0].lease) = (false, .over)
        for index in 0..<2 { status.applications[0].serviceGroups[0].serviceUnits[index].node = "n\(index + 1)" }
        var sights = ClusterSights()
        sights.links = (2...3).flatMap { node in
            (0...1).map { ClusterSights.Link(node: NodeID(UInt32(node)), number: $0, isUp: false) }
        }
        sights.silence = "ckptd of this node does not answer"
        sights.checkpointsProblem = sights.silence
        return (status, sights)
    }

    @Test("On the minority's side: what stands still, what is old, and one line for all links to a node")
    func minoritySide() {
        let (status, sights) = minority()
        let text = StatusText.render(status, sights: sights, now: now)
        #expect(
            text.hasPrefix("Cluster swiftsaf: nothing is heard of n2, n3\n  no link to n2, n3 is up\n  ckptd of this"),
            "\(text)")
        #expect(!text.contains("link 0 to"))
        #expect(text.contains("of n2, n3 here is what was known last\n"))
        #expect(text.contains("active, but stopped: no lease"))
        #expect(text.contains("standby"), "only what is active stands still")
        #expect(text.contains("checkpoints: not known, ckptd of this node does not answer\n"))
    }

    @Test("On the majority's side a node that is away is told once, and who is in no model by its number")
    func majoritySide() {
        var (status, sights) = minority()
        (status.isQuorate, status.oldest) = (true, NodeID(4))
        status.nodes[0].lease = .held
        status.nodes[1].isMember = false
        status.nodes[1].operationalState = .disabled
        status.nodes[2].isHeard = true
        status.applications[0].serviceGroups[0].serviceUnits[1].readinessState = .outOfService
        sights.links.removeAll { $0.node == NodeID(3) }
        sights.links.append(ClusterSights.Link(node: NodeID(5), number: 0, isUp: false))  // nobody waits for it yet
        #expect(
            StatusText.troubles(in: status, sights: sights) == [
                "node n2 is not a member", "no link to n2 is up", "ckptd of this node does not answer",
            ])
        #expect(
            StatusText.render(status, sights: sights, now: now).contains("done once is done by node 4; lease of n1"))
    }

    @Test("A small model fits 80 columns and 24 lines")
    func golden() {
        let text = StatusText.render(report(), now: now)
        #expect(
            text == """
                Cluster swiftsaf: everything is in service

                NODE  ID  MEMBER  ADMIN     OPERATIONAL  SU FAILOVERS
                demo   1  yes     unlocked  enabled                 0

                APPLICATION wordcount
                  WC (2n)  ADMIN     OPERATIONAL  PRESENCE      READINESS
                  SU1      unlocked  enabled      instantiated  in-service
                    counter  active · pid 4101 · up 1h02m · 0 restarts
                  SU2      unlocked  enabled      instantiated  in-service
                    counter  standby · pid 4102 · up 1m03s · 12 restarts
                  SERVICE INSTANCE  ADMIN     ASSIGNMENT      ASSIGNED TO
                  words             unlocked  fully-assigned  SU1 active, SU2 standby

                MIDDLEWARE   PID  UPTIME  RESTARTS  PRESENCE      LAST ERROR
                clmd        4000   1h02m         0  instantiated
                logd        4001   1h02m         0  instantiated
                ckptd       4002   1h02m         0  instantiated
                eventd      4003   1h02m         0  instantiated
                cliserver   4004   1h02m         0  instantiated

                """)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count <= 24)
        #expect(lines.allSatisfy { $0.count <= 80 })
    }

    @Test("A model that is not used is the first trouble, by its first line")
    func modelNotUsed() {
        var status = report()
        status.problems = ["the application model is not used: app.yaml:3:1: one\napp.yaml:4:1: two"]
        status.applications[0].serviceInstances[0].assignmentState = .unassigned
        let lines = StatusText.render(status, now: now, width: 200).split(separator: "\n")
        #expect(
            lines.prefix(2) == [
                "Cluster swiftsaf: the application model is not used: app.yaml:3:1: one", "  words is unassigned",
            ])
    }

    @Test("What somebody locked is trouble, in the middleware too")
    func locks() {
        var status = report()
        status.applications[0].serviceGroups[0].serviceUnits[1].adminState = .locked
        status.applications[0].serviceGroups[0].serviceUnits[1].readinessState = .outOfService
        let headline = StatusText.render(status, now: now).split(separator: "\n").first
        #expect(headline == "Cluster swiftsaf: SU2 is locked")
        status.applications[2].serviceGroups[0].serviceUnits[0].adminState = .locked
        let lines = StatusText.render(status, now: now).split(separator: "\n")
        #expect(lines.prefix(2) == ["Cluster swiftsaf: logd is locked", "  SU2 is locked"])
    }

    /// SU2's component could not be started; a second node, so that there is a column for it.
    private func broken() -> StatusReport {
        var status = report()
        status.applications[0].serviceInstances[0].assignmentState = .partiallyAssigned
        var node = status.nodes[0]
        node.name = "a-rather-long-host-name-of-1"
        status.nodes.append(node)
        var broken = status.applications[0].serviceGroups[0].serviceUnits[1]
        broken.node = node.name
        broken.operationalState = .disabled
        broken.presenceState = .instantiationFailed
        broken.readinessState = .outOfService
        broken.components[0].pid = 0
        broken.components[0].startedAt = 0
        broken.components[0].operationalState = .disabled
        broken.components[0].presenceState = .instantiationFailed
        broken.components[0].lastError = "cannot be started: there is no program /opt/missing"
        broken.components[0].assignments = []
        status.applications[0].serviceGroups[0].serviceUnits[1] = broken
        return status
    }

    @Test("Trouble comes first; names are cut to the width, states never; the last error stands under its component")
    func trouble() {
        var status = broken()
        status.nodes.removeLast()
        status.applications[0].serviceGroups[0].name = String(repeating: "long", count: 20)
        let lines = StatusText.render(status, now: now).split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines[0] == "Cluster swiftsaf: words is partially-assigned")
        #expect(lines[1] == "  SU2 is disabled: cannot be started: there is no program /opt/missing")
        #expect(lines.allSatisfy { $0.count <= 80 })
        let state = "unlocked  disabled     instantiation-failed  out-of-service"
        #expect(lines.contains { $0.hasPrefix("  SU2  ") && $0.hasSuffix(state) })
        #expect(lines.contains("    counter  unassigned · instantiation-failed · disabled · no process"))
        #expect(lines.contains("      12 restarts"))
        #expect(lines.contains("      last error: cannot be started: there is no program /opt/missing"))
    }

    @Test("Whatever the width, every state and pid is there in full", arguments: [40, 60, 80])
    func narrow(width: Int) {
        let text = StatusText.render(broken(), now: now, width: width)
        for word in ["instantiation-failed", "out-of-service", "partially-assigned", "pid 4101", "12 restarts"] {
            #expect(text.contains(word), "\(word) at \(width) columns:\n\(text)")
        }
    }

    @Test("Eight troubles are told, and how many more there are")
    func manyTroubles() {
        var status = report()
        status.problems = (1...10).map { "problem \($0)" }
        let lines = StatusText.summary(status).split(separator: "\n")
        #expect(
            lines == [
                "Cluster swiftsaf: problem 1", "  problem 2", "  problem 3", "  problem 4", "  problem 5",
                "  problem 6", "  problem 7", "  problem 8", "  and 2 more",
            ])
        #expect(StatusText.troubles(in: status).count == 10)
        #expect(StatusText.troubles(in: report()).isEmpty)
    }

    @Test("Without colours there is no escape; with them the text is the same")
    func colours() {
        let plain = StatusText.render(report(), now: now)
        let coloured = StatusText.render(report(), now: now, isColoured: true)
        #expect(!plain.contains("\u{1B}"))
        var stripped = ""
        var isEscape = false
        for character in coloured {
            if character == "\u{1B}" { isEscape = true }
            if !isEscape { stripped.append(character) }
            if character == "m" { isEscape = false }
        }
        #expect(stripped == plain)
    }

    @Test(
        "Uptimes",
        arguments: [(59, "59s"), (60, "1m00s"), (3_599, "59m59s"), (3_600, "1h00m"), (200_000, "2d07h"), (-5, "0s")])
    func uptimes(seconds: Int64, text: String) {
        #expect(StatusText.uptime(since: now - seconds * second, now: now) == text)
        #expect(StatusText.uptime(since: 0, now: now) == "-")
        #expect(StatusText.uptime(since: .min, now: .max) == "0s")
    }

    @Test("JSON has every state and no process as null")
    func json() {
        let text = StatusText.json(report()).text()
        #expect(
            text.contains(#""name":"SU2","node":"demo","rank":2,"adminState":"unlocked","operationalState":"enabled""#))
        #expect(text.contains(#""pid":4102,"startedAt":1799999937000000000,"restarts":12,"lastError":null"#))
        #expect(
            text.contains(#""serviceUnit":"safSu=SU1,safSg=WC,safApp=wordcount","haState":"active","changing":false"#))
        var status = report()
        status.applications[0].serviceGroups[0].serviceUnits[0].components[0].pid = 0
        #expect(StatusText.json(status).text().contains(#""pid":null"#))
    }

    @Test(
        "On several nodes every daemon is told with its node; those of a node that is away are no trouble of their own")
    func severalNodes() {
        var report = report()
        report.applications.removeAll()
        var away = report.nodes[0]
        away.name = "other"
        away.isMember = false
        report.nodes.append(away)
        for (node, presence) in [("demo", PresenceState.instantiated), ("other", .uninstantiated)] {
            var application = middleware("ckptd", pid: presence == .instantiated ? 77 : 0)
            application.serviceGroups[0].serviceUnits[0].node = node
            application.serviceGroups[0].serviceUnits[0].components[0].presenceState = presence
            report.applications.append(application)
        }
        let text = StatusText.render(report, now: now, width: 80, isColoured: false)
        #expect(text.contains("node other is not a member"))
        #expect(!text.contains("ckptd is"), "\(text)")
        #expect(text.contains("MIDDLEWARE  NODE "), "\(text)")
        #expect(text.contains("ckptd       demo    77"), "\(text)")
        #expect(text.contains("ckptd       other    -"), "\(text)")
    }
}
