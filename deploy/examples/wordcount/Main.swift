import SwiftSAF

/// Counts words, as the active or the standby component of a 2N service group.
@main
struct Main {
    static func main() async {
        await Component.run { component in
            let store = try await WordStore.open()
            offerTop(store)
            // A process that is stopped, or hangs, does not answer: then the standby takes over.
            try await component.onHealthcheck(key: "alive") { ExecutionObject.shared.isHealthy }
            await work(component, store)
        }
    }

    static func work(_ component: Component, _ store: WordStore) async {
        var role = Role.none

        for await assignment in component.assignments {
            switch assignment.action {
            case .set(.active, let csi):
                guard let counter = Counter(store: store, csi: csi) else {
                    Log.error(
                        "the attributes input and folder of \(csi.name) must name a text and a folder", area: "WRD")
                    assignment.fail()
                    continue
                }
                counter.progress.tell("active")
                let followed = await role.stop()
                assignment.complete()
                role = .active(Task { await counter.run(from: followed) })
            case .set(.standby, let csi):
                _ = await role.stop()
                role = .standby(Follower(store: store))
                assignment.complete()
                Progress(folder: csi["folder"] ?? ".")?.tell("standby")
            case .set(.quiesced, _), .remove:
                _ = await role.stop()
                role = .none
                assignment.complete()
            case .set(.quiescing, _):
                _ = await role.stop()
                role = .none
                assignment.complete()
                component.quiescingComplete()
            case .terminate:
                _ = await role.stop()
                assignment.complete()
                return
            }
        }
    }
}

/// The command `top` on the console.
func offerTop(_ store: WordStore) {
    let spec = CommandSpec(
        name: "top", help: "Shows the words that were found most often.",
        arguments: [ArgumentSpec("count", .integer(1...1_000), optional: true, help: "how many; 10 unless told")])
    ExecutionObject.shared.register(spec) { arguments, reply in
        let count = Int(arguments.integer("count") ?? 10)
        Task {
            guard let text = await store.load() else { return reply.fail("the counts cannot be read now") }
            let words = text.counts.top(count)
            reply.either(
                text: "up to byte \(text.position):\n" + words.map { "\($0.count)  \($0.word)\n" }.joined(),
                json: [
                    "position": .integer(Int64(clamping: text.position)),
                    "words": .array(
                        words.map { ["word": .string($0.word), "count": .integer(Int64(clamping: $0.count))] }),
                ])
        }
    }
}

/// What this component is doing at the moment.
enum Role {
    case none
    case active(Task<Void, Never>)
    case standby(Follower)

    /// Ends the work and returns what a standby had followed.
    func stop() async -> CountedText? {
        switch self {
        case .none: return nil
        case .active(let task):
            task.cancel()
            await task.value
            return nil
        case .standby(let follower): return await follower.stop()
        }
    }
}
