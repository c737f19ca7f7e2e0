internal import COSAL
internal import Glibc

/// A terminal without a screen: what a program writes to its terminal is read here, and what is written here it reads
/// as typed. Source: pty(7).
public struct PseudoTerminal: ~Copyable, Sendable {
    private let own: Descriptor
    private let programs: Descriptor

    /// The side of whoever plays the person.
    public var raw: Int32 { own.raw }
    /// The side to hand to a program as its 0, 1 and 2. Ours stays open too, so there is no hang-up when it ends.
    public var program: Int32 { programs.raw }

    public init() throws(OSError) {
        var name = [CChar](repeating: 0, count: 128)
        let made = Descriptor(owning: try retrying("posix_openpt") { cosal_pseudo_terminal(&name, name.count) })
        let path = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        programs = Descriptor(
            owning: try retrying("open", path) { cosal_open(path, O_RDWR | O_NOCTTY | O_CLOEXEC, 0) })
        own = made
    }
}
