/// Times and bounds of the links; the defaults are for daemons, tests use smaller ones.
public struct LinkOptions: Hashable, Sendable {
    public var limits = LinkLimits()
    /// The versions of the service's messages that this build writes and reads; see ``PeerLinks/messages(to:)``.
    public var messages: ClosedRange<UInt8> = 1...1
    /// An address that does not answer for so long is given up.
    public var connectTimeout: Duration = .milliseconds(500)
    /// From accept or connect to a standing link.
    public var handshakeTimeout: Duration = .seconds(2)
    /// Data not taken for so long ends a connection.
    public var silenceMax: Duration = .seconds(5)
    /// Data not acknowledged for so long ends a connection to a node that has other addresses, too. Longer than the
    /// kernel takes to send a lost segment again (200 ms).
    public var pathPatience: Duration = .milliseconds(300)
    /// The pause after no address answered: the first, and what it doubles up to.
    public var pauseFirst: Duration = .milliseconds(10)
    public var pauseMax: Duration = .seconds(1)
    /// Connections that have not said who they are, in all and from one address.
    public var strangersMax = 64
    public var strangersPerAddressMax = 8

    /// A request larger than this is not sent again only to see whether the way is still there.
    static let probeBytesMax = 16 << 10

    public init() {}
}
