public import CkptProtocol
public import SAFTypes

/// A section with its data.
public typealias Section = SectionContent

/// What one update did to one section.
public enum SectionChange: Hashable, Sendable {
    case created(SectionID, data: [UInt8], expiration: SaTime)
    /// `data` lies at `offset`; bytes between the old end and it are zero.
    case written(SectionID, offset: Int, data: [UInt8])
    /// `data` is the whole section now.
    case overwritten(SectionID, data: [UInt8])
    case deleted(SectionID)
    case expirationSet(SectionID, SaTime)
    /// The service deleted it, for its time was over.
    case expired(SectionID)

    init(_ operation: SectionOperation, _ body: [UInt8]) {
        let data = Array(body[operation.data.offset..<(operation.data.offset + operation.data.count)])
        switch operation.kind {
        case .create: self = .created(operation.id, data: data, expiration: operation.expiration)
        case .write: self = .written(operation.id, offset: Int(clamping: operation.offset), data: data)
        case .overwrite: self = .overwritten(operation.id, data: data)
        case .delete: self = .deleted(operation.id)
        case .setExpiration: self = .expirationSet(operation.id, operation.expiration)
        case .expire: self = .expired(operation.id)
        // No steps of an update: they are not told.
        case .require, .tag: self = .written(operation.id, offset: 0, data: [])
        case .put: self = .overwritten(operation.id, data: data)
        }
    }
}

/// An element of ``Checkpoint/updates``.
public enum CheckpointEvent: Hashable, Sendable {
    /// Everything at this change number: the first element, and again only when updates were missed for good.
    case snapshot(change: UInt64, [Section])
    /// One committed update, all of it; `change` is one more than that of the element before. `time`: nanoseconds since
    /// 1970 UTC.
    case update(change: UInt64, time: SaTime, [SectionChange])

    public var change: UInt64 {
        switch self {
        case .snapshot(let change, _), .update(let change, _, _): change
        }
    }

    /// Applies the event to a copy of the sections' data, as a hot standby keeps one.
    public func apply(to sections: inout [SectionID: [UInt8]]) {
        switch self {
        case .snapshot(_, let all):
            sections = [:]
            for section in all { sections[section.id] = section.data }
        case .update(_, _, let changes):
            for change in changes {
                switch change {
                case .created(let id, let data, _), .overwritten(let id, let data): sections[id] = data
                case .written(let id, let offset, let data):
                    Self.write(data, at: offset, to: &sections[id, default: []])
                case .deleted(let id), .expired(let id): sections[id] = nil
                case .expirationSet: break
                }
            }
        }
    }

    private static func write(_ data: [UInt8], at offset: Int, to section: inout [UInt8]) {
        if data.isEmpty { return }
        let end = offset + data.count
        if section.count < end { section += [UInt8](repeating: 0, count: end - section.count) }
        section.replaceSubrange(offset..<end, with: data)
    }
}
