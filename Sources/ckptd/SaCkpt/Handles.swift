import SAFHandles
import SAFTypes

/// The kinds of handles.
enum HandleKind: UInt64 {
    case client = 1
    case checkpoint
    case iteration
}

extension HandleTable {
    // The kind was compared, so each cast is to what the object is.
    static func client(_ handle: UInt64) throws(AisError) -> Client {
        unsafeDowncast(try find(handle, kind: HandleKind.client.rawValue), to: Client.self)
    }

    static func checkpoint(_ handle: UInt64) throws(AisError) -> OpenCheckpoint {
        unsafeDowncast(try find(handle, kind: HandleKind.checkpoint.rawValue), to: OpenCheckpoint.self)
    }

    static func iteration(_ handle: UInt64) throws(AisError) -> Iteration {
        unsafeDowncast(try find(handle, kind: HandleKind.iteration.rawValue), to: Iteration.self)
    }
}
