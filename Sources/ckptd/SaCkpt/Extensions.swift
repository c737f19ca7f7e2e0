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
            var batch = UpdateBatch()
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
            add(.create, id: id, expiration: change.expirationTime, data: try foreignData(change.data, change.dataSize))
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
        let snapshot = try open.checkpoint.readAllBlocking(timeout: InterfaceVersion.usual)
        sections.pointee = try foreignSections(snapshot.sections)
        numberOfSections.pointee = SaUint32T(snapshot.sections.count)
        if let changeNumber { changeNumber.pointee = snapshot.change }
    }
}

/// One piece of memory for all: the structures, then of each section the data, where anything may lie, and its id.
private func foreignSections(_ sections: [SectionContent]) throws(AisError) -> UnsafeMutablePointer<SafCkptSectionT>? {
    guard !sections.isEmpty else { return nil }
    let head = sections.count * MemoryLayout<SafCkptSectionT>.stride
    var size = head
    for section in sections { size = aligned(size) + section.data.count + section.id.bytes.count }
    guard let memory = ForeignMemory.allocate(size) else { throw .noMemory }
    let structures = memory.bindMemory(to: SafCkptSectionT.self, capacity: sections.count)
    var place = head
    for (index, section) in sections.enumerated() {
        place = aligned(place)
        let data = memory + place
        let id = data + section.data.count
        section.data.withUnsafeBytes {
            if let source = $0.baseAddress { data.copyMemory(from: source, byteCount: $0.count) }
        }
        section.id.bytes.withUnsafeBytes {
            if let source = $0.baseAddress { id.copyMemory(from: source, byteCount: $0.count) }
        }
        structures[index] = SafCkptSectionT(
            descriptor: SaCkptSectionDescriptorT(section.descriptor, id: id), data: section.data.isEmpty ? nil : data)
        place += section.data.count + section.id.bytes.count
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
