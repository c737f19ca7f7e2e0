import Containers
import EngineKit
import LogProtocol
public import SAFTypes

/// version u8 (1 or 2) · members · stores · absent · controllers u16 · nextOrder u64 · nextID u32 · nextNumber u8 ·
/// electAt u64 (0: none) · epoch u64 · owner (optional) · inSync · streams · ended, each: id, stream. From version 2 on
/// the streams' forms, in their order and only of those that have one: index u32 · form.
extension StreamRegistry: WireCodable {
    public func encode(to writer: inout ByteWriter) { encode(version: Self.versions.upperBound, to: &writer) }

    /// The versions of commands and snapshots this build reads and writes.
    public static let versions: ClosedRange<UInt16> = 1...2

    public func encode(version: UInt16, to writer: inout ByteWriter) {
        writer.integer(UInt8(version))
        writer.integer(UInt32(members.count))
        for (node, member) in members {
            writer.value(node)
            writer.integer(member.incarnation)
            writer.bool(member.keepsFiles)
            writer.value(member.position)
            writer.integer(member.order)
        }
        writer.integer(UInt32(stores.count))
        for (node, store) in stores {
            writer.value(node)
            writer.integer(store)
        }
        writer.integer(UInt32(absent.count))
        for (node, since) in absent {
            writer.value(node)
            writer.integer(since.nanoseconds)
        }
        writer.integer(controllers)
        writer.integer(nextOrder)
        writer.integer(nextID)
        writer.integer(nextNumber)
        writer.integer(electAt?.nanoseconds ?? 0)
        writer.integer(epoch)
        writer.optional(owner)
        writer.list(inSync)
        for list in [streams.map { ($0.key, $0.value) }, ended.map { ($0.id, $0.stream) }] {
            writer.integer(UInt32(list.count))
            for (id, stream) in list {
                writer.value(id)
                writer.value(stream)
            }
        }
        guard version >= 2 else { return }
        let forms = (Array(streams.map(\.value)) + endedStreams).enumerated().filter { $0.element.attributes.hasForm }
        writer.integer(UInt32(forms.count))
        for (index, stream) in forms {
            writer.integer(UInt32(index))
            writer.value(stream.attributes.form)
        }
    }

    private static func count(_ reader: inout ByteReader, max: Int) throws(DecodeError) -> UInt32 {
        let count = try reader.integer(UInt32.self)
        guard count <= max else { throw .badValue("\(count) entries; at most \(max) expected") }
        return count
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard Self.versions.contains(UInt16(version)) else {
            throw .badValue("registry version \(version); \(Self.versions) expected")
        }
        for _ in 0..<(try Self.count(&reader, max: 65_536)) {
            let node: NodeID = try reader.value()
            members[node] = Member(
                incarnation: try reader.integer(), keepsFiles: try reader.bool(), position: try reader.value(),
                order: try reader.integer())
        }
        for _ in 0..<(try Self.count(&reader, max: 65_536)) {
            let node: NodeID = try reader.value()
            stores[node] = try reader.integer()
        }
        for _ in 0..<(try Self.count(&reader, max: 65_536)) {
            let node: NodeID = try reader.value()
            absent[node] = Instant(nanoseconds: try reader.integer())
        }
        controllers = try reader.integer()
        nextOrder = try reader.integer()
        guard nextOrder < LedgerPosition.max else { throw .badValue("arrival \(nextOrder)") }
        nextID = try reader.integer()
        nextNumber = try reader.integer()
        guard LogStream.created.contains(nextNumber) else { throw .badValue("stream number \(nextNumber)") }
        let due = try reader.integer(UInt64.self)
        electAt = due == 0 ? nil : Instant(nanoseconds: due)
        epoch = try reader.integer()
        guard epoch < LedgerPosition.max else { throw .badValue("epoch \(epoch)") }
        owner = try reader.optional()
        inSync = try reader.list(max: 65_536)
        for _ in 0..<(try Self.count(&reader, max: Self.streamsMax)) {
            let id: StreamID = try reader.value()
            streams[id] = try reader.value()
        }
        for _ in 0..<(try Self.count(&reader, max: Self.endedMax)) {
            endedIDs.append(try reader.value())
            endedStreams.append(try reader.value())
        }
        if version >= 2 { try readForms(&reader) }
    }

    private mutating func readForms(_ reader: inout ByteReader) throws(DecodeError) {
        for _ in 0..<(try Self.count(&reader, max: Self.streamsMax + Self.endedMax)) {
            let index = Int(try reader.integer(UInt32.self))
            if index < streams.count, var stream = streams[streams.keys[index]] {
                try StreamForm.decode(&reader, into: &stream.attributes)
                streams[streams.keys[index]] = stream
            } else {
                let place = index - streams.count
                guard endedStreams.indices.contains(place) else { throw .badValue("form of stream \(index)") }
                try StreamForm.decode(&reader, into: &endedStreams[place].attributes)
            }
        }
    }
}

/// kind u8: 1 arrived · 2 present (nodes) · 3 caughtUp (node, incarnation u64, epoch u64) ·
/// 4 lagging (node, epoch u64) · 5 confirm · 6 tick · 7 open (name, optional attributes, node) · 8 close (id, node) ·
/// 9 setSeverities (id, set) · from version 2 on 10 open (name, attributes, form, node).
extension StreamRegistry.Command: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .arrived(let arrival):
            writer.integer(UInt8(1))
            writer.value(arrival)
        case .present(let nodes):
            writer.integer(UInt8(2))
            writer.list(nodes)
        case .caughtUp(let node, let incarnation, let epoch):
            writer.integer(UInt8(3))
            writer.value(node)
            writer.integer(incarnation)
            writer.integer(epoch)
        case .lagging(let node, let epoch):
            writer.integer(UInt8(4))
            writer.value(node)
            writer.integer(epoch)
        case .confirm: writer.integer(UInt8(5))
        case .tick: writer.integer(UInt8(6))
        case .open(let name, let attributes?, let node) where attributes.hasForm:
            writer.integer(UInt8(10))
            writer.value(name)
            writer.value(attributes)
            writer.value(attributes.form)
            writer.value(node)
        case .open(let name, let attributes, let node):
            writer.integer(UInt8(7))
            writer.value(name)
            writer.optional(attributes)
            writer.value(node)
        case .close(let id, let node):
            writer.integer(UInt8(8))
            writer.value(id)
            writer.value(node)
        case .setSeverities(let id, let severities):
            writer.integer(UInt8(9))
            writer.value(id)
            writer.value(severities)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .arrived(try reader.value())
        case 2: self = .present(try reader.list(max: 65_536))
        case 3:
            self = .caughtUp(try reader.value(), incarnation: try reader.integer(), epoch: try reader.integer())
        case 4: self = .lagging(try reader.value(), epoch: try reader.integer())
        case 5: self = .confirm
        case 6: self = .tick
        case 7: self = .open(try reader.value(), try reader.optional(), by: try reader.value())
        case 8: self = .close(try reader.value(), by: try reader.value())
        case 9: self = .setSeverities(try reader.value(), try reader.value())
        case 10:
            let name: SaName = try reader.value()
            var attributes: StreamAttributes = try reader.value()
            try StreamForm.decode(&reader, into: &attributes)
            self = .open(name, attributes, by: try reader.value())
        default: throw .badValue("registry command \(kind); 1 to 10 expected")
        }
    }
}
