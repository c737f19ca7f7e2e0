/// Where the service instances of one group should be: the answer of a redundancy model, a pure function of who can
/// serve and who does. One file per model; the moves towards it are ``ClusterEngine``'s (Moves).
struct Desired: Hashable, Sendable {
    struct Place: Hashable, Sendable {
        /// Position of the service instance.
        var instance: Int
        /// Position of the service unit; nil: nobody (now).
        var active: Int?
        var standby: Int?
    }
    var places: [Place] = []
    /// A unit becomes active only when no other unit is active for any instance of the group, not only for that one.
    var movesTogether = false
}

/// What a redundancy model may know of a service unit. Listed in the order of preference.
struct UnitView: Hashable, Sendable {
    var unit: Int
    /// In service and not in the middle of a fail-over.
    var canTake = false
    /// Shutting down: finishes what it does, takes nothing new.
    var isStopping = false
    var instancesActive: [Int] = []
    var instancesStandby: [Int] = []
    var instancesQuiesced: [Int] = []

    var isActive: Bool { !instancesActive.isEmpty }
    var isStandby: Bool { !instancesStandby.isEmpty }
    var isQuiesced: Bool { !instancesQuiesced.isEmpty }
}
