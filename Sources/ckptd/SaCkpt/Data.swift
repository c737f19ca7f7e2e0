import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

/// Where an operation on several elements failed, for the caller who wants to know.
func note(
    _ error: AisError, _ place: Int?, _ count: SaUint32T, _ index: UnsafeMutablePointer<SaUint32T>?,
    _ open: OpenCheckpoint
) {
    let refused = open.client.service.takeRefusedOperation()
    guard let index else { return }
    switch error {
    // Not about an element.
    case .tryAgain, .timeout, .badHandle, .unavailable, .access, .noMemory, .noResources: return
    default: index.pointee = SaUint32T(clamping: min(place ?? refused ?? 0, Int(count) - 1))
    }
}

@c @implementation
public func saCkptCheckpointWrite(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ ioVector: UnsafePointer<SaCkptIOVectorElementT>!,
    _ numberOfElements: SaUint32T, _ erroneousVectorIndex: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let ioVector, numberOfElements > 0 else { throw .invalidParam }
        var place: Int? = 0
        do throws(AisError) {
            if numberOfElements == 1 {
                let element = ioVector.pointee
                let data = try foreignData(element.dataBuffer, element.dataSize)
                _ = try open.checkpoint.updateBlocking(
                    .write, id: element.sectionId.bytes, offset: element.dataOffset, data: data,
                    timeout: InterfaceVersion.usual)
                return
            }
            guard numberOfElements <= CkptProtocolLimits.operationsMax else { throw .noResources }
            var batch = try batch(of: Int(numberOfElements)) {
                ioVector[$0].dataBuffer == nil ? 0 : ioVector[$0].dataSize
            }
            for index in 0..<Int(numberOfElements) {
                place = index
                let element = ioVector[index]
                let data = try foreignData(element.dataBuffer, element.dataSize)
                batch.add(.write, id: try element.sectionId.bytes, offset: element.dataOffset, data: data)
            }
            place = nil
            _ = try open.checkpoint.writeBlocking(batch, timeout: InterfaceVersion.usual)
        } catch {
            note(error, place, numberOfElements, erroneousVectorIndex, open)
            throw error
        }
    }
}

/// A batch with room for `count` operations, so that it is not copied again and again while it grows.
///
/// - Parameter size: of an operation's data; 0 where there is none, for what is wrong is said when it is added.
/// - Throws: `.noResources` more than a request carries; `.noMemory`.
@inline(never)
func batch(of count: Int, _ size: (Int) -> SaSizeT) throws(AisError) -> UpdateBatch {
    let most = CkptProtocolLimits.requestBytesMax
    var bytes = count * SectionOperation.fixedSize
    for index in 0..<count {
        guard size(index) <= SaSizeT(most - bytes) else { throw .noResources }
        bytes += Int(size(index))
    }
    guard ForeignMemory.canAllocate(bytes) else { throw .noMemory }
    return UpdateBatch(reserving: bytes)
}

@c @implementation
public func saCkptCheckpointRead(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ ioVector: UnsafeMutablePointer<SaCkptIOVectorElementT>!,
    _ numberOfElements: SaUint32T, _ erroneousVectorIndex: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let ioVector, numberOfElements > 0 else { throw .invalidParam }
        var place: Int? = 0
        do throws(AisError) {
            if numberOfElements == 1 { return try readOne(ioVector, open) }
            guard numberOfElements <= CkptProtocolLimits.operationsMax else { throw .noResources }
            var ranges: [ReadRange] = []
            ranges.reserveCapacity(Int(numberOfElements))
            for index in 0..<Int(numberOfElements) {
                place = index
                let element = ioVector[index]
                let count = element.dataBuffer == nil ? UInt64.max : element.dataSize
                ranges.append(
                    ReadRange(
                        id: SectionID(Array(try element.sectionId.bytes)), offset: element.dataOffset, count: count))
            }
            place = nil
            try readSeveral(ranges, ioVector, open)
        } catch {
            note(error, place, numberOfElements, erroneousVectorIndex, open)
            throw error
        }
    }
}

/// The usual case: straight from this node's replica to where the caller wants it.
private func readOne(
    _ element: UnsafeMutablePointer<SaCkptIOVectorElementT>, _ open: OpenCheckpoint
) throws(AisError) {
    let id = try element.pointee.sectionId.bytes
    let offset = element.pointee.dataOffset
    if let target = element.pointee.dataBuffer {
        let size = element.pointee.dataSize
        let count = try open.checkpoint.readBlocking(id, at: offset, count: size, timeout: InterfaceVersion.usual) {
            UnsafeMutableRawBufferPointer(start: target, count: $0)
        }
        element.pointee.readSize = SaSizeT(count)
        return
    }
    var made: UnsafeMutableRawPointer?
    do throws(AisError) {
        let count = try open.checkpoint.readBlocking(id, at: offset, count: .max, timeout: InterfaceVersion.usual) {
            ForeignMemory.free(made)
            made = ForeignMemory.allocate($0)
            guard let made else { return nil }
            return UnsafeMutableRawBufferPointer(start: made, count: $0)
        }
        element.pointee.dataBuffer = made
        element.pointee.readSize = SaSizeT(count)
    } catch {
        ForeignMemory.free(made)
        throw error
    }
}

/// Copies what is read to where the caller wants it. Memory is handed out for all elements that want it, or for none.
private func readSeveral(
    _ ranges: [ReadRange], _ elements: UnsafeMutablePointer<SaCkptIOVectorElementT>, _ open: OpenCheckpoint
) throws(AisError) {
    let count = ranges.count
    let draft = ForeignMemory.copy(
        UnsafeRawBufferPointer(start: elements, count: count * MemoryLayout<SaCkptIOVectorElementT>.stride))
    guard let draft else { throw .noMemory }
    defer { ForeignMemory.free(draft) }
    let read = draft.assumingMemoryBound(to: SaCkptIOVectorElementT.self)
    do throws(AisError) {
        try open.checkpoint.readBlocking(ranges, timeout: InterfaceVersion.usual) { index, part in
            if elements[index].dataBuffer == nil {
                ForeignMemory.free(read[index].dataBuffer)
                read[index].dataBuffer = ForeignMemory.allocate(part.count)
            }
            guard let target = read[index].dataBuffer else { return false }
            if let source = part.baseAddress { target.copyMemory(from: source, byteCount: part.count) }
            read[index].readSize = SaSizeT(part.count)
            return true
        }
    } catch {
        for index in 0..<count where elements[index].dataBuffer == nil { ForeignMemory.free(read[index].dataBuffer) }
        throw error
    }
    for index in 0..<count {
        elements[index].dataBuffer = read[index].dataBuffer
        elements[index].readSize = read[index].readSize
    }
}

@c @implementation
public func saCkptIOVectorElementDataFree(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ dataBuffer: UnsafeMutableRawPointer!
) -> SaAisErrorT {
    result { () throws(AisError) in
        _ = try HandleTable.checkpoint(checkpointHandle)
        guard let dataBuffer else { throw .invalidParam }
        ForeignMemory.free(dataBuffer)
    }
}
