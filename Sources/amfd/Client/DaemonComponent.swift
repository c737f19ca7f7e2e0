import AmfProtocol
import EOLoop
import IOC
import OSAL
import SAFTypes

/// Makes a daemon a component of its node: registers it with amfd, takes its assignment, answers health checks, and
/// hands over amfd's request to stop. Loop thread only; never blocks.
///
/// The loop's thread holds the life lock, so it must be the one that lives as long as the process. When amfd dies the
/// component registers again with its next life, with what it holds. A daemon that was started by hand
/// (SA_AMF_COMPONENT_NAME is not set) is no component: then nothing happens.
///
/// Source: SAI-AIS-AMF-B.02.01, saAmfComponentRegister() and the callbacks.
public final class DaemonComponent {
    /// The DN, or nil when this process is no component.
    public let name: SaName?
    /// The HA state of the CSI that was last assigned; nil without an assignment.
    public private(set) var haState: HAState?
    /// Called when amfd assigns a CSI, or removes it (nil); the assignment is answered when it returns.
    public var onAssignment: ((HAState?) -> Void)?
    /// Whether the daemon is well, asked at every health check. The default says yes: that the loop turns is the check.
    public var isHealthy: () -> Bool = { true }
    /// Why amfd does not accept the registration, for the log; nil while it does.
    public private(set) var refusal: String?

    private let core: ComponentCore?
    private let onTerminate: () -> Void
    private var terminateID: InvocationID?

    /// - Parameter onTerminate: amfd wants the daemon to stop; called once, when amfd knows that it will. The daemon
    /// ends
    ///   its work and its process; it is killed when that takes longer than configured (default 20 s).
    public init(loop: Loop, places: Places, onTerminate: @escaping () -> Void) {
        self.onTerminate = onTerminate
        name = Environment.get("SA_AMF_COMPONENT_NAME").flatMap { SaName($0) }
        core = name.map { ComponentCore(loop: loop, places: places, name: $0) }
        core?.onRegistration = { [weak self] error in self?.refusal = error?.description }
        core?.onHealthcheck = { [weak self] id, _ in
            guard let self else { return }
            core?.answer(id, isHealthy() ? nil : .failedOperation)
        }
        core?.addHealthcheck(
            .init(key: MiddlewareModel.healthcheckKey, invocation: .amfInvoked, recovery: .noRecommendation))
        core?.onWork = { [weak self] id, actions in self?.take(id, actions) }
        core?.onAnswered = { [weak self] answer in
            guard let self, answer.invocation == terminateID else { return }
            terminateID = nil
            self.onTerminate()
        }
    }

    /// Whether amfd has accepted the registration and is there.
    public var isRegistered: Bool { core?.isRegistered ?? false }

    /// Tells amfd that this component has failed; it recovers it as asked, or as configured.
    public func reportError(recovery: RecommendedRecovery = .noRecommendation) {
        guard let core else { return }
        core.call(.errorReport(component: core.name, recovery: recovery)) { _ in }  // else it hangs or dies
    }

    /// Hangs up and gives the life lock back: for the orderly end of the daemon.
    public func close() { core?.close() }

    private func take(_ id: InvocationID, _ actions: [Assignment.Action]) {
        for (part, action) in actions.enumerated() {
            switch action {
            case .set(let state, _):
                haState = state
                onAssignment?(state)
            case .remove:
                haState = nil
                onAssignment?(nil)
            case .terminate: terminateID = id
            }
            core?.answer(id, part: part, nil)
            // A daemon's work is what its clients ask: there is nothing to wind up.
            if case .set(.quiescing, let csi) = action { core?.quiescingComplete(csi.name) }
        }
    }
}
