import SwiftSAF

/// The hot standby: a snapshot, then every update, so that a takeover starts from memory.
final class Follower: Sendable {
    private let task: Task<CountedText?, Never>

    init(store: WordStore) {
        task = Task {
            var text: CountedText?
            for await event in store.checkpoint.updates {
                switch event {
                case .snapshot(let change, let sections):
                    var taken = CountedText(change: change)
                    for section in sections { taken.take(section.id, section.data) }
                    text = taken
                case .update(let change, _, let changes):
                    for case .overwritten(let section, let data) in changes { text?.take(section, data) }
                    text?.change = change
                }
            }
            return text
        }
    }

    /// Ends following and returns what is known.
    func stop() async -> CountedText? {
        task.cancel()
        return await task.value
    }
}
