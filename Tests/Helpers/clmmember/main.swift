import ClmClient
import ClmProtocol
import IOC
import OSAL
import SAFTypes

// A client of clmd, moved by lines on its standard input, telling in lines what it hears.

func say(_ text: String) { StandardOutput.write(text + "\n") }

func text(_ view: ClusterView) -> String {
    let members = view.notifications.filter(\.node.isMember).map { "\($0.node.nodeID)" }.joined(separator: ",")
    return "view \(view.viewNumber) [\(members)] \(view.isLocalMember ? "member" : "outside")"
}

func attempt(_ what: String, _ body: () throws(AisError) -> String) {
    do throws(AisError) { say("\(what) \(try body())") } catch { say("\(what) \(error)") }
}

let client = ClusterClient(places: .fromEnvironment())
let short: Duration = .seconds(2)

func number(_ words: [String], _ place: Int) -> UInt32 { words.count > place ? UInt32(words[place]) ?? 0 : 0 }

func act(_ words: [String]) throws {
    switch words.first {
    case "track":
        _ = try client.track { say(text($0)) }
        say(text(try client.currentView(timeout: .seconds(20))))
    case "steps":
        let answer: ChangeResponse.Answer = words[1] == "reject" ? .rejected : .ok
        try client.trackSteps { view in
            say("step \(view.step) of node \(view.rootCause ?? NodeID(0))")
            return answer
        }
        say("steps")
    case "subscribe":
        _ = try client.subscribe(ServiceRange(allOf: number(words, 1))) { event in
            switch event {
            case .published(let binding): say("published \(binding.range) of \(binding.address.node)")
            case .withdrawn(let binding): say("withdrawn \(binding.range) of \(binding.address.node)")
            }
        }
        say("subscribed")
    case "bind":
        attempt("bind") { () throws(AisError) in
            let range = ServiceRange(type: number(words, 1), instance: number(words, 2))
            let scope: BindingScope = words.count > 3 ? .node : .cluster
            return try "\(client.bind(range, to: PortID(7), incarnation: 1, scope: scope, timeout: short).range)"
        }
    case "lookup":
        attempt("lookup") { () throws(AisError) in
            let found = try client.lookup(type: number(words, 1), instance: number(words, 2), timeout: .seconds(20))
            return found.map { "\($0.node)" }.joined(separator: ",")
        }
    case "lock", "unlock", "shutdown":
        let operation: NodeAdministration.Operation =
            words[0] == "lock" ? .lock : words[0] == "unlock" ? .unlock : .shutdown
        attempt(words[0]) { () throws(AisError) in
            try client.administer(operation, NodeID(number(words, 1)))
            return "done"
        }
    default: say("unknown \(words)")
    }
}

SignalNumber.pipe.ignore()
while let line = readLine() {
    do { try act(line.split(separator: " ").map(String.init)) } catch { say("error \(error)") }
}
