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
            var batch = UpdateBatch(reserving: roomNeeded(ioVector, Int(numberOfElements)))
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

/// Bytes of a batch that writes these, so that it is not copied again and again while it grows.
private func roomNeeded(_ elements: UnsafePointer<SaCkptIOVectorElementT>, _ count: Int) -> Int {
    let most = 64 << 20  // what a request carries
    var bytes = 0
    for index in 0..<count {
        // What is wrong with an element is said when it is added.
        let size = Int(clamping: elements[index].dataSize)
        bytes += min(size, most - bytes) + SectionOperation.fixedSize
        bytes += Int(elements[index].sectionId.idLen)
        if bytes >= most { return most }
    }
    return bytes
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
            let reply = try open.checkpoint.readBlocking(ranges, timeout: InterfaceVersion.usual)
            try hand(reply, to: ioVector, Int(numberOfElements))
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

/// Copies what was read to where the caller wants it; all or nothing.
private func hand(
    _ reply: ReadReply, to elements: UnsafeMutablePointer<SaCkptIOVectorElementT>, _ count: Int
) throws(AisError) {
    guard reply.parts.count == count else { throw .library }
    var made: [(index: Int, memory: UnsafeMutableRawPointer)] = []
    for index in 0..<count where elements[index].dataBuffer == nil {
        guard let memory = ForeignMemory.allocate(reply.parts[index].count) else {
            for entry in made { ForeignMemory.free(entry.memory) }
            throw .noMemory
        }
        made.append((index, memory))
    }
    for entry in made { elements[entry.index].dataBuffer = entry.memory }
    for index in 0..<count {
        reply.parts[index].withUnsafeBytes { bytes in
            if let source = bytes.baseAddress, !bytes.isEmpty {
                elements[index].dataBuffer?.copyMemory(from: source, byteCount: bytes.count)
            }
            elements[index].readSize = SaSizeT(bytes.count)
        }
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
