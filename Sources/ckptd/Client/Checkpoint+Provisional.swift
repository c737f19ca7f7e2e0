#if SAF_LIBRARY
    public import CkptProtocol
    public import SAFTypes
    extension Checkpoint {
        public func setRetentionDurationBlocking(_ duration: SaTime, timeout: Duration) throws(AisError) {
            try perform(.setRetention, timeout, { CkptRequest.setRetention($0, duration).encode(to: &$1) }) { _ in }
        }
        public func setActiveReplicaBlocking(timeout: Duration) throws(AisError) {
            try perform(.setActiveReplica, timeout, { CkptRequest.setActiveReplica($0).encode(to: &$1) }) { _ in }
        }
        public func synchronizeBlocking(timeout: Duration) throws(AisError) {
            try perform(.synchronize, timeout, { CkptRequest.synchronize($0).encode(to: &$1) }) { _ in }
        }
    }
    extension Checkpoint {
        public static func attributesBlocking(
            of name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
        ) throws(AisError) -> CreationAttributes? {
            let reply: ExistsReply = try service.call(
                .exists, timeout: timeout, { CkptRequest.exists(name).encode(to: &$0) },
                { reader throws(DecodeError) in try reader.value() })
            return reply.attributes
        }
        public func sectionBlocking(
            _ section: SectionID, timeout: Duration = .seconds(5)
        ) throws(AisError) -> SectionDescriptor {
            try perform(.section, timeout, { CkptRequest.section($0, section).encode(to: &$1) }) {
                reader throws(DecodeError) in try reader.value()
            }
        }
    }
    /// A walk through sections as they were at its beginning.
    public struct SectionWalk {
        var all: [SectionDescriptor]
        var next = 0
        public init(_ c: Checkpoint, _ chosen: SectionsChosen, _ time: SaTime, timeout: Duration) throws(AisError) {
            all = try c.sectionsBlocking(chosen, time: time, timeout: timeout)
        }
        public mutating func next(timeout: Duration) throws(AisError) -> SectionDescriptor? {
            guard next < all.count else { return nil }
            next += 1
            return all[next - 1]
        }
    }
#endif
