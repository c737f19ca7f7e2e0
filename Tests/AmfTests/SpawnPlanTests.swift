import AmfProtocol
import OSAL
import SAFTypes
import Testing

@testable import AmfShell

@Suite("Spawn plan")
struct SpawnPlanTests {
    private let name = SaName("safComp=C,safSu=S,safSg=G,safApp=A")!
    private let places = Places(
        runDirectory: "/own/run", shmDirectory: "/own/shm", stateDirectory: "/own/state", logDirectory: "/own/log",
        configDirectory: "/own/config", nodeName: "own")

    private func plan(_ inherited: [String] = []) -> SpawnPlan {
        SpawnPlan(places: places, node: NodeID(1), inherited: inherited, executable: "/usr/lib/swiftsaf/amfd")
    }

    private func options(
        _ model: ComponentModel, inherited: [String] = [], extra: [String] = []
    ) throws(SpawnRefusal) -> SpawnOptions {
        try plan(inherited).options(name, model, command: "/bin/true", arguments: ["-x"], extra: extra)
    }

    @Test("Environment: what the spawn needs over the configured, over the node's, over the inherited; each once")
    func environment() throws {
        var model = ComponentModel(name: "C", command: "true")
        model.environment = [
            EnvironmentVariable("SAF_LOG_DIR", "/configured"), EnvironmentVariable("MARK", "configured"),
        ]
        let options = try options(
            model, inherited: ["PATH=/bin", "SAF_RUN_DIR=/inherited", "SAF_LOG_DIR=/inherited", "KEPT=a=b"],
            extra: ["MARK=needed"])
        let all = options.environment
        for expected in [
            "PATH=/bin", "KEPT=a=b", "SAF_RUN_DIR=/own/run", "SAF_LOG_DIR=/configured", "MARK=needed",
            "SA_AMF_COMPONENT_NAME=\(name)", "SAF_NODE_NAME=own",
        ] { #expect(all.contains(expected), "\(expected) not in \(all)") }
        let names = all.map { $0.prefix { $0 != "=" } }
        #expect(Set(names).count == names.count)
    }

    @Test("A configured HOME wins over the user's")
    func home() throws {
        var model = ComponentModel(name: "C", command: "true")
        model.user = "root"
        #expect(try options(model, inherited: ["HOME=/inherited"]).environment.contains("USER=root"))
        model.environment = [EnvironmentVariable("HOME", "/configured")]
        #expect(try options(model).environment.filter { $0.hasPrefix("HOME=") } == ["HOME=/configured"])
    }

    @Test("Directory, limits and arguments are the model's; a session of its own, without new privileges")
    func limits() throws {
        var model = ComponentModel(name: "C", command: "true")
        model.limits = [
            ResourceLimitModel(.openFiles, soft: 64, hard: 128), ResourceLimitModel(.coreSize, soft: 0, hard: .max),
        ]
        var options = try options(model)
        #expect(
            options.limits == [
                ResourceLimit(.openFiles, soft: 64, hard: 128), ResourceLimit(.coreBytes, soft: 0, hard: .max),
            ])
        #expect(options.arguments == ["/bin/true", "-x"] && options.workingDirectory == "/own/run")
        #expect(options.newSession && options.noNewPrivileges)
        model.workingDirectory = "/work"
        options = try self.options(model)
        #expect(options.workingDirectory == "/work")
    }

    @Test("A user brings all his groups; a group is added; our own user needs no right to change it")
    func users() throws {
        var model = ComponentModel(name: "C", command: "true")
        #expect(try options(model).userID == nil)
        model.user = "65534"
        let account = try #require(Environment.account(named: "65534"))
        var found = try options(model)
        #expect(found.userID == 65_534 && found.groupID == account.groupID && found.groups == account.groups)
        model.group = "12345"
        found = try options(model)
        #expect(found.groupID == 12_345 && found.groups == account.groups + [12_345])
        model.user = "\(Environment.userID)"
        model.group = "\(Environment.groupID)"
        found = try options(model)
        #expect(found.userID == nil && found.groupID == nil && found.groups.isEmpty)
    }

    @Test("Relative programs are beside amfd, or in SAF_BIN_DIR; what is wrong is named")
    func refusals() {
        #expect(plan().path("ckptd") == "/usr/lib/swiftsaf/ckptd")
        #expect(plan(["SAF_BIN_DIR=/other"]).path("ckptd") == "/other/ckptd")
        #expect(plan(["SAF_BIN_DIR="]).path("/bin/true") == "/bin/true")
        func refusal(_ command: String, _ change: (inout ComponentModel) -> Void = { _ in }) -> String {
            var model = ComponentModel(name: "C", command: command)
            change(&model)
            do throws(SpawnRefusal) {
                _ = try plan().options(name, model, command: command, arguments: [], extra: [])
                return "accepted"
            } catch {
                return error.text
            }
        }
        #expect(refusal("nothing").contains("/usr/lib/swiftsaf/nothing: no such program"))
        #expect(refusal("/etc/passwd").contains("/etc/passwd cannot be executed"))
        #expect(refusal("/bin/true") { $0.user = "no-such-user" }.contains("user no-such-user does not exist"))
        #expect(refusal("/bin/true") { $0.group = "no-such-group" }.contains("group no-such-group does not exist"))
    }
}
