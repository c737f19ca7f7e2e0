import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// A command through `Replicated` over the group of one: encoded, ordered, decoded, applied, answered.
enum ReplicatedBenches {
    static func all() throws -> [Comparison] {
        let member = GroupMember(node: NodeID(1), incarnation: 1)
        let replicated = Replicated(core: Counter(), configuration: ReplicatedConfiguration(member: member))
        var node = ReplicatedNode(replicated, over: LoopbackGroup(member: member))
        _ = try node.start("counter", at: .start)
        let (ordered, bare, now) = (kept(node), kept(Counter()), kept(Instant.start))
        return [
            Comparison(
                name: "replicated.command",
                subject: Work("over LoopbackGroup") { count in
                    for ticket in 0..<UInt64(count) {
                        now.pointee = now.pointee + .microseconds(1)
                        keep(ordered.pointee.propose(Counter.Add(amount: 1), ticket: ticket, at: now.pointee).count)
                    }
                },
                peer: Work("engine, and its bytes") { count in
                    for _ in 0..<count {
                        var writer = ByteWriter()
                        writer.value(Counter.Add(amount: 1))
                        keep(bare.pointee.handle(try Counter.Add(decoding: writer.bytes), at: .start)[0].total)
                    }
                })
        ]
    }
}

/// The smallest engine there is.
struct Counter: ReplicatedEngine {
    struct Add: WireCodable, Sendable {
        var amount: UInt64
        init(amount: UInt64) { self.amount = amount }
        func encode(to writer: inout ByteWriter) { writer.integer(amount) }
        init(decoding reader: inout ByteReader) throws(DecodeError) { amount = try reader.integer() }
    }
    typealias Event = Add
    struct Sum: Sendable { var total: UInt64 }
    typealias Effect = Sum
    typealias OnceEffect = NoOnceEffect

    private var total: UInt64 = 0

    init() {}
    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) { total = try reader.integer() }
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { writer.integer(total) }

    mutating func handle(_ event: Add, at now: Instant) -> [Sum] {
        total &+= event.amount
        return [Sum(total: total)]
    }

    static func route(_ effect: Sum) -> EffectRoute<NoOnceEffect> { .answer }
}
