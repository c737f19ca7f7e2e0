public import CkptProtocol
public import SAFTypes

// What is asked about a checkpoint and its sections, and done with the checkpoint itself; for threads that may wait.
extension Checkpoint {
    /// Whether there is a checkpoint of this name, and with which attributes; opens nothing and keeps nothing alive.
    ///
    /// - Returns: nil when there is none. The retention duration is the one in force now.
    public static func attributesBlocking(
        of name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) throws(AisError) -> CreationAttributes? {
        let reply: ExistsReply = try service.call(
            .exists, timeout: timeout, { CkptRequest.exists(name).encode(to: &$0) },
            { reader throws(DecodeError) in try reader.value() })
        return reply.attributes
    }

    /// What is known of a section, but not its data.
    ///
    /// - Throws: `.notExist` there is none, or no active replica.
    public func sectionBlocking(
        _ section: SectionID, timeout: Duration = .seconds(5)
    ) throws(AisError) -> SectionDescriptor {
        try perform(.section, timeout, { CkptRequest.section($0, section).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    /// Whether there is such a section; any open mode.
    public func containsBlocking(_ section: SectionID, timeout: Duration = .seconds(5)) throws(AisError) -> Bool {
        do throws(AisError) {
            _ = try sectionBlocking(section, timeout: timeout)
            return true
        } catch {
            guard error == .notExist else { throw error }
            return false
        }
    }

    /// Replaces a section's data, or creates the section when there is none. Returns the change number.
    ///
    /// - Parameter expires: of the section if it is created; nanoseconds since 1970 UTC.
    @discardableResult
    public func putBlocking(
        _ section: SectionID, _ data: [UInt8], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        try writeBlocking(timeout: timeout) { $0.put(section, data, expires: expires) }.change
    }

    /// Source: saCkptSectionExpirationTimeSet(). Nanoseconds since 1970 UTC; a time that is over ends the section.
    public func setExpirationBlocking(
        _ section: SectionID, _ time: SaTime, timeout: Duration = .seconds(5)
    ) throws(AisError) {
        try writeBlocking(timeout: timeout) { $0.setExpiration(section, time) }
    }

    /// Source: saCkptCheckpointRetentionDurationSet().
    public func setRetentionDurationBlocking(
        _ duration: SaTime, timeout: Duration = .seconds(5)
    ) throws(AisError) {
        try perform(.setRetention, timeout, { CkptRequest.setRetention($0, duration).encode(to: &$1) }) { _ in }
    }

    /// Source: saCkptActiveReplicaSet(). Returns when this node's replica has everything and is the active one.
    public func setActiveReplicaBlocking(timeout: Duration = .seconds(5)) throws(AisError) {
        try perform(.setActiveReplica, timeout, { CkptRequest.setActiveReplica($0).encode(to: &$1) }) { _ in }
    }

    /// Source: saCkptCheckpointSynchronize().
    public func synchronizeBlocking(timeout: Duration = .seconds(5)) throws(AisError) {
        try perform(.synchronize, timeout, { CkptRequest.synchronize($0).encode(to: &$1) }) { _ in }
    }

    /// Where the replicas are now.
    public func replicasBlocking(timeout: Duration = .seconds(5)) throws(AisError) -> ReplicaSet {
        try perform(.watchReplicas, timeout, { CkptRequest.watchReplicas($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    /// The sections that `chosen` selects, one after the other. See ``SectionIteration``.
    public func iterate(_ chosen: SectionsChosen = .any, time: SaTime = 0) -> SectionIteration {
        SectionIteration(self, chosen, time)
    }
}
