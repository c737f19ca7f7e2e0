import AmfProtocol
import EngineKit
import SAFTypes
import SafConfig
import Testing

private let environment = ConfigEnvironment(nodeName: "here", programFolders: ["/opt/bin", "/usr/bin"]) { path in
    if path.hasSuffix("/plain") { return .notExecutable }
    return ["/opt/bin/counter", "/usr/bin/other", "/etc/app/tool", "/bin/clean"].contains(path) ? .executable : .missing
}

func load(_ text: String, cluster: String? = nil) -> ConfigLoader.Outcome {
    ConfigLoader.load(
        models: [ConfigSource(file: "/etc/app/model.yaml", text: text)],
        cluster: cluster.map { ConfigSource(file: "cluster.yaml", text: $0) }, environment: environment)
}

private let small = """
    application: hello
    serviceGroups:
      greeters:
        serviceUnits: 2
        components:
          greeter: { command: counter }
        serviceInstances: [greeting]
    """

@Suite("Configuration")
struct ConfigTests {
    @Test("Seven lines are a complete model")
    func smallModel() throws {
        let outcome = load(small)
        #expect(outcome.errors == [])
        #expect(outcome.model.nodes == [NodeModel(name: "here", id: NodeID(1))])
        let application = try #require(outcome.model.applications.first)
        #expect(application.name == "hello")
        let group = try #require(application.serviceGroups.first)
        #expect(group.redundancyModel == .twoN)
        #expect(group.serviceUnits.map(\.name) == ["SU1", "SU2"])
        #expect(group.serviceUnits.map(\.rank) == [1, 2])
        #expect(group.serviceUnits.map(\.node) == ["here", "here"])
        let component = try #require(group.serviceUnits[1].components.first)
        #expect(component.command == "/opt/bin/counter")
        #expect(component.csiTypes == [SupportedCSIType("greeter")])
        let instance = try #require(application.serviceInstances.first)
        #expect(instance.serviceGroup == "greeters")
        #expect(instance.csis == [CSIModel(name: "greeting", type: "greeter")])
        #expect(try AmfModel(decoding: outcome.model.encoded) == outcome.model)
    }

