public import CkptProtocol
public import SAFTypes

/// Operations that are done together: all of them or none, to every reader and across every crash.
///
/// They take effect in the order in which they are added; each sees those before it.
public struct UpdateBatch: Sendable {
    var writer: ByteWriter
    var count: UInt32 = 0
    /// What is in it by now, as it is sent.
    public var byteCount: Int { writer.count }

    /// - Parameter bytes: about how much will be added; memory for more is found as needed.
    public init(reserving bytes: Int = 256) { writer = ByteWriter(reserving: bytes) }

    private mutating func add(
        _ kind: SectionOperation.Kind, _ id: SectionID, offset: UInt64 = 0, expiration: SaTime = 0, _ data: [UInt8] = []
    ) {
        SectionOperation.encode(kind, id: id, offset: offset, expiration: expiration, data: data, to: &writer)
        count += 1
    }

    /// Creates a section; without an id the service chooses one, which the write returns.
    ///
    /// - Parameter expires: nanoseconds since 1970 UTC; `SaTime.saTimeEnd`: never.
    public mutating func create(_ section: SectionID?, _ data: [UInt8], expires: SaTime = .saTimeEnd) {
        add(.create, section ?? .defaultSection, expiration: expires, data)
    }

    /// Writes at an offset; the section grows as needed and a gap reads as zero bytes.
    public mutating func write(_ section: SectionID = .defaultSection, at offset: Int, _ data: [UInt8]) {
        // A negative offset becomes one that no section has: the service refuses it.
        add(.write, section, offset: UInt64(bitPattern: Int64(offset)), data)
    }

    /// Replaces the section's data, its size included.
    public mutating func overwrite(_ section: SectionID, _ data: [UInt8]) { add(.overwrite, section, data) }

    public mutating func overwrite(_ section: SectionID, _ data: UnsafeRawBufferPointer) {
        add(.overwrite, section, 0, 0, data)
    }

    /// Replaces the section's data, or creates the section when there is none.
    ///
    /// - Parameter expires: of the section if it is created.
    public mutating func put(_ section: SectionID, _ data: [UInt8], expires: SaTime = .saTimeEnd) {
        add(.put, section, expiration: expires, data)
    }

    public mutating func put(_ section: SectionID, _ data: UnsafeRawBufferPointer, expires: SaTime = .saTimeEnd) {
        add(.put, section, 0, expires, data)
    }

    /// As ``write(_:at:_:)-([UInt8])``.
    public mutating func write(
        _ section: SectionID = .defaultSection, at offset: Int, _ data: UnsafeRawBufferPointer
    ) { add(.write, section, UInt64(bitPattern: Int64(offset)), 0, data) }

    /// Nothing is done unless the section's data still carries this tag of this open.
    mutating func require(_ section: SectionID, tag: UInt64) { add(.require, section, offset: tag) }
    /// What the section has after the operations so far is known by this tag.
    mutating func tag(_ section: SectionID, _ tag: UInt64) { add(.tag, section, offset: tag) }

    private mutating func add(
        _ kind: SectionOperation.Kind, _ section: SectionID, _ offset: UInt64, _ expiration: SaTime,
        _ data: UnsafeRawBufferPointer
    ) {
        section.bytes.withUnsafeBytes {
            SectionOperation.encode(kind, id: $0, offset: offset, expiration: expiration, data: data, to: &writer)
        }
        count += 1
    }

    public mutating func delete(_ section: SectionID) { add(.delete, section) }

    public mutating func setExpiration(_ section: SectionID, _ time: SaTime) {
        add(.setExpiration, section, expiration: time)
    }
}
