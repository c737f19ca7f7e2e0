import EngineKit
import SAFTypes

extension ReplicatedNote: CustomStringConvertible {
    /// For an operator's log: what happened, and what is done about it.
    public var description: String {
        switch self {
        case .formed(let epoch, let index, let synchronised, let members):
            "\(synchronised) of \(members) members have the state (epoch \(epoch), \(index) commands)"
        case .formedWithoutMajority(let epoch, let index):
            """
            going on without a majority that remembers (epoch \(epoch), \(index) commands): commands that were \
            answered before may be missing
            """
        case .snapshotOffered(let index, let bytes):
            "sending the state to new members: \(bytes) bytes, after \(index) commands"
        case .snapshotLoaded(let index, let member):
            "took the state over from node \(member.node), after \(index) commands"
        case .synchronisationRestarted(let attempt):
            "the state does not come; asking another member (attempt \(attempt))"
        case .diverged(let index):
            "this member's state differs from that of most after \(index) commands; it is dropped and fetched anew"
        case .memberDiverged(let member, let index):
            "the state of node \(member.node) differs from that of most after \(index) commands; it drops it"
        case .undecodable(let member, let error):
            "node \(member.node) sent what cannot be understood (\(error)); ignored"
        case .eventNotUnderstood(let index):
            "command \(index) makes no sense to this build; are all nodes of the same version?"
        case .versionNotSpoken(let spoken):
            "the members speak version \(spoken), which this build does not; it stays out until it is upgraded"
        case .groupLost(let reason): "the group's messaging is gone: \(reason)"
        }
    }
}
