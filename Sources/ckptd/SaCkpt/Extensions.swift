import CSAF
import CkptClient
import CkptProtocol
import OSAL
import SAFHandles
import SAFTypes

// safCkpt.h: several sections in one call, whether something exists, differences.

@c @implementation
public func safCkptUpdate(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ changes: UnsafePointer<SafCkptChangeT>!,
    _ numberOfChanges: SaUint32T, _ erroneousIndex: UnsafeMutablePointer<SaUint32T>!,
    _ changeNumber: UnsafeMutablePointer<SaUint64T>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let changes, numberOfChanges > 0 else { throw .invalidParam }
        var place: Int?
        do throws(AisError) {
            guard numberOfChanges <= CkptProtocolLimits.operationsMax else { throw .noResources }
            var batch = try batch(of: Int(numberOfChanges)) { changes[$0].data == nil ? 0 : changes[$0].dataSize }
            for index in 0..<Int(numberOfChanges) {
                place = index
                try batch.add(changes[index])
            }
            place = nil
            let reply = try open.checkpoint.writeBlocking(batch, timeout: InterfaceVersion.usual)
            if let changeNumber { changeNumber.pointee = reply.change }
        } catch {
            note(error, place, numberOfChanges, erroneousIndex, open)
            throw error
        }
    }
}

extension UpdateBatch {
    fileprivate mutating func add(_ change: SafCkptChangeT) throws(AisError) {
        let id = try change.sectionId.bytes
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        switch change.kind {
        case SAF_CKPT_SECTION_CREATED:
            guard !id.isEmpty else { throw .invalidParam }
            add(
                .create, id: id, expiration: change.expirationTime, data: try foreignData(change.data, change.dataSize))
        case SAF_CKPT_SECTION_WRITTEN:
            add(.write, id: id, offset: change.dataOffset, data: try foreignData(change.data, change.dataSize))
        case SAF_CKPT_SECTION_OVERWRITTEN:
            add(.overwrite, id: id, data: try foreignData(change.data, change.dataSize))
        case SAF_CKPT_SECTION_DELETED: add(.delete, id: id, data: none)
        case SAF_CKPT_SECTION_EXPIRATION_SET:
            add(.setExpiration, id: id, expiration: change.expirationTime, data: none)
        default: throw .invalidParam
        }
    }
}

@c @implementation
public func safCkptUpdatesStart(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ callback: SafCkptUpdatesCallbackT!,
    _ cookie: UnsafeMutableRawPointer!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let callback else { throw .invalidParam }
        try open.follow(callback, cookie)
    }
}

@c @implementation
public func safCkptUpdatesStop(_ checkpointHandle: SaCkptCheckpointHandleT) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in try open.endFollowing() }
}

@c @implementation
public func safCkptSectionsGet(
    _ checkpointHandle: SaCkptCheckpointHandleT,
    _ sections: UnsafeMutablePointer<UnsafeMutablePointer<SafCkptSectionT>?>!,
    _ numberOfSections: UnsafeMutablePointer<SaUint32T>!, _ changeNumber: UnsafeMutablePointer<SaUint64T>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let sections, let numberOfSections else { throw .invalidParam }
        var made: (structures: UnsafeMutablePointer<SafCkptSectionT>?, count: Int) = (nil, 0)
        let change: UInt64
        do throws(AisError) {
            change = try open.checkpoint.readAllBlocking(timeout: InterfaceVersion.usual) {
                count, reader throws(DecodeError) in
                made.count = count
                if count == 0 { return true }
                made.structures = try foreignSections(count, &reader)
                return made.structures != nil
            }
        } catch {
            ForeignMemory.free(made.structures)
            throw error
        }
        sections.pointee = made.structures
        numberOfSections.pointee = SaUint32T(made.count)
        if let changeNumber { changeNumber.pointee = change }
    }
}

/// One piece of memory for all: the structures, then of each section the data, where anything may lie, and its id. Nil
/// when there is none.
private func foreignSections(
    _ count: Int, _ reader: inout ByteReader
) throws(DecodeError) -> UnsafeMutablePointer<SafCkptSectionT>? {
    let head = count * MemoryLayout<SafCkptSectionT>.stride
    var size = head
    var ahead = reader
    for _ in 0..<count {
        let (descriptor, data) = try SnapshotReply.section(&ahead)
        size = aligned(size) + data.count + descriptor.id.bytes.count
    }
    guard let memory = ForeignMemory.allocate(size) else {
        reader = ahead
        return nil
    }
    let structures = memory.bindMemory(to: SafCkptSectionT.self, capacity: count)
    var place = head
    for index in 0..<count {
        // The same bytes as before: it does not fail now.
        let (descriptor, bytes) = try SnapshotReply.section(&reader)
        place = aligned(place)
        let data = memory + place
        if let source = bytes.baseAddress { data.copyMemory(from: source, byteCount: bytes.count) }
        let id = data + bytes.count
        descriptor.id.bytes.withUnsafeBytes {
            if let source = $0.baseAddress { id.copyMemory(from: source, byteCount: $0.count) }
        }
        structures[index] = SafCkptSectionT(
            descriptor: SaCkptSectionDescriptorT(descriptor, id: id), data: bytes.isEmpty ? nil : data)
        place += bytes.count + descriptor.id.bytes.count
    }
    return structures
}

private func aligned(_ size: Int) -> Int { (size + 15) & ~15 }

@c @implementation
public func safCkptSectionsFree(_ sections: UnsafeMutablePointer<SafCkptSectionT>!) { ForeignMemory.free(sections) }

@c @implementation
public func safCkptCheckpointCheck(
    _ ckptHandle: SaCkptHandleT, _ checkpointName: UnsafePointer<SaNameT>!
) -> SaAisErrorT {
    withClient(ckptHandle) { client throws(AisError) in
        let name = try Names.read(checkpointName, client.version)
        let attributes = try Checkpoint.attributesBlocking(
            of: name, timeout: InterfaceVersion.usual, in: client.service)
        guard attributes != nil else { throw .notExist }
    }
}

@c @implementation
public func safCkptSectionCheck(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionId: UnsafePointer<SaCkptSectionIdT>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let sectionId else { throw .invalidParam }
        let id = SectionID(Array(try sectionId.pointee.bytes))
        _ = try open.checkpoint.sectionBlocking(id, timeout: InterfaceVersion.usual)
    }
}

@c @implementation
public func safCkptSectionOverwriteDifferential(
    _ checkpointHandle: SaCkptCheckpointHandleT, _ sectionId: UnsafePointer<SaCkptSectionIdT>!,
    _ dataBuffer: UnsafeRawPointer!, _ dataSize: SaSizeT, _ sentSize: UnsafeMutablePointer<SaSizeT>!
) -> SaAisErrorT {
    withCheckpoint(checkpointHandle) { open throws(AisError) in
        guard let sectionId else { throw .invalidParam }
        let section = SectionID(Array(try sectionId.pointee.bytes))
        let data = try foreignData(dataBuffer, dataSize)
        // What is kept, what is to be sent, and the request.
        guard ForeignMemory.canAllocate(3 * data.count) else { throw .noMemory }
        guard let mirror = open.mirror(of: section) else { throw .badHandle }
        let before = mirror.statistics.bytesSent
        do throws(AisError) {
            _ = try mirror.overwriteBlocking(data, timeout: InterfaceVersion.usual)
        } catch {
            if error == .notExist { open.forgetMirror(of: section) }
            throw error
        }
        if let sentSize { sentSize.pointee = mirror.statistics.bytesSent - before }
    }
}