    @Test("A program that is not there is strict for a check, and costs only its component when the model is used")
    func missingProgram() throws {
        let outcome = load(small.replacing("counter", with: "countre"))
        #expect(outcome.errors.map(\.isWarning) == [true])
        #expect(outcome.isUsable)
        let group = try #require(outcome.model.applications.first?.serviceGroups.first)
        #expect(group.serviceUnits[0].components[0].command == "countre", "amfd names it when it is to be started")
        let plain = load(small.replacing("counter", with: "./plain"))
        #expect(plain.isUsable)
        #expect(
            plain.model.applications[0].serviceGroups[0].serviceUnits[0].components[0].command == "/etc/app/plain")
        #expect(!load(small.replacing("serviceUnits: 2", with: "serviceUnits: 0")).isUsable)
    }

    @Test("Component types are templates: own keys win, environment, limits and timeouts are merged")
    func types() throws {
        let outcome = load(
            """
            componentTypes:
              worker:
                command: ./tool
                arguments: [-v]
                environment: { A: "1", B: yes }
                limits: { openFiles: 64, addressSpace: 1GiB }
                timeouts: { instantiate: 5s, csiSet: 2s }
                csiTypes: { load: { capability: 1-active-or-1-standby } }
                healthchecks: { ping: { period: 500ms, maxDuration: 100ms } }
            application: shop
            serviceGroups:
              - name: G
                redundancyModel: No-Redundancy
                suRestartMax: 0
                serviceUnits:
                  - name: U
                    components:
                      one: worker
                      two:
                        type: worker
                        command: other
                        arguments: []
                        environment: { B: no, C: }
                        limits: { openFiles: { soft: 10, hard: unlimited } }
                        timeouts: { csiSet: 1m }
                        recoveryOnError: component-restart
            serviceInstances:
              S:
                csis:
                  C: { type: load, attributes: { input: /tmp/x, many: [a, b] } }
            """)
        #expect(outcome.errors == [])
        let group = try #require(outcome.model.applications.first?.serviceGroups.first)
        #expect(group.redundancyModel == .noRedundancy)
        #expect(group.suRestartMax == 0)
        let (one, two) = (group.serviceUnits[0].components[0], group.serviceUnits[0].components[1])
        #expect(one.command == "/etc/app/tool")
        #expect(one.environment == [EnvironmentVariable("A", "1"), EnvironmentVariable("B", "yes")])
        #expect(
            one.limits == [
                ResourceLimitModel(.openFiles, soft: 64, hard: 64),
                ResourceLimitModel(.addressSpace, soft: 1 << 30, hard: 1 << 30),
            ])
        #expect(one.csiTypes == [SupportedCSIType("load", .oneActiveOrOneStandby)])
        #expect(two.command == "/usr/bin/other")
        #expect(two.arguments == [])
        #expect(
            two.environment == [
                EnvironmentVariable("A", "1"), EnvironmentVariable("B", "no"), EnvironmentVariable("C", ""),
            ])
        #expect(
            two.limits == [
                ResourceLimitModel(.addressSpace, soft: 1 << 30, hard: 1 << 30),
                ResourceLimitModel(.openFiles, soft: 10, hard: .max),
            ])
        #expect(two.timeouts.instantiate == .seconds(5))
        #expect(two.timeouts.csiSet == .seconds(60))
        #expect(two.recoveryOnError == .componentRestart)
        #expect(
            two.healthchecks == [
                HealthcheckModel(key: "ping", period: .milliseconds(500), maxDuration: .milliseconds(100))
            ])
        #expect(
            outcome.model.applications[0].serviceInstances[0].csis[0].attributes
                == [CSIAttribute("input", "/tmp/x"), CSIAttribute("many", "a"), CSIAttribute("many", "b")])
    }

    @Test("cluster.yaml names the node; without it there is one with this node's name")
    func cluster() {
        let outcome = load(
            small,
            cluster:
                "cluster: prod\nstartupTimeout: 2s\ndaemonHealthcheckPeriod: 0s\n"
                + "nodes: { here: { id: 7, autoRepair: false } }\n"
        )
        #expect(outcome.errors == [])
        #expect(outcome.model.cluster == "prod")
        #expect(outcome.model.startupTimeout == .seconds(2))
        #expect(outcome.model.daemonHealthcheckPeriod == .zero)
        #expect(outcome.model.nodes.first?.id == NodeID(7))
        #expect(outcome.model.nodes.first?.autoRepair == false)
        #expect(
            load(small, cluster: "nodes: [there]").errors.map(\.description) == [
                "cluster.yaml:1:9: cluster: nodes: this node is called 'here', by SAF_NODE_NAME or the host's name; "
                    + "'there' found: rename it, or set SAF_NODE_NAME"
            ])
    }

    @Test(
        "Durations",
        arguments: [
            ("500ms", 500_000_000), ("10s", 10_000_000_000), ("2m", 120_000_000_000), ("1h", 3_600_000_000_000),
            ("0", 0), ("7 us", 7_000),
        ] as [(String, Int64)])
    func durations(text: String, nanoseconds: Int64) {
        #expect(DurationText.parse(text) == .nanoseconds(nanoseconds))
        #expect(DurationText.parse(DurationText.text(.nanoseconds(nanoseconds))) == .nanoseconds(nanoseconds))
    }

    @Test(
        "No durations",
        arguments: ["", "10", "s", "1x", "-1s", "1.5s", "99999999999999999999s", "9223372036854775807d"])
    func noDurations(text: String) { #expect(DurationText.parse(text) == nil) }
}

@Suite("Errors of the configuration")
struct ConfigErrorTests {
    private func errors(_ text: String) -> [String] {
        load(text).errors.map { String($0.description.dropFirst("/etc/app/model.yaml:".count)) }
    }

