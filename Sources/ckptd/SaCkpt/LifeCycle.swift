import CSAF
import CkptClient
import SAFHandles
import SAFTypes

/// Runs the body of a function of the interface; the only place where errors become codes.
@inline(__always)
func result(_ body: () throws(AisError) -> Void) -> SaAisErrorT {
    do throws(AisError) {
        try body()
        return SA_AIS_OK
    } catch {
        return SaAisErrorT(rawValue: error.rawValue)
    }
}

/// The same for a handle of saCkptInitialize().
@inline(__always)
func withClient(_ handle: SaCkptHandleT, _ body: (Client) throws(AisError) -> Void) -> SaAisErrorT {
    result { () throws(AisError) in
        let client = try Client.usable(handle)
        do throws(AisError) { try body(client) } catch { throw client.seen(error) }
    }
}

/// The same for an open checkpoint.
@inline(__always)
func withCheckpoint(
    _ handle: SaCkptCheckpointHandleT, _ body: (OpenCheckpoint) throws(AisError) -> Void
) -> SaAisErrorT {
    result { () throws(AisError) in
        let open = try OpenCheckpoint.usable(handle)
        do throws(AisError) { try body(open) } catch { throw open.seen(error) }
    }
}

private func initialize(
    _ handle: UnsafeMutablePointer<SaCkptHandleT>?, _ callbacks: Callbacks,
    _ version: UnsafeMutablePointer<SaVersionT>?,
    isOpenSAF: Bool = false
) -> SaAisErrorT {
    result { () throws(AisError) in
        guard let handle, let version else { throw .invalidParam }
        let negotiated = try InterfaceVersion.negotiated(&version.pointee)
        if isOpenSAF, negotiated != .b02 { throw .version }
        let client = Client(negotiated, callbacks)
        guard client.service.prepare() else { throw .noResources }
        try HandleTable.shared.add(client)
        handle.pointee = client.handle
    }
}

@c @implementation
public func saCkptInitialize(
    _ ckptHandle: UnsafeMutablePointer<SaCkptHandleT>!, _ ckptCallbacks: UnsafePointer<SaCkptCallbacksT>!,
    _ version: UnsafeMutablePointer<SaVersionT>!
) -> SaAisErrorT {
    var callbacks = Callbacks()
    if let given = ckptCallbacks {
        callbacks.open = given.pointee.saCkptCheckpointOpenCallback
        callbacks.synchronize = given.pointee.saCkptCheckpointSynchronizeCallback
    }
    return initialize(ckptHandle, callbacks, version)
}

@c @implementation
public func saCkptInitialize_2(
    _ ckptHandle: UnsafeMutablePointer<SaCkptHandleT>!, _ ckptCallbacks: UnsafePointer<SaCkptCallbacksT_2>!,
    _ version: UnsafeMutablePointer<SaVersionT>!
) -> SaAisErrorT {
    var callbacks = Callbacks()
    if let given = ckptCallbacks {
        callbacks.open = given.pointee.saCkptCheckpointOpenCallback
        callbacks.synchronize = given.pointee.saCkptCheckpointSynchronizeCallback
        callbacks.track = given.pointee.saCkptCheckpointTrackCallback
    }
    return initialize(ckptHandle, callbacks, version, isOpenSAF: true)
}

@c @implementation
public func saCkptSelectionObjectGet(
    _ ckptHandle: SaCkptHandleT, _ selectionObject: UnsafeMutablePointer<SaSelectionObjectT>!
) -> SaAisErrorT {
    guard let selectionObject else { return SA_AIS_ERR_INVALID_PARAM }
    return withClient(ckptHandle) { client throws(AisError) in
        let descriptor = client.service.descriptor
        guard descriptor >= 0 else { throw .noResources }
        selectionObject.pointee = SaSelectionObjectT(descriptor)
    }
}

@c @implementation
public func saCkptDispatch(_ ckptHandle: SaCkptHandleT, _ dispatchFlags: SaDispatchFlagsT) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in try client.dispatch(dispatchFlags) }
}

@c @implementation
public func saCkptFinalize(_ ckptHandle: SaCkptHandleT) -> SaAisErrorT {
    result { () throws(AisError) in
        guard try HandleTable.client(ckptHandle).end() else { throw .badHandle }
    }
}

@c @implementation
public func saCkptTrack(_ ckptHandle: SaCkptHandleT) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in try client.track() }
}

@c @implementation
public func saCkptTrackStop(_ ckptHandle: SaCkptHandleT) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in try client.endTracking() }
}
