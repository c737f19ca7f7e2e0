import CSAF
import SAFHandles
import SAFTypes

/// The versions of the interface that are offered, B.01.01 and B.02.02, and what follows from the one a program asks
/// for. Source: SAI-Overview-B.02.01 §3.1, SaVersionT.
enum InterfaceVersion {
    /// Names are any bytes; no code newer than 30; a short timeout is none.
    case b01
    /// Names are distinguished names; SA_AIS_ERR_UNAVAILABLE on a node that is no member.
    case b02

    private static let release: UInt8 = 0x42
    private static let major: UInt8 = 2
    private static let minor: UInt8 = 2

    /// What the program asked for, if it is offered. `version` becomes the highest one of the release in any case:
    /// there is only one, the nearest to all others.
    static func negotiated(_ version: inout SaVersionT) throws(AisError) -> InterfaceVersion {
        let asked = version
        version = SaVersionT(releaseCode: release, majorVersion: major, minorVersion: minor)
        guard asked.releaseCode == release else { throw .version }
        switch asked.majorVersion {
        case 1: return .b01
        case 2: return .b02
        default: throw .version
        }
    }

    /// Programs of B.01 pass any short time, and mean the usual one.
    private static var shortestOfB01: SaTime { 100_000_000 }
    /// For functions without a timeout of their own.
    static var usual: Duration { .seconds(10) }

    func timeout(_ time: SaTimeT) throws(AisError) -> Duration {
        switch self {
        case .b01: return time < Self.shortestOfB01 ? Self.usual : .nanoseconds(time)
        case .b02:
            if time < 0 { throw .invalidParam }
            return .nanoseconds(time)
        }
    }

    /// The error as a program of this version may see it.
    func seen(_ error: AisError) -> AisError { error == .unavailable && self == .b01 ? .tryAgain : error }
}
