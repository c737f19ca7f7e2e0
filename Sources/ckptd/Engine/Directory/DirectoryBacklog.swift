public import CkptProtocol

/// What the directory has decided and a majority does not have yet, in order.
///
/// Agreed delivery may reach a node that is being cut off alone. A node that became active on such an entry would
/// acknowledge what nobody else has; so every entry waits here until its command is known to be with a majority.
public struct DirectoryBacklog: Sendable {
    public enum Step: Sendable {
        /// Whose turn it is to act. A node that has not told what it has does nothing: what the directory says of it is
        /// of another life. One that begins to act looks at every entry before, after all that waits.
        case members([NodeLife])
        /// What the directory says of a checkpoint; nil: it is no more.
        case entry(CheckpointID, DirectoryEntry?, DirectoryRemoval?)
        /// Everything has been looked at by one that begins to act.
        case looked
        /// A replica that this node has is of no checkpoint.
        case unknown(CheckpointID)
    }

    private var steps: [(index: UInt64, step: Step)] = []
    private var head = 0

    public init() {}

    /// - Parameter index: of the last command that is applied, not before the one that decided this.
    public mutating func append(_ step: Step, at index: UInt64) { steps.append((index, step)) }

    /// The state is another as a whole: nothing of what waited has happened.
    public mutating func removeAll() {
        steps.removeAll()
        head = 0
    }

    /// The next step that a majority has.
    public mutating func next(through committed: UInt64) -> Step? {
        guard head < steps.count, steps[head].index <= committed else { return nil }
        defer {
            head += 1
            if head == steps.count { removeAll() }
        }
        return steps[head].step
    }
}
