import OSAL

/// Which of the versions that this build speaks it offers to other nodes.
///
/// `SAF_WIRE=previous` in a daemon's environment leaves the newest out, so that the node behaves towards the others as
/// one of the release before: to rehearse an upgrade, and the way back, before there is a second release to do it with.
public enum WireOffer: String, Sendable, CaseIterable {
    case all, previous

    /// What the environment of this process says; nil for a word that means nothing.
    public static func named(_ word: String?) -> WireOffer? { word.map(WireOffer.init(rawValue:)) ?? .all }

    /// The offer of this process.
    public static let here: WireOffer = {
        let word = Environment.get("SAF_WIRE")
        if let offer = named(word) { return offer }
        StandardError.write("SAF_WIRE=\(word ?? "") means nothing (all, previous): all versions are offered\n")
        return .all
    }()

    /// What is offered of `versions`: where there is only one, that one.
    public func of<Number: FixedWidthInteger>(_ versions: ClosedRange<Number>) -> ClosedRange<Number> {
        guard self == .previous, versions.lowerBound < versions.upperBound else { return versions }
        return versions.lowerBound...(versions.upperBound - 1)
    }
}
