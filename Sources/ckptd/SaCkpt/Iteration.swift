import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

/// One walk through a checkpoint's sections. Thread-safe; the memory of a section's id is good until the next step.
final class Iteration: HandleObject, @unchecked Sendable {
    let open: OpenCheckpoint
    private let state: Lock<State>

    private struct State {
        var walk: SectionIteration
        var id: UnsafeMutableRawPointer?
    }

    init(_ open: OpenCheckpoint, _ chosen: SectionsChosen, _ time: SaTime) throws(AisError) {
        self.open = open
        let walk = try SectionIteration(open.checkpoint, chosen, time, timeout: InterfaceVersion.usual)
        state = Lock(State(walk: walk))
        super.init(kind: HandleKind.iteration.rawValue)
    }

    deinit { state.withLock { ForeignMemory.free($0.id) } }

    /// Throws `.noSections` at the end.
    func next() throws(AisError) -> SaCkptSectionDescriptorT {
        try state.withLock { state throws(AisError) in
            guard let section = try state.walk.next(timeout: InterfaceVersion.usual) else { throw .noSections }
            let id = section.id.bytes.withUnsafeBytes { ForeignMemory.copy($0) }
            guard let id else { throw .noMemory }
            ForeignMemory.free(state.id)
            state.id = id
            return SaCkptSectionDescriptorT(section, id: id)
        }
    }
}

extension SaCkptSectionDescriptorT {
    init(_ section: SectionDescriptor, id: UnsafeMutableRawPointer?) {
        let count = section.id.bytes.count
        let bytes = count == 0 ? nil : id?.assumingMemoryBound(to: SaUint8T.self)
        self.init(
            sectionId: SaCkptSectionIdT(idLen: UInt16(truncatingIfNeeded: count), id: bytes),
            expirationTime: section.expiration, sectionSize: section.size,
            sectionState: SaCkptSectionStateT(rawValue: UInt32(section.state.rawValue)),
            lastUpdate: section.lastUpdate)
    }
}
