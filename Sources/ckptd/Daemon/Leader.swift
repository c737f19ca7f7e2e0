import CkptEngine
import OSAL

/// The process that amfd started, of a client: it leads the client's session.
final class Leader {
    let process: ProcessIdentity

    init(of client: ProcessIdentity) {
        guard let session = Process.information(of: Int32(bitPattern: client.id))?.session, session > 0,
            UInt32(session) != client.id, let start = Process.startTime(of: session)
        else {
            process = client
            return
        }
        process = ProcessIdentity(id: UInt32(session), start: start)
    }
}
