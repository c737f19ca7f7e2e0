import ClmProtocol
public import SAFTypes

extension ClusterTable: WireCodable {
    /// 1 was that of a name table alone.
    private static var layout: UInt16 { 2 }

    /// layout u16 · view number u64 · last change u64 · planned? · locked (node ids) · records (ascending) · names. The
    /// limits are not part of the state.
    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.layout)
        writer.integer(viewNumber)
        writer.integer(lastChange)
        writer.optional(planned)
        writer.list(locked)
        writer.list(nodes)
        writer.value(names)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        self.init()
        let layout = try reader.integer(UInt16.self)
        guard layout == Self.layout else { throw .badValue("cluster table layout \(layout); \(Self.layout) expected") }
        viewNumber = try reader.integer()
        lastChange = try reader.integer()
        // Both are counted on.
        guard viewNumber < 1 << 62, lastChange < 1 << 62 else { throw .badValue("view \(viewNumber)") }
        planned = try reader.optional()
        if planned?.awaiting.isEmpty == true { throw .badValue("a planned change that waits for nobody") }
        locked = try reader.list(max: ClusterView.nodesMax)
        for (left, right) in zip(locked, locked.dropFirst()) where left >= right {
            throw .badValue("locked nodes \(left), \(right); ascending expected")
        }
        let list: [NodeRecord] = try reader.list(max: ClusterView.nodesMax)
        var last: NodeID?
        for record in list {
            let id = record.node.nodeID
            if let last, last >= id { throw .badValue("nodes \(last), \(id); ascending expected") }
            guard record.node.initialViewNumber <= viewNumber else {
                throw .badValue("node \(id) in view \(record.node.initialViewNumber) of \(viewNumber)")
            }
            last = id
            records[id] = record
        }
        names = try reader.value()
    }
}

extension ClusterTable.Command: WireCodable {
    /// kind u8 · body.
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .names(let command):
            writer.integer(UInt8(1))
            writer.value(command)
        case .nodeJoined(let record, let floor):
            writer.integer(UInt8(2))
            writer.value(record)
            writer.integer(floor)
        case .nodeLeft(let node, let incarnation):
            writer.integer(UInt8(3))
            writer.value(node)
            writer.integer(incarnation)
        case .administer(let administration):
            writer.integer(UInt8(4))
            writer.value(administration)
        case .stepDone(let node, let change, let step, let isRejected):
            writer.integer(UInt8(5))
            writer.value(node)
            writer.integer(change)
            writer.integer(step.rawValue)
            writer.bool(isRejected)
        case .supervisionOver(let change):
            writer.integer(UInt8(6))
            writer.integer(change)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .names(try reader.value())
        case 2:
            let record: NodeRecord = try reader.value()
            let floor: UInt64 = try reader.integer()
            // Numbers go on above it for as long as clusters live.
            guard floor < 1 << 62 else { throw .badValue("view \(floor)") }
            self = .nodeJoined(record, viewFloor: floor)
        case 3: self = .nodeLeft(try reader.value(), incarnation: try reader.integer())
        case 4: self = .administer(try reader.value())
        case 5:
            self = .stepDone(
                try reader.value(), change: try reader.integer(), try ChangeStep.decode(from: &reader),
                isRejected: try reader.bool())
        case 6: self = .supervisionOver(change: try reader.integer())
        default: throw .badValue("command of kind \(kind); 1 to 6 expected")
        }
    }
}
