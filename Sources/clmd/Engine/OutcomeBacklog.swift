/// What the cluster's table did and a majority does not have yet, in order.
///
/// Agreed delivery may reach a node that is being cut off alone. Told at once, its trackers would hear of a view that
/// never was, and whose number the others give to another one.
public struct OutcomeBacklog: Sendable {
    public struct Entry: Sendable {
        public var outcome: ClusterTable.Outcome
        /// Whose proposal it was, when it was one of ours.
        public var request: ClmEngine.RequestID?
    }

    private var entries: [(index: UInt64, entry: Entry)] = []
    private var head = 0

    public init() {}

    /// - Parameter index: of the last command that is applied, not before the one that did this.
    public mutating func append(_ outcome: ClusterTable.Outcome, _ request: ClmEngine.RequestID?, at index: UInt64) {
        entries.append((index, Entry(outcome: outcome, request: request)))
    }

    /// The table is another as a whole: nothing of what waited has happened.
    public mutating func removeAll() {
        entries.removeAll()
        head = 0
    }

    /// The next one that a majority has.
    public mutating func next(through committed: UInt64) -> Entry? {
        guard head < entries.count, entries[head].index <= committed else { return nil }
        defer {
            head += 1
            if head == entries.count { removeAll() }
        }
        return entries[head].entry
    }
}
