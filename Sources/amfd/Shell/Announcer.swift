import AmfEngine
import AmfProtocol
import EOLoop
import EOReplicated
import EventClient
import EventProtocol
import LogClient
import OSAL
import SAFTypes

/// Tells people: notes to the log, state changes to the event channel. Never blocks; what does not fit is dropped.
final class Announcer {
    private let publisher: LoopEventPublisher
    private let log = Log.startDaemon("amfd").with(area: "AMF")

    /// So that an operator who comes later sees what happened; eventd keeps the last hundred.
    private static let retention: Duration = .seconds(3_600)

    init(loop: Loop, places: Places) {
        publisher = LoopEventPublisher(loop: loop, channel: AmfNotification.channelName, places: places)
    }

    func tell(_ note: ShellNote) { write(note.level, note.text) }

    func tell(_ note: NodeNote) { write(note.level, note.text) }

    func tell(_ note: ReplicatedNote) {
        switch note {
        case .formed, .snapshotOffered, .snapshotLoaded: write(.info, "\(note)")
        case .formedWithoutMajority, .synchronisationRestarted, .undecodable: write(.warning, "\(note)")
        case .diverged, .memberDiverged, .eventNotUnderstood, .versionNotSpoken, .groupLost: write(.error, "\(note)")
        }
    }

    /// The pattern of an event is the attribute's number, then the entity's DN, so that both can be filtered for.
    func publish(_ notifications: [AmfNotification]) {
        for var notification in notifications {
            notification.time = MonotonicClock.wallNanoseconds()
            record(notification)
            let patterns = [[notification.attribute.rawValue], notification.dn.bytes]
            publisher.publish(
                EventMessage(patterns: patterns, data: notification.encoded, retention: Self.retention.nanoseconds))
        }
    }

    /// What an operator would write in the diary.
    private func record(_ notification: AmfNotification) {
        switch notification.attribute {
        case .escalation: write(.error, "\(notification.dn): \(notification.text)")
        case .ha: recordAssignment(notification)
        case .assignment where notification.new == AssignmentState.unassigned.rawValue:
            write(.warning, "\(notification.dn): nobody is active for it")
        case .membership:
            write(notification.newText == "joined" ? .notice : .warning, "\(notification.dn): \(notification.newText)")
        case .operational where !notification.dn.description.hasPrefix("safComp="):
            write(
                notification.newText == "disabled" ? .warning : .notice, "\(notification.dn): \(notification.newText)")
        case .readiness, .presence, .operational, .admin, .assignment, .error: break
        }
    }

    /// Who carries the work, who stands by; what lies between is over in a moment.
    private func recordAssignment(_ notification: AmfNotification) {
        guard let assignee = notification.assignee, let state = HAState(rawValue: notification.new),
            state == .active || state == .standby
        else { return }
        let was = notification.oldText.isEmpty ? "" : " (was \(notification.oldText))"
        write(.notice, "\(assignee): \(state.word) for \(notification.dn)\(was)")
    }

    func close() { publisher.close() }

    private func write(_ level: NoteLevel, _ text: String) {
        switch level {
        case .error:
            log.error(text)
            // Whoever started us by hand or by systemd sees what is wrong without looking for the log.
            if !log.writer.options.echoes { Say.error("amfd: \(text)") }
        case .warning: log.warning(text)
        case .notice: log.notice(text)
        case .info: log.info(text)
        }
    }
}

extension NodeNote {
    var level: NoteLevel {
        switch self {
        case .spawnFailed, .instantiationFailed, .terminationFailed, .notAdopted: .error
        case .instantiateTimeout, .exitedEarly, .failed, .lateAnswer, .refusedRegistration: .warning
        case .ended: .notice
        case .adopted: .info
        }
    }

    var text: String {
        switch self {
        case .spawnFailed(let name, let reason): "\(name): cannot be started: \(reason)"
        case .instantiateTimeout(let name, let attempt):
            "\(name): did not register in time after its start (attempt \(attempt)); see its timeouts.instantiate"
        case .exitedEarly(let name, let reason): "\(name): ended before it registered: \(reason)"
        case .failed(let name, let cause, let recovery): "\(name): failed: \(cause.words); recovery \(recovery.word)"
        case .ended(let name, let pid, let reason): "\(name): process \(pid): \(reason)"
        case .lateAnswer(let name, let invocation): "\(name): answered \(invocation), which nobody waits for"
        case .adopted(let name, let pid): "\(name): adopted, process \(pid)"
        case .notAdopted(let name, let pid): "\(name): process \(pid) could not be adopted and is ended"
        case .instantiationFailed(let name, let reason): "\(name): instantiation failed: \(reason)"
        case .terminationFailed(let name, let reason): "\(name): termination failed: \(reason)"
        case .refusedRegistration(let name, let pid, let reason): "\(name): refused process \(pid): \(reason)"
        }
    }
}

extension FailureCause {
    var words: String {
        switch self {
        case .died: "its process died"
        case .errorReport: "an error was reported"
        case .registerTimeout: "it did not register in time"
        case .csiSetTimeout: "it did not answer a CSISet in time"
        case .csiSetRefused: "it refused a CSISet"
        case .csiRemoveTimeout: "it did not answer a CSIRemove in time"
        case .csiRemoveRefused: "it refused a CSIRemove"
        case .quiescingTimeout: "it did not complete quiescing in time"
        case .quiescingRefused: "it refused to quiesce"
        case .healthcheckTimeout: "it did not answer a health check in time"
        case .healthcheckRefused: "it answered a health check with a failure"
        case .healthcheckMissed: "it did not confirm its health in time"
        case .unregistered: "it unregistered"
        case .adoptionTimeout: "it did not register again with a new amfd"
        case .connectionLost: "it hung up and did not come back"
        case .spawnFailed: "it could not be started"
        case .exited: "its process ended"
        }
    }
}
