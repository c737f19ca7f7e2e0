internal import COSAL
internal import Glibc

/// Whole Ethernet frames that arrive at a network device, and frames to send there. Needs CAP_NET_RAW and, for its
/// large buffers, CAP_NET_ADMIN. Non-blocking. Source: packet(7).
///
/// A frame has ``headerBytes`` in front that say which work of a network card is still to be done on it, and is
/// sent with them; so checksums and segments larger than the device's packets pass unharmed.
public final class PacketSocket: Sendable {
    /// A struct virtio_net_hdr.
    public static let headerBytes = 10
    /// The largest frame that the kernel hands over in one piece, with room for its headers.
    public static let frameBytesMax = headerBytes + 65_536 + 256
    static let bufferBytes: Int32 = 16 << 20

    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    /// Throws ENODEV for a device that does not exist in this network namespace.
    public init(device: String) throws(OSError) {
        descriptor = Descriptor(
            owning: try retrying("packet socket", device) { cosal_packet_open(device, Self.bufferBytes) })
    }

    /// Whether the device is still there, under its name.
    public static func exists(device: String) -> Bool { if_nametoindex(device) != 0 }

    /// The next frame's bytes; nil when there is none. Throws ENETDOWN, once, when the device has gone down.
    public func receive(into buffer: UnsafeMutableRawBufferPointer) throws(OSError) -> Int? {
        try retryingUnlessBlocked("recv") { recv(raw, buffer.baseAddress, buffer.count, 0) }
    }

    /// Sends a frame; false when there is no room for it now.
    public func send(_ frame: UnsafeRawBufferPointer) throws(OSError) -> Bool {
        let count = try retryingUnlessBlocked("send") { Glibc.send(raw, frame.baseAddress, frame.count, 0) }
        return count != nil
    }

    /// Frames that the kernel has thrown away since the last call, because they were not read in time.
    public func takeDrops() -> Int {
        var drops: UInt32 = 0
        return cosal_packet_drops(raw, &drops) == 0 ? Int(drops) : 0
    }
}
