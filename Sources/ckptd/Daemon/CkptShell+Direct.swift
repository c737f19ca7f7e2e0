import CkptEngine
import CkptLayout
import CkptProtocol
import IOC
import OSAL
import SAFTypes

// Sections that their writers write themselves.
extension CkptShell {
    func look(_ id: CheckpointID, _ recalled: [Int], reserves: Bool) {
        var payload: [UInt8] = []
        let (sights, change) = files.look(id, recalling: recalled, reserves: reserves, into: &payload)
        withRecalled(payload) { go(.looked(id, sights, change: change)) }
    }

    /// A writer has written while ckptd was not going to look by itself.
    func written(_ session: ClientSession, _ body: UnsafeRawBufferPointer) {
        var reader = ByteReader(body)
        // What is no handle of this process is nobody's word.
        guard let handle = try? HandleID(rawValue: reader.integer(UInt64.self)),
            let id = engine.written(handle, by: session)
        else { return }
        tellNow(id)
    }

    /// What its writers have done is told before anything else happens, if this node may tell it.
    func tellNow(_ id: CheckpointID) {
        if keeper?.mayTell(id) == false { return tellLater(id) }
        process(.written(id))
    }

    func tell(_ id: CheckpointID, _ recalled: [Int], mayRest: Bool) {
        var payload: [UInt8] = []
        let (sights, isResting) = files.tell(id, recalling: recalled, mayRest: mayRest, into: &payload)
        withRecalled(payload) { go(.telling(id, sights, isResting: isResting)) }
    }

    /// Whose process may have direct files. Where their writers can cut them off, only who could end ckptd anyway.
    func directUser(_ peer: Peer) -> UInt32? {
        let user = peer.info.credentials.uid
        return File.canForbidCutting || [0, Environment.userID].contains(user) ? user : nil
    }
}

extension ProcessIdentity {
    /// Who it is in the locks of direct sections.
    var lockOwner: UInt32 { DirectLock.owner(process: id, start: start) }
}
