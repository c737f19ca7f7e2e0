import AmfEngine
import AmfProtocol
import LogClient
import SAFTypes

/// What the shell itself wants an operator to read.
enum ShellNote: Hashable, Sendable {
    case cannotAdopt(SaName, pid: Int32, reason: String)
    case endedStray(pid: Int32)
    case noLifeLock(SaName, reason: String)
    case lifeLockUnreliable(SaName, pid: Int32)
    case cannotKill(SaName, pid: Int32, reason: String)
    case journalDamaged(String)
    case journalFull(String)
    case proposalRefused(String)
    case proposalLost(String)
    case forecastWrong(SaName)
    case childrenDamaged(slots: Int)
    case noteFailed(String)
    case modelBad(String)
    case modelWarnings(String)
    case descriptionChanged
    case modelLoaded(components: Int)
    case modelDiffers
    case adoptedComponents(Int)
    case administered(AdminOperation, SaName, user: UInt32, pid: Int32)
    /// How that ended; nil: done.
    case administrationEnded(AdminOperation, SaName, refusal: String?)
    case predecessorDied(pid: Int32)
    case started(SaName, pid: Int32)
    case guardDied(pid: Int32)
    case guardStarted(pid: Int32)
    case guardFailed(String)
    case stopping(String)
    case stopLate(left: Int)
    case refusedPeer(pid: Int32, reason: String)
    case pushDropped(SaName)
    case leasePageFull
    case assignmentPageFull
    case links(String)
    case suspended(Int)
    case resumed(Int)
    case separated(Int)
    case missed(String, isConnected: Bool)
    case givenUp(String)
    case left(String)
    case fencing(String)
    case fenced(String)
    case notFenced(String, reason: String)
}

enum NoteLevel: Sendable { case error, warning, notice, info }

extension ShellNote {
    var level: NoteLevel {
        switch self {
        case .cannotAdopt, .cannotKill, .journalDamaged, .journalFull, .proposalLost, .forecastWrong, .childrenDamaged,
            .modelBad, .guardFailed, .leasePageFull, .assignmentPageFull, .notFenced:
            .error
        case .endedStray, .noLifeLock, .lifeLockUnreliable, .guardDied, .proposalRefused, .noteFailed, .modelWarnings,
            .descriptionChanged, .modelDiffers, .stopLate, .refusedPeer, .pushDropped, .predecessorDied, .suspended,
            .separated, .missed,
            .links:
            .warning
        case .administrationEnded(_, _, let refusal): refusal == nil ? .notice : .warning
        case .modelLoaded, .adoptedComponents, .administered, .started, .guardStarted, .stopping, .resumed, .givenUp,
            .left, .fencing, .fenced:
            .notice
        }
    }

    var text: String {
        switch self {
        case .cannotAdopt(let name, let pid, let reason): "\(name): cannot adopt its process \(pid): \(reason)"
        case .endedStray(let pid): "killed process \(pid), left over from a component that has ended"
        case .noLifeLock(let name, let reason):
            "\(name): no life lock (\(reason)); its death is noticed by pidfd, later"
        case .lifeLockUnreliable(let name, let pid):
            "\(name): process \(pid) gave up its life lock without ending; its death is noticed by pidfd, later"
        case .cannotKill(let name, let pid, let reason): "\(name): cannot kill process group \(pid): \(reason)"
        case .journalDamaged(let reason):
            "the state of an earlier amfd cannot be used (\(reason)); starting from the model"
        case .journalFull(let reason):
            "the state cannot be kept: \(reason); SAF_SHM_DIR needs free space, until then a death of amfd loses state"
        case .proposalRefused(let reason): "a command was refused (\(reason)); it is tried again"
        case .proposalLost(let event): "a command is lost, too many wait: \(event)"
        case .forecastWrong(let name): "\(name) was made active by mistake, and is ended: please report this"
        case .childrenDamaged(let slots): "\(slots) damaged records in the children table were dropped"
        case .noteFailed(let text): text
        case .modelBad(let text): "the application model is not used: \(text)"
        case .modelWarnings(let text):
            "the application model is used, but this node lacks what is named here: a component cannot start here"
                + " before it is there (after a failed start: 'saf admin repaired' of its unit), or the model says"
                + " otherwise (SIGHUP to amfd). \(text)"
        case .descriptionChanged:
            "cluster.yaml has changed in more than which nodes there are: that takes effect when the node is started"
                + " anew"
        case .modelDiffers:
            "the model of this node's files is not the one that the cluster runs; SIGHUP to amfd here brings it in"
        case .modelLoaded(let components): "the model is loaded: \(components) components"
        case .adoptedComponents(let count): "adopted \(count) living components of an earlier amfd"
        case .administered(let operation, let name, let user, let pid):
            "\(operation) of \(name), asked by user \(user), process \(pid)"
        case .administrationEnded(let operation, let name, let refusal):
            "\(operation) of \(name): " + (refusal.map { "not done: \($0)" } ?? "done")
        case .predecessorDied(let pid):
            "the amfd before this one, process \(pid), ended without being told to; going on from what it left"
        case .started(let name, let pid): "\(name): started, process \(pid)"
        case .guardDied(let pid): "the guard (pid \(pid)) died; starting a new one"
        case .guardStarted(let pid): "guarded by pid \(pid)"
        case .guardFailed(let reason): "cannot start a guard: \(reason); trying again"
        case .stopping(let cause): "stopping this node: \(cause)"
        case .stopLate(let left): "the stop took too long; killing \(left) processes"
        case .refusedPeer(let pid, let reason): "refused process \(pid): \(reason)"
        case .pushDropped(let name): "\(name): does not take its callbacks; one was dropped"
        case .leasePageFull:
            "more than \(LeasePage.entriesMax) active components: the guard cannot stop all when the lease ends"
        case .assignmentPageFull:
            "more assignments than the page for ckptd holds: a late write for some of them is not refused"
        case .links(let text): text
        case .suspended(let count):
            "this node does not hear a majority: its active components (\(count)) are stopped"
        case .resumed(let count): "this node holds its lease: its active components (\(count)) go on"
        case .separated(let count):
            "the cluster went on without this node, or it was away too long: killed its active components (\(count))"
        case .missed(let node, let isConnected):
            isConnected
                ? "amfd of node \(node) is gone; its components are left alone while it may come back"
                : "node \(node) is gone"
        case .givenUp(let node): "node \(node) is given up: what it ran moves"
        case .left(let node): "node \(node) has stopped in order"
        case .fencing(let node): "fencing node \(node)"
        case .fenced(let node): "node \(node) is fenced"
        case .notFenced(let node, let reason): "node \(node) is not fenced, what it ran does not move: \(reason)"
        }
    }
}
