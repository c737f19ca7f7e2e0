public import SAFTypes

/// version u16 · cluster name · engine u8 · local node u32 · nodes · links · token ns i64 · grace ns i64 · lease u32 ·
/// fencing? · access · from version 2 on: database u8
extension ClusterDescription: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        let version = database == .sqlite ? 1 : Self.versions.upperBound
        writer.integer(version)
        writer.string(clusterName)
        writer.integer(groupEngine.rawValue)
        writer.value(localNode)
        writer.list(nodes)
        writer.value(links)
        writer.duration(token)
        writer.duration(quorumLossGrace)
        writer.integer(leasePercent)
        writer.optional(fencing)
        writer.value(access)
        if version > 1 { writer.integer(database.rawValue) }
    }

    /// Also refuses what can be read but makes no sense (``fault``).
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard Self.versions.contains(version) else {
            throw .badValue("cluster description of version \(version); \(Self.versions) expected")
        }
        clusterName = try reader.string(max: 32)
        groupEngine = try GroupEngine.decode(from: &reader)
        localNode = try reader.value()
        nodes = try reader.list(max: Self.nodesMax)
        links = try reader.value()
        token = try reader.duration()
        quorumLossGrace = try reader.duration()
        leasePercent = try reader.integer()
        fencing = try reader.optional()
        access = try reader.value()
        if version > 1 { database = try Database.decode(from: &reader) }
        if let fault { throw .badValue(fault) }
    }
}

/// id u32 · name · role u8 · addresses.
extension ClusterDescribedNode: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(id)
        writer.value(name)
        writer.integer(role.rawValue)
        writer.list(addresses)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.value()
        name = try reader.value()
        role = try Role.decode(from: &reader)
        addresses = try reader.list(max: ClusterDescription.addressesMax)
    }
}

/// host · device · source (empty: none) · mark present u8 · mark u32.
extension LinkAddress: WireCodable {
    private static let textMax = 255

    public func encode(to writer: inout ByteWriter) {
        writer.string(host)
        writer.string(device ?? "")
        writer.string(source ?? "")
        writer.bool(mark != nil)
        writer.integer(mark ?? 0)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        func text(_ reader: inout ByteReader) throws(DecodeError) -> String? {
            let text = try reader.string(max: Self.textMax)
            return text.isEmpty ? nil : text
        }
        host = try reader.string(max: Self.textMax)
        device = try text(&reader)
        source = try text(&reader)
        let hasMark = try reader.bool()
        let value: UInt32 = try reader.integer()
        mark = hasMark ? value : nil
    }
}

/// security u8 · port base u16 · certificate directory.
extension LinkSettings: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(security.rawValue)
        writer.integer(portBase)
        writer.string(certificateDirectory)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        security = try Security.decode(from: &reader)
        portBase = try reader.integer()
        certificateDirectory = try reader.string(max: 4_096)
    }
}

/// timeout ns i64 · devices.
extension FencingSettings: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.duration(timeout)
        writer.list(devices)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        timeout = try reader.duration()
        devices = try reader.list(max: 1_024)
    }
}

/// node u32 · agent · parameters file.
extension FencingDevice: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.string(agent)
        writer.string(parametersFile)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        agent = try reader.string(max: 4_096)
        parametersFile = try reader.string(max: 4_096)
    }
}

/// users · groups, each: count u32 · texts.
extension AccessRule: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        for names in [users, groups] {
            writer.integer(UInt32(names.count))
            for name in names { writer.string(name) }
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        func names(_ reader: inout ByteReader) throws(DecodeError) -> [String] {
            let count = try reader.integer(UInt32.self)
            guard count <= AccessRule.entriesMax else { throw .badValue("\(count) names") }
            var names: [String] = []
            for _ in 0..<count { names.append(try reader.string(max: 255)) }
            return names
        }
        users = try names(&reader)
        groups = try names(&reader)
    }
}

extension ByteWriter {
    /// Nanoseconds i64; longer than 292 years is 292 years.
    fileprivate mutating func duration(_ value: Duration) {
        let (seconds, attoseconds) = value.components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        integer(overflow ? (seconds < 0 ? Int64.min : .max) : whole &+ attoseconds / 1_000_000_000)
    }
}

extension ByteReader {
    fileprivate mutating func duration() throws(DecodeError) -> Duration { .nanoseconds(try integer(Int64.self)) }
}
