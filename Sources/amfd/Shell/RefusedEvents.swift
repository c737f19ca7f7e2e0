import AmfEngine

/// What could not be proposed, in its order, until it can.
struct RefusedEvents {
    /// More than there are components on a node; each has one thing to say at a time.
    static let eventsMax = 4_096
    private var events: [ClusterEvent] = []

    var isEmpty: Bool { events.isEmpty }

    /// Nobody waits for an answer to it, so nobody else would ask again.
    func concerns(_ event: ClusterEvent) -> Bool {
        switch event {
        // A node says anew what lives on it, and is given up anew if it is still gone.
        case .admin, .model, .addition, .nodeJoined, .nodeLeft: false
        case .report, .stopNode, .timer: true
        }
    }

    /// False when there is no room: the event is lost.
    mutating func keep(_ event: ClusterEvent) -> Bool {
        guard events.count < Self.eventsMax else { return false }
        events.append(event)
        return true
    }

    mutating func takeAll() -> [ClusterEvent] {
        defer { events = [] }
        return events
    }
}
