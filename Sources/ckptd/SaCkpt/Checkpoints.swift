import CSAF
import CkptClient
import CkptProtocol
import SAFHandles
import SAFTypes

extension CreationAttributes {
    init(_ attributes: SaCkptCheckpointCreationAttributesT) {
        self.init(
            flags: CreationFlags(rawValue: attributes.creationFlags), checkpointSize: attributes.checkpointSize,
            retentionDuration: attributes.retentionDuration, sectionsMax: attributes.maxSections,
            sectionSizeMax: attributes.maxSectionSize, sectionIDSizeMax: attributes.maxSectionIdSize)
    }
}

extension SaCkptCheckpointCreationAttributesT {
    init(_ attributes: CreationAttributes) {
        self.init(
            creationFlags: attributes.flags.rawValue, checkpointSize: attributes.checkpointSize,
            retentionDuration: attributes.retentionDuration, maxSections: attributes.sectionsMax,
            maxSectionSize: attributes.sectionSizeMax, maxSectionIdSize: attributes.sectionIDSizeMax)
    }
}

/// What both ways to open a checkpoint check and want.
private struct OpenArguments {
    let name: SaName
    let flags: OpenFlags
    let attributes: CreationAttributes?

    init(
        _ name: UnsafePointer<SaNameT>?, _ attributes: UnsafePointer<SaCkptCheckpointCreationAttributesT>?,
        _ flags: SaCkptCheckpointOpenFlagsT, _ client: Client
    ) throws(AisError) {
        self.name = try Names.read(name, client.version)
        self.flags = OpenFlags(rawValue: flags)
        guard self.flags.isValid else { throw .badFlags }
        guard self.flags.contains(.create) == (attributes != nil) else { throw .invalidParam }
        self.attributes = attributes.map { CreationAttributes($0.pointee) }
        // The service says so, too; here it is said at once, also by the function that does not wait.
        if let attributes = self.attributes, !attributes.isConsistent { throw .invalidParam }
    }
}

extension CreationAttributes {
    fileprivate var isConsistent: Bool {
        let (product, isLarger) = UInt64(sectionsMax).multipliedReportingOverflow(by: sectionSizeMax)
        return flags.isValid && retentionDuration >= 0 && (isLarger || checkpointSize <= product)
    }
}

@c @implementation
public func saCkptCheckpointOpen(
    _ ckptHandle: SaCkptHandleT, _ checkpointName: UnsafePointer<SaNameT>!,
    _ checkpointCreationAttributes: UnsafePointer<SaCkptCheckpointCreationAttributesT>!,
    _ checkpointOpenFlags: SaCkptCheckpointOpenFlagsT, _ timeout: SaTimeT,
    _ checkpointHandle: UnsafeMutablePointer<SaCkptCheckpointHandleT>!
) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in
        guard let checkpointHandle else { throw .invalidParam }
        let arguments = try OpenArguments(checkpointName, checkpointCreationAttributes, checkpointOpenFlags, client)
        let checkpoint = try Checkpoint.openBlocking(
            arguments.name, arguments.flags, creating: arguments.attributes, timeout: client.version.timeout(timeout),
            in: client.service)
        checkpointHandle.pointee = try client.adopt(checkpoint).handle
    }
}

@c @implementation
public func saCkptCheckpointOpenAsync(
    _ ckptHandle: SaCkptHandleT, _ invocation: SaInvocationT, _ checkpointName: UnsafePointer<SaNameT>!,
    _ checkpointCreationAttributes: UnsafePointer<SaCkptCheckpointCreationAttributesT>!,
    _ checkpointOpenFlags: SaCkptCheckpointOpenFlagsT
) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in
        let arguments = try OpenArguments(checkpointName, checkpointCreationAttributes, checkpointOpenFlags, client)
        guard client.callbacks.open != nil else { throw .initialization }
        Checkpoint.openSoon(
            arguments.name, arguments.flags, creating: arguments.attributes, timeout: InterfaceVersion.usual,
            in: client.service
        ) { outcome in
            switch outcome {
            case .success(let checkpoint): client.add(.opened(invocation, checkpoint, .library))
            case .failure(let error): client.add(.opened(invocation, nil, error))
            }
        }
    }
}

@c @implementation
public func saCkptCheckpointClose(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    do throws(AisError) {
        let open = try HandleTable.checkpoint(checkpointHandle)
        guard open.drop() else { return SA_AIS_ERR_BAD_HANDLE }
        // It is closed here in any case, and so for the caller. The service may have given us up before; or it is
        // away, and closes it when it is back.
        try? open.checkpoint.closeBlocking(timeout: open.client.isUsable ? InterfaceVersion.usual : .zero)
        return SA_AIS_OK
    } catch {
        return SaAisErrorT(rawValue: error.rawValue)
    }
}

@c @implementation
public func saCkptCheckpointUnlink(
    _ ckptHandle: SaCkptHandleT, _ checkpointName: UnsafePointer<SaNameT>!
) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in
        let name = try Names.read(checkpointName, client.version)
        try Checkpoint.unlinkBlocking(name, timeout: InterfaceVersion.usual, in: client.service)
    }
}

@c @implementation
public func saCkptCheckpointRetentionDurationSet(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ retentionDuration: SaTimeT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard retentionDuration >= 0 else { throw .invalidParam }
        try open.checkpoint.setRetentionDurationBlocking(retentionDuration, timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func saCkptActiveReplicaSet(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        try open.checkpoint.setActiveReplicaBlocking(timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func saCkptCheckpointStatusGet(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ checkpointStatus: UnsafeMutablePointer<SaCkptCheckpointDescriptorT>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let checkpointStatus else { throw .invalidParam }
        let status = try open.checkpoint.statusBlocking(timeout: InterfaceVersion.usual)
        checkpointStatus.pointee = SaCkptCheckpointDescriptorT(
            checkpointCreationAttributes: SaCkptCheckpointCreationAttributesT(status.attributes),
            numberOfSections: status.sectionCount, memoryUsed: status.memoryUsed)
    }
}

@c @implementation
public func saCkptCheckpointSynchronize(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ timeout: SaTimeT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        try open.checkpoint.synchronizeBlocking(timeout: open.client.version.timeout(timeout))
    }
}

@c @implementation
public func saCkptCheckpointSynchronizeAsync(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ invocation: SaInvocationT
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        let client = open.client
        guard client.callbacks.synchronize != nil else { throw .initialization }
        try open.checkpoint.synchronizeSoon(timeout: InterfaceVersion.usual) { error in
            client.add(.synchronized(invocation, error))
        }
    }
}

@c @implementation
public func saCkptCheckpointTrack(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard open.client.callbacks.track != nil else { throw .initialization }
        guard open.checkpoint.mayRead else { throw .access }
        open.track(asAll: false)
    }
}

@c @implementation
public func saCkptCheckpointTrackStop(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard open.endTracking(asAll: false) else { throw .notExist }
    }
}
