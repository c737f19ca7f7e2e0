/// Tells from the acts of several actors, in their order, whether ever two acted at once: nobody may act after another
/// has begun.
public struct ActingOrder<Actor: Hashable & Sendable>: Sendable {
    /// Somebody who acted although another had begun.
    public struct Overlap: Equatable, Sendable {
        public var former: Actor
        public var current: Actor
    }

    /// Who began last.
    public private(set) var current: Actor?
    /// The first of each pair only.
    public private(set) var overlaps: [Overlap] = []
    private var former: Set<Actor> = []

    public init() {}

    public mutating func acted(_ actor: Actor) {
        guard let last = current, actor != last else {
            current = actor
            return
        }
        if former.contains(actor) {
            let overlap = Overlap(former: actor, current: last)
            if !overlaps.contains(overlap) { overlaps.append(overlap) }
        } else {
            former.insert(last)
            current = actor
        }
    }
}
