import EOReplicated
import SAFTypes

/// What amfds say to each other about leases: the own probe, and answers to those of others; what is to be said at one
/// moment goes in one message. probe? · answers (count u32 · node u32 that it is for · answer).
struct LeaseMessage: Hashable, Sendable {
    var probe: LeaseProbe?
    var answers: [Answer] = []

    struct Answer: Hashable, Sendable {
        var node: NodeID
        var answer: LeaseAnswer
    }

    var isEmpty: Bool { probe == nil && answers.isEmpty }
}

extension LeaseMessage: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.optional(probe)
        writer.list(answers)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        probe = try reader.optional()
        answers = try reader.list(max: Self.answersMax)
    }

    private static let answersMax = 4_096
}

extension LeaseMessage.Answer: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.value(answer)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        answer = try reader.value()
    }
}