    @Test("Every error is told, with its place, the thing and what was expected")
    func together() {
        let text = """
            application: hello
            componentTypes:
              worker: { command: countre, timeouts: { instantiate: 5 } }
            serviceGroups:
              G:
                redundancyModel: 3n
                serviceUnit: 2
                serviceUnits: [SU1, SU1]
                components:
                  a: { type: wroker, command: counter }
                  b: { command: plain, arguments: { x: y } }
                  c: { arguments: [1] }
                  d: { command: counter, environment: [A], limits: { openfiles: 3, stackSize: big } }
                autoRepair: maybe
                suRestartMax: -1
              G:
                serviceUnits: { A: { components: { a: { command: counter } } } }
            serviceInstances:
              S: { serviceGroup: H }
              T: { serviceGroup: G, csis: { C: { type: x } } }
            """
        #expect(
            errors(text) == [
                "3:22: component type 'worker': command: there is no program 'countre' in /opt/bin, /usr/bin",
                "3:56: component type 'worker', timeouts: instantiate: a duration with its unit (such as 500ms, 10s, "
                    + "2m) "
                    + "from 10ms to 1d expected, '5' found",
                "16:3: key 'G' is given twice in one map (first in line 5); keep one of them",
                "19:22: service instance 'S': serviceGroup: 'H' does not exist (groups: G)",
                "20:44: CSI 'C' of service instance 'T': type: no component of service group 'G' supports 'x' "
                    + "(supported: a)",
            ])
        let rest = text.split(separator: "\n", omittingEmptySubsequences: false).filter {
            !$0.hasPrefix("  G:") || $0 == "  G:"
        }
        let withoutSecond = rest.enumerated().filter { $0.offset != 15 && $0.offset != 16 }.map(\.element).joined(
            separator: "\n")
        #expect(
            errors(withoutSecond) == [
                "3:22: component type 'worker': command: there is no program 'countre' in /opt/bin, /usr/bin",
                "3:56: component type 'worker', timeouts: instantiate: a duration with its unit (such as 500ms, 10s, "
                    + "2m) "
                    + "from 10ms to 1d expected, '5' found",
                "6:22: service group 'G': redundancyModel: one of 2n, no-redundancy expected, '3n' found"
                    + "; did you mean 2n?",
                "7:5: service group 'G': key 'serviceUnit' is unknown; did you mean serviceUnits? (known keys: "
                    + "adminState, autoAdjust, "
                    + "autoAdjustProbation, autoRepair, bootLevel, componentRestartMax, componentRestartProbation, "
                    + "components, "
                    + "maxActiveSIsPerSU, maxStandbySIsPerSU, preferredActiveSUs, preferredAssignedSUs, "
                    + "preferredInServiceSUs, "
                    + "preferredStandbySUs, redundancyModel, serviceInstances, serviceUnits, suRestartMax, "
                    + "suRestartProbation)",
                "8:25: service group 'G': serviceUnits: the name 'SU1' is given twice (first in line 8)",
                "10:18: component 'a': component type 'wroker' does not exist; did you mean worker? (defined: worker)",
                "11:21: component 'b': command: /opt/bin/plain is not an executable file; check its type and mode "
                    + "(chmod +x)",
                "11:39: component 'b': arguments: a list of texts expected, a map found",
                "12:7: component 'c': the key 'command' (the program) is missing, here and in a component type",
                "13:43: component 'd': environment: a map of names and values expected, a list found",
                "13:58: component 'd': limits: resource 'openfiles' is unknown; did you mean openFiles? (known: "
                    + "addressSpace, coreSize, "
                    + "cpuSeconds, dataSize, fileSize, openFiles, processes, lockedMemory, stackSize)",
                "13:83: component 'd': limits.stackSize: a whole number, one with KiB, MiB or GiB, or 'unlimited' "
                    + "expected, 'big' found",
                "14:17: service group 'G': autoRepair: true or false expected, 'maybe' found",
                "15:19: service group 'G': suRestartMax: a whole number from 0 to 1000000 expected, '-1' found",
                "17:22: service instance 'S': serviceGroup: 'H' does not exist (groups: G)",
                "18:44: CSI 'C' of service instance 'T': type: no component of service group 'G' supports 'x' "
                    + "(supported: a, b, c, d)",
            ])
    }

    @Test(
        "A number of service units that is none is not taken for the name of one",
        arguments: ["many", "3x", "0", "\"2\""])
    func serviceUnitCount(text: String) {
        let shown = text.filter { $0 != "\"" }
        #expect(
            errors(small.replacing("serviceUnits: 2", with: "serviceUnits: \(text)")).first
                == "4:19: service group 'greeters': serviceUnits: a number from 1 to 256, or a list of names, "
                + "expected, "
                + "'\(shown)' found")
    }

    @Test("A user, a group and a directory that this machine does not have are told, and cost the component alone")
    func machine() {
        var environment = environment
        environment.hasUser = { $0 != "nobdy" }
        environment.hasGroup = { $0 == "staff" }
        environment.hasDirectory = { $0 == "/" }
        let keys = "command: counter, user: nobdy, group: stuff, workingDirectory: /nowhere"
        let text = small.replacing("command: counter", with: keys)
        let outcome = ConfigLoader.load(
            models: [ConfigSource(file: "m.yaml", text: text)], cluster: nil, environment: environment)
        #expect(
            outcome.errors.map(\.message) == [
                "component 'greeter': user: there is no user 'nobdy' on this node",
                "component 'greeter': group: there is no group 'stuff' on this node",
                "component 'greeter': workingDirectory: there is no directory '/nowhere' on this node",
            ])
        #expect(outcome.isUsable)
    }

    @Test("A component whose user may not use the services is told, and a user or group that nobody has")
    func access() {
        var environment = environment
        environment.hasUser = { $0 != "ghost" }
        environment.hasGroup = { $0 != "ghosts" }
        environment.admits = { rule, user, group in rule.users.contains(user) || rule.groups.contains(group) }
        func warnings(_ keys: String) -> [String] {
            let text = small.replacing("command: counter", with: "command: counter, " + keys)
            let outcome = ConfigLoader.load(
                models: [ConfigSource(file: "m.yaml", text: text)],
                cluster: ConfigSource(
                    file: "cluster.yaml", text: "nodes: [here]\nusers: [web, ghost]\ngroups: [staff, ghosts]"),
                environment: environment)
            #expect(outcome.isUsable, "\(outcome.errors)")
            return outcome.errors.map(\.message)
        }
        let ghosts = [
            "cluster: users: there is no user 'ghost' on this node: it admits nobody",
            "cluster: groups: there is no group 'ghosts' on this node: it admits nobody",
        ]
        #expect(warnings("user: web") == ghosts)
        #expect(warnings("user: other, group: staff") == ghosts)
        let refused =
            "component 'greeter': user: 'other' may not use the services; 'users' or 'groups' of cluster.yaml "
            + "must have it"
        #expect(warnings("user: other") == ghosts + [refused])
    }

    @Test("An application that another file has, too, is told with the first place; a known key is listed once")
    func twice() {
        let sources = ["a.yaml", "b.yaml"].map { ConfigSource(file: $0, text: small) }
        let outcome = ConfigLoader.load(models: sources, cluster: nil, environment: environment)
        #expect(
            outcome.errors.map(\.description) == [
                "b.yaml:1:14: model: application 'hello' is given twice (first in a.yaml, line 1)"
            ])
        let unknown = errors(small.replacing("command: counter", with: "command: counter, comand: x")).first ?? ""
        #expect(unknown.components(of: "command,") == 1, "\(unknown)")
    }

    @Test("What is not YAML, or no model, is told with its place")
    func broken() {
        #expect(errors("") == ["1:1: the file is empty; 'application: NAME' and 'serviceGroups' expected"])
        #expect(
            errors("a: [1\nb: 2") == [
                "2:2: this is not YAML: did not find expected ',' or ']' (while parsing a flow sequence in line 1)"
            ])
        #expect(errors("- a") == ["1:1: model: a map of keys expected, a list found"])
        #expect(
            errors("a: b\n\tc: d") == [
                "2:1: this is not YAML: found a tab character that violates indentation (while scanning a plain "
                    + "scalar in line 1)"
            ])
        #expect(
            errors("serviceGroups: {}\n") == [
                "1:1: model: the key 'application' with the application's name is missing"
            ])
        #expect(
            errors("application: a\n") == [
                "1:14: model: the key 'serviceGroups' with at least one group is missing"
            ])
    }

    @Test("A key given three times, quoted and in flow style is told each time")
    func duplicates() {
        let found = errors("application: a\n\"x\": 1\n'x': 2\nx: 3\nserviceGroups: { é: 1, é: 2 }\n")
        #expect(
            found.filter { $0.contains("given twice") } == [
                "3:1: key 'x' is given twice in one map (first in line 2); keep one of them",
                "4:1: key 'x' is given twice in one map (first in line 2); keep one of them",
                "5:24: key 'é' is given twice in one map (first in line 5); keep one of them",
            ])
    }

    @Test("Anchors work; one that multiplies without end does not")
    func anchors() {
        #expect(errors(small.replacing("{ command: counter }", with: "&g { command: counter }")) == [])
        var bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<12 {
            bomb +=
                "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
        }
        #expect(errors(bomb).contains { $0.contains("more than 100000 values") })
        #expect(
            errors("a: " + String(repeating: "[", count: 100) + String(repeating: "]", count: 100)).contains {
                $0.contains("32 levels")
            })
    }

    @Test("The loader survives any mutation of a good file", arguments: 0..<40 as Range<UInt64>)
    func mutations(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let pieces = [
            "\"", "'", "[", "]", "{", "}", ":", ": ", "\n", "  ", "\t", "- ", "&a ", "*a", "? ", "|\n", "!!int ", "#",
            "é", "\u{0}", "%", "~", "<<: ",
        ]
        for _ in 0..<50 {
            var scalars = Array(small.unicodeScalars)
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<max(1, scalars.count), using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: scalars.remove(at: min(at, scalars.count - 1))
                case 1: scalars.insert(contentsOf: pieces.randomElement(using: &random)!.unicodeScalars, at: at)
                case 2: scalars.replaceSubrange(at..<min(scalars.count, at + 9), with: [])
                default:
                    let from = Int.random(in: 0..<max(1, scalars.count), using: &random)
                    scalars.insert(
                        contentsOf: scalars[min(from, scalars.count)..<min(scalars.count, from + 12)],
                        at: min(at, scalars.count))
                }
                if scalars.isEmpty { scalars = ["a"] }
            }
            var text = String.UnicodeScalarView()
            text.append(contentsOf: scalars)
            let outcome = load(String(text))
            for error in outcome.errors {
                #expect(error.position.line >= 1 && error.position.column >= 1, "seed \(seed): \(error)")
                #expect(!error.message.isEmpty)
            }
        }
    }
}

extension String {
    /// How often `part` is in it.
    fileprivate func components(of part: String) -> Int { ranges(of: part).count }
}
