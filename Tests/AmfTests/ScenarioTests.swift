import AmfProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import AmfEngine

/// Stories as text: `Scenarios/*.txt`. A block of commands, `----`, what it did; blocks are parted by an empty line.
/// `AMF_SCENARIOS_REWRITE=1` writes the files anew; review the difference.
@Suite("AMF scenarios")
struct ScenarioTests {
    private static let folder: String = {
        let file = "\(#filePath)"
        return String(file[..<(file.lastIndex(of: "/") ?? file.endIndex)]) + "/Scenarios"
    }()

    static let names: [String] = ((try? File.list(folder)) ?? []).filter { $0.hasSuffix(".txt") }.sorted()

    @Test("A scenario goes as it is written", arguments: names)
    func scenario(name: String) throws {
        let path = "\(Self.folder)/\(name)"
        let text = String(decoding: try File.readAll(path), as: UTF8.self)
        var story = Story()
        let played = story.play(text)
        if OSAL.Environment.get("AMF_SCENARIOS_REWRITE") == "1" {
            try File.writeAtomically(path, Array(played.utf8), durable: false, mode: 0o644)
        } else {
            #expect(played == text, "\(name)")
        }
        #expect(story.world.violations.isEmpty)
    }
}

/// Plays one scenario: gives every command to the world and writes down what the engines ordered.
struct Story {
    var world = AmfWorld(AmfModel())

    mutating func play(_ text: String) -> String {
        var output: [String] = []
        var isAnswer = false
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
            if line.hasPrefix("#") {
                output.append(line)
            } else if line == "----" {
                isAnswer = true
                world.settle()
                output.append(line)
                output += world.trace.filter { !$0.hasPrefix("kill ") }
                world.trace = []
                if asksState {
                    output += world.describe()
                    asksState = false
                }
            } else if line.isEmpty {
                isAnswer = false
                output.append(line)
            } else if !isAnswer {
                output.append(line)
                if let problem = perform(line.split(separator: " ").map(String.init)) { output.append("? \(problem)") }
            }
        }
        return output.joined(separator: "\n")
    }

    private var asksState = false

    /// Commands: `model 2n|no-redundancy units=2 components=1 instances=1`, `kill SU1/C1`,
    /// `break SU1/C1 spawn|register|answer|…`, `mend SU1/C1`, `admin lock safSu=…`, `wait 3`,
    /// `amfd-dies`, `amfd-returns`, `stop`, `state`.
    private mutating func perform(_ words: [String]) -> String? {
        let argument = words.count > 1 ? words[1] : ""
        switch words[0] {
        case "model": return start(words)
        case "kill": world.kill(component(argument).description)
        case "break": return damage(component(argument), words.count > 2 ? words[2] : "")
        case "mend": world.behaviours[component(argument)] = nil
        case "admin":
            guard let operation = AdminOperation.allCases.first(where: { "\($0)" == argument }), words.count == 3
            else { return "admin OPERATION DN" }
            _ = world.admin(operation, words[2])
        case "wait": world.advance(.seconds(Int(argument) ?? 1))
        case "amfd-dies": world.killAmfd()
        case "amfd-returns": world.restartAmfd()
        case "stop": world.propose(.stopNode(NodeID(1)))
        case "state": asksState = true
        default: return "unknown command \(words[0])"
        }
        return nil
    }

    private mutating func start(_ words: [String]) -> String? {
        var numbers = ["units": 2, "components": 1, "instances": 1]
        var recovery = RecommendedRecovery.componentFailover
        for word in words.dropFirst(2) {
            let pair = word.split(separator: "=").map(String.init)
            guard pair.count == 2 else { return "NAME=VALUE expected: \(word)" }
            if let found = RecommendedRecovery.allCases.first(where: { $0.word == pair[1] }) { recovery = found }
            numbers[pair[0]] = Int(pair[1])
        }
        let (units, instances) = (numbers["units"] ?? 2, numbers["instances"] ?? 1)
        var model =
            words[1] == "2n"
            ? Models.twoN(units: units, components: numbers["components"] ?? 1, instances: instances)
            : Models.noRedundancy(units: units, instances: instances)
        for unit in model.applications[0].serviceGroups[0].serviceUnits.indices {
            model.applications[0].serviceGroups[0].serviceUnits[unit].failover = numbers["failover"] != 0
            for component in model.applications[0].serviceGroups[0].serviceUnits[unit].components.indices {
                model.applications[0].serviceGroups[0].serviceUnits[unit].components[component].recoveryOnError =
                    recovery
            }
        }
        world = AmfWorld(model)
        return nil
    }

    private func component(_ path: String) -> SaName {
        let parts = path.split(separator: "/").map(String.init)
        return SaName("safComp=\(parts.last ?? ""),safSu=\(parts.first ?? ""),safSg=G,safApp=A")!  // short, not empty
    }

    private mutating func damage(_ name: SaName, _ what: String) -> String? {
        var behaviour = world.behaviour(name)
        switch what {
        case "spawn": behaviour.canSpawn = false
        case "register": behaviour.registers = false
        case "answer": behaviour.answers = false
        case "refuse": behaviour.refuses = true
        case "terminate": behaviour.terminates = false
        case "quiesce": behaviour.completesQuiescing = false
        default: return "break COMPONENT spawn|register|answer|refuse|terminate|quiesce"
        }
        world.behaviours[name] = behaviour
        return nil
    }
}
