import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

extension SaCkptSectionIdT {
    /// The id's bytes; throws where there are said to be some, and there are none.
    var bytes: UnsafeRawBufferPointer {
        get throws(AisError) {
            guard idLen > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
            guard let id else { throw .invalidParam }
            return UnsafeRawBufferPointer(start: id, count: Int(idLen))
        }
    }
}

/// A caller's data; throws where there is said to be some, and there is none, or more than a request carries.
func foreignData(_ data: UnsafeRawPointer?, _ size: SaSizeT) throws(AisError) -> UnsafeRawBufferPointer {
    guard size > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    guard let data, size <= SaSizeT(Int.max) else { throw .invalidParam }
    guard size <= SaSizeT(CkptProtocolLimits.requestBytesMax) else { throw .noResources }
    return UnsafeRawBufferPointer(start: data, count: Int(size))
}

private func sectionBytes(_ id: UnsafePointer<SaCkptSectionIdT>?) throws(AisError) -> UnsafeRawBufferPointer {
    guard let id else { throw .invalidParam }
    return try id.pointee.bytes
}

private var none: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

@c @implementation
public func saCkptSectionCreate(
    _ checkpointHandle: SaCkptCheckpointHandleT,
    _ sectionCreationAttributes: UnsafeMutablePointer<SaCkptSectionCreationAttributesT>!,
    _ initialData: UnsafeRawPointer!, _ initialDataSize: SaSizeT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let attributes = sectionCreationAttributes, let sectionID = attributes.pointee.sectionId else {
            throw .invalidParam
        }
        let id = try sectionID.pointee.bytes
        let data = try foreignData(initialData, initialDataSize)
        let reply = try open.checkpoint.updateBlocking(
            .create, id: id, expiration: attributes.pointee.expirationTime, data: data,
            timeout: InterfaceVersion.usual)
        guard id.isEmpty, let generated = reply.generated.first else { return }
        guard let memory = generated.bytes.withUnsafeBytes({ ForeignMemory.copy($0) }) else { throw .noMemory }
        sectionID.pointee.idLen = UInt16(truncatingIfNeeded: generated.bytes.count)
        sectionID.pointee.id = memory.assumingMemoryBound(to: SaUint8T.self)
    }
}

@c @implementation
public func saCkptSectionIdFree(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ id: UnsafeMutablePointer<SaUint8T>!
) -> SaAisErrorT {
    result { () throws(AisError) in
        _ = try HandleTable.checkpoint(checkpointHandle)
        guard let id else { throw .invalidParam }
        ForeignMemory.free(id)
    }
}

@c @implementation
public func saCkptSectionDelete(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionId: UnsafePointer<SaCkptSectionIdT>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        let id = try sectionBytes(sectionId)
        _ = try open.checkpoint.updateBlocking(.delete, id: id, data: none, timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func saCkptSectionExpirationTimeSet(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionId: UnsafePointer<SaCkptSectionIdT>!,
    _ expirationTime: SaTimeT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        let id = try sectionBytes(sectionId)
        _ = try open.checkpoint.updateBlocking(
            .setExpiration, id: id, expiration: expirationTime, data: none, timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func saCkptSectionOverwrite(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionId: UnsafePointer<SaCkptSectionIdT>!,
    _ dataBuffer: UnsafeRawPointer!, _ dataSize: SaSizeT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        let id = try sectionBytes(sectionId)
        let data = try foreignData(dataBuffer, dataSize)
        _ = try open.checkpoint.updateBlocking(.overwrite, id: id, data: data, timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func saCkptSectionIterationInitialize(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionsChosen: SaCkptSectionsChosenT, _ expirationTime: SaTimeT,
    _ sectionIterationHandle: UnsafeMutablePointer<SaCkptSectionIterationHandleT>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let sectionIterationHandle, let chosen = UInt8(exactly: sectionsChosen.rawValue),
            let chosen = SectionsChosen(rawValue: chosen)
        else { throw .invalidParam }
        let iteration = try Iteration(open, chosen, expirationTime)
        try open.begin(iteration)
        sectionIterationHandle.pointee = iteration.handle
    }
}

@c @implementation
public func saCkptSectionIterationNext(
    _ sectionIterationHandle: SaCkptSectionIterationHandleT,
    _ sectionDescriptor: UnsafeMutablePointer<SaCkptSectionDescriptorT>!
) -> SaAisErrorT {
    result { () throws(AisError) in
        let iteration = try HandleTable.iteration(sectionIterationHandle)
        let open = iteration.open
        guard open.client.isUsable else { throw .unavailable }
        guard let sectionDescriptor else { throw .invalidParam }
        do throws(AisError) {
            sectionDescriptor.pointee = try iteration.next()
        } catch {
            throw open.seen(error)
        }
    }
}

@c @implementation
public func saCkptSectionIterationFinalize(
    _ sectionIterationHandle: SaCkptSectionIterationHandleT
) -> SaAisErrorT {
    result { () throws(AisError) in
        let iteration = try HandleTable.iteration(sectionIterationHandle)
        guard iteration.open.end(iteration) else { throw .badHandle }
    }
}
