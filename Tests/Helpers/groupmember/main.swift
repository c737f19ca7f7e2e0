import EOHost
import EOLoop
import EngineKit
import IOCCluster
import IOCCorosync
import IOCGroups
import OSAL
import SAFTypes

// A member of a group over Corosync, moved by lines on its standard input, telling in lines what it sees:
// groupmember raw|host|old NODE NODES GROUP; old: as a build that knows the first version only

func say(_ text: String) { StandardOutput.write(text + "\n") }

/// Calls `take` for each whole line of standard input, and ends the process with it.
final class CommandLineReader {
    private var rest: [UInt8] = []

    init(_ loop: Loop, _ take: @escaping ([String]) -> Void) throws(OSError) {
        _ = try loop.watch(0, .read) { [self] _ in
            var chunk = [UInt8](repeating: 0, count: 4_096)
            let count = (try? chunk.withUnsafeMutableBytes { try IO.read(0, into: $0) }) ?? 0
            if count == 0 { Environment.exit(0) }
            rest += chunk[..<count]
            while let end = rest.firstIndex(of: 10) {
                take(String(decoding: rest[..<end], as: UTF8.self).split(separator: " ").map(String.init))
                rest.removeFirst(end + 1)
            }
        }
    }
}

func text(_ view: GroupView) -> String {
    let members = view.members.map { "\($0.node)" }.joined(separator: ",")
    let joined = view.joined.map { "\($0.node)" }.joined(separator: ",")
    let left = view.left.map { "\($0.node)" }.joined(separator: ",")
    return "view \(view.id) [\(members)] +[\(joined)] -[\(left)] \(view.isQuorate ? "quorate" : "no") "
        + "of \(view.nodesExpected)"
}

/// The group itself: `send TEXT COUNT [SIZE]` multicasts TEXT.1 … TEXT.COUNT, as fast as it is taken.
final class RawMember {
    private let loop: Loop
    private var group: NodeGroup
    private let name: String
    private var waiting: [[UInt8]] = []
    private var watches: [(descriptor: Int32, id: WatchID)] = []
    private var busy = 0
    private var longest = Duration.zero

    init(_ loop: Loop, _ group: NodeGroup, _ name: String) {
        (self.loop, self.group, self.name) = (loop, group, name)
    }

    func command(_ words: [String]) {
        switch words.first {
        case "join":
            do throws(GroupError) { try group.join(name) } catch { say("error \(error)") }
        case "leave":
            unwatch()
            group.leave()
        case "send":
            let size = words.count > 3 ? Int(words[3]) ?? 0 : 0
            for number in 1...(Int(words[2]) ?? 1) {
                var bytes = Array("\(words[1]).\(number)".utf8)
                bytes += [UInt8](repeating: 46, count: max(0, size - bytes.count))
                waiting.append(bytes)
            }
        case "busy":
            say("busy \(busy) waiting \(waiting.count) longest \(longest.nanoseconds / 1_000)")
        default: say("error unknown \(words)")
        }
        turn()
    }

    private func turn() {
        let before = MonotonicClock.now()
        while let event = group.next() {
            switch event {
            case .message(let sender, let bytes):
                let name = String(decoding: bytes.prefix { $0 != 46 } + [46], as: UTF8.self)
                let number = String(decoding: bytes.drop { $0 != 46 }.dropFirst().prefix { $0 != 46 }, as: UTF8.self)
                say("message \(sender.node) \(name)\(number) \(bytes.count)")
            case .view(let view): say(text(view))
            case .lost(let reason): say("lost \(reason)")
            }
        }
        push()
        longest = max(longest, MonotonicClock.now() - before)
        watch()
    }

    private func push() {
        var sent = 0
        loop: for bytes in waiting {
            switch group.multicast(bytes) {
            case .sent: sent += 1
            case .busy:
                busy += 1
                _ = self.loop.schedule(after: .milliseconds(5)) { [self] in turn() }
                break loop
            case .tooBig, .notJoined: break loop
            }
        }
        waiting.removeFirst(sent)
    }

    private func watch() {
        let wanted = group.descriptors
        guard wanted != watches.map(\.descriptor) else { return }
        unwatch()
        for descriptor in wanted {
            guard let id = try? loop.watch(descriptor, .read, { [self] _ in turn() }) else { return say("error watch") }
            watches.append((descriptor, id))
        }
    }

    private func unwatch() {
        for watch in watches { loop.unwatch(watch.id) }
        watches.removeAll()
    }
}

/// A replicated sum: `add N`, `state`, `version`.
final class HostMember<Speech: SumSpeech> {
    let host: ReplicaHost<SumBuild<Speech>>

    init(_ host: ReplicaHost<SumBuild<Speech>>, _ group: String) {
        self.host = host
        host.onView = { say(text($0)) }
        host.onStatus = { say("status \($0)") }
        host.onAnswer = { ticket, outcome in say("answer \(ticket) \(outcome)") }
        host.onNote = { say("note \($0)") }
        host.onStateReplaced = { [unowned host] in say("replaced \(host.core.engine.sum)") }
        host.onEffect = { effect, _ in if case .sum(let sum) = effect { say("sum \(sum)") } }
        host.onOnce = { [unowned host] id, celebration in
            say("celebrate \(celebration.sum)")
            host.effectDone(id)
        }
        host.start(group)
    }

    func command(_ words: [String]) {
        switch words.first {
        case "add": host.propose(UInt64(words[1]) ?? 0)
        case "state": say("state \(host.core.engine.sum) \(host.core.engine.count) \(host.status)")
        case "version": say("version \(lastWritten.withLock { $0 })")
        default: say("error unknown \(words)")
        }
    }
}

func runHost<Speech: SumSpeech>(
    _ speech: Speech.Type, _ loop: Loop, _ description: ClusterDescription, _ incarnation: UInt64, _ group: String
) throws {
    let host = ReplicaHost(
        loop: loop, description: description, incarnation: incarnation, core: SumBuild<Speech>()
    ) { $0.formationGrace = .seconds(1) }
    let member = HostMember(host, group)
    _ = try CommandLineReader(loop) { member.command($0) }
    loop.run()
}

func run() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 5, let node = UInt32(arguments[2]), let count = UInt32(arguments[3]) else {
        say("groupmember raw|host|old NODE NODES GROUP expected")
        Environment.exit(2)
    }
    let nodes = (1...count).compactMap { number in
        SaName("n\(number)").map { ClusterDescribedNode(id: NodeID(number), name: $0, role: .controller) }
    }
    let description = ClusterDescription(
        clusterName: "test", groupEngine: .corosync, localNode: NodeID(node), nodes: nodes)
    let incarnation = UInt64(MonotonicClock.wallNanoseconds())
    let loop = try Loop(name: "member")
    SignalNumber.pipe.ignore()
    if arguments[1] == "host" {
        try runHost(SecondSpeech.self, loop, description, incarnation, arguments[4])
    } else if arguments[1] == "old" {
        try runHost(FirstSpeech.self, loop, description, incarnation, arguments[4])
    } else {
        let member = RawMember(loop, NodeGroup.make(description, incarnation: incarnation), arguments[4])
        _ = try CommandLineReader(loop) { member.command($0) }
        loop.run()
    }
}

do { try run() } catch {
    say("error \(error)")
    Environment.exit(1)
}
