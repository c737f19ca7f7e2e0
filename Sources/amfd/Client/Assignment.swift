import AmfProtocol
import SAFTypes

/// A component service instance as it is assigned to this component.
public struct AssignedCSI: Hashable, Sendable {
    /// The CSI's DN.
    public let name: SaName
    /// Names and values from the configuration; a name may come several times.
    public let attributes: [CSIAttribute]
    /// With an active assignment: what became of the former active.
    public let transition: TransitionDescriptor
    /// With active: the former active component, if there was one; with standby: the present one.
    public let activeComponent: SaName?
    /// With standby: the lowest takes over first.
    public let standbyRank: UInt32

    init(name: SaName, _ descriptor: CSIDescriptor) {
        self.name = name
        attributes = descriptor.attributes
        transition = descriptor.transition
        activeComponent = descriptor.activeComponent
        standbyRank = descriptor.standbyRank
    }

    /// The first value of an attribute, or nil.
    public subscript(attribute: String) -> String? { attributes.first { $0.name == attribute }?.value }
}

/// Something amfd asks of this component, to be answered by ``complete()`` or ``fail(_:)`` within the configured time
/// (default 20 s): no answer counts as a failure of the component.
///
/// Source: SAI-AIS-AMF-B.02.01, SaAmfCSISetCallbackT, SaAmfCSIRemoveCallbackT, SaAmfComponentTerminateCallbackT.
public struct Assignment: Sendable {
    public enum Action: Hashable, Sendable {
        /// Take this HA state for the CSI. For `.quiescing`: complete when the work is accepted for winding up, and
        /// call ``Component/quiescingComplete(_:)`` when it is done.
        case set(HAState, AssignedCSI)
        /// The CSI is no longer yours.
        case remove(AssignedCSI)
        /// End after completing. A process that has not ended within the configured time is killed.
        case terminate
    }

    public let action: Action
    private let answer: @Sendable (AisError?) -> Void

    init(_ action: Action, answer: @escaping @Sendable (AisError?) -> Void) {
        self.action = action
        self.answer = answer
    }

    /// The component is in the asked state. Later answers to the same assignment do nothing.
    public func complete() { answer(nil) }

    /// The component cannot do it; amfd recovers it as configured.
    public func fail(_ error: AisError = .failedOperation) { answer(error) }
}
