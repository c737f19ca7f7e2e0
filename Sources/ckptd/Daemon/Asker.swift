import CkptEngine
import IOC
import IOCLinks
import SAFTypes

/// Who waits for an answer: a process of this node, or the ckptd of another node for one of its own.
enum Asker {
    case client(Request)
    case peer(PeerRequest)

    /// What stands before the client's answer.
    func begin(_ writer: inout ByteWriter) {
        if case .peer = self { writer.integer(ForwardedAnswer.Kind.reply.rawValue) }
    }

    /// Answers with what was begun by ``begin(_:)``.
    func reply(_ bytes: [UInt8]) {
        switch self {
        case .client(let request): bytes.withUnsafeBytes { request.reply($0) }
        case .peer(let request): request.reply(bytes)
        }
    }

    func fail(_ code: AisError, _ text: String) {
        switch self {
        case .client(let request): request.fail(code, text)
        case .peer(let request): request.reply(ForwardedAnswer.refusal(code, text))
        }
    }
}
