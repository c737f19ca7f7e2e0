public import CkptProtocol
import Containers
public import SAFTypes

/// Persistent checkpoints that are no more. A node that was away meanwhile has them on its disk, and would bring them
/// back when the directory has begun anew since.
///
/// The last ``countMax`` are remembered, in the order in which they went; the oldest makes way.
public struct Graveyard: Sendable {
    public static let countMax = 16_384

    /// By number, ascending as they went.
    private var numbered = OrderedMap<UInt64, CheckpointID>()
    private var numbers = OrderedMap<CheckpointID, UInt64>()

    public init() {}

    /// - Parameter numbered: as ``number(of:)`` said of them.
    public init(_ numbered: [(number: UInt64, id: CheckpointID)]) {
        for (number, id) in numbered.sorted(by: { ($0.number, $0.id) < ($1.number, $1.id) }) {
            insert(id, atLeast: number)
        }
    }

    public var ids: [CheckpointID] { numbered.values }
    public var count: Int { numbers.count }
    public func contains(_ id: CheckpointID) -> Bool { numbers.contains(id) }
    /// Grows from each to the next.
    public func number(of id: CheckpointID) -> UInt64? { numbers[id] }

    /// - Returns: who made way for it.
    @discardableResult
    public mutating func insert(_ id: CheckpointID) -> CheckpointID? { insert(id, atLeast: 1) }

    public mutating func remove(_ id: CheckpointID) {
        if let number = numbers.removeValue(forKey: id) { numbered.removeValue(forKey: number) }
    }

    @discardableResult
    private mutating func insert(_ id: CheckpointID, atLeast least: UInt64) -> CheckpointID? {
        guard !numbers.contains(id) else { return nil }
        let number = max(least, (numbered.last?.key ?? 0) &+ 1)
        numbered[number] = id
        numbers[id] = number
        guard numbers.count > Self.countMax, let (_, oldest) = numbered.popFirst() else { return nil }
        numbers.removeValue(forKey: oldest)
        return oldest
    }
}

/// count u32 · checkpoints u64, as they went.
extension Graveyard: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32(numbers.count))
        for (_, id) in numbered { writer.integer(id.rawValue) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let count = Int(try reader.integer(UInt32.self))
        guard count <= Self.countMax else { throw .badValue("\(count) checkpoints that are no more") }
        for _ in 0..<count { insert(CheckpointID(rawValue: try reader.integer())) }
    }
}
