public import CkptProtocol
public import SAFTypes

extension Checkpoint {
    /// As ``attributesBlocking(of:timeout:in:)``.
    public static func attributes(
        of name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) -> CreationAttributes? {
        let reply: ExistsReply = try await service.call(.exists, timeout: timeout, body: CkptRequest.exists(name).body)
        {
            reader throws(DecodeError) in try reader.value()
        }
        return reply.attributes
    }

    /// Whether there is a checkpoint of this name; opens nothing.
    public static func exists(
        _ name: SaName, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) -> Bool { try await attributes(of: name, timeout: timeout, in: service) != nil }

    /// As above, with text for a name. Throws also `.invalidParam` when it is no name: 1 to 256 octets.
    public static func exists(
        _ name: String, timeout: Duration = .seconds(5), in service: CheckpointService = .shared
    ) async throws(AisError) -> Bool {
        guard let name = SaName(name) else { throw .invalidParam }
        return try await exists(name, timeout: timeout, in: service)
    }

    /// As ``sectionBlocking(_:timeout:)``.
    public func describe(
        _ section: SectionID, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> SectionDescriptor {
        try await perform(.section, timeout, async: { CkptRequest.section($0, section).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    /// Whether there is such a section; any open mode.
    public func contains(_ section: SectionID, timeout: Duration = .seconds(5)) async throws(AisError) -> Bool {
        do throws(AisError) {
            _ = try await describe(section, timeout: timeout)
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
    public func put(
        _ section: SectionID, _ data: [UInt8], expires: SaTime = .saTimeEnd, timeout: Duration = .seconds(5)
    ) async throws(AisError) -> UInt64 {
        try await write(timeout: timeout) { $0.put(section, data, expires: expires) }.change
    }

    /// Where the replicas are now.
    public func replicas(timeout: Duration = .seconds(5)) async throws(AisError) -> ReplicaSet {
        try await perform(.watchReplicas, timeout, async: { CkptRequest.watchReplicas($0).encode(to: &$1) }) {
            reader throws(DecodeError) in try reader.value()
        }
    }

    func page(
        after serial: UInt64, limit: UInt32, _ chosen: SectionsChosen, _ time: SaTime, timeout: Duration
    ) async throws(AisError) -> ListReply {
        try await perform(
            .list, timeout,
            async: { CkptRequest.list($0, after: serial, limit: limit, chosen: chosen, time: time).encode(to: &$1) },
            { reader throws(DecodeError) in try reader.value() })
    }

    /// Does what is in the batch as one. See ``write(ifChangeIs:timeout:_:)``.
    @discardableResult
    public func write(_ batch: UpdateBatch, timeout: Duration = .seconds(5)) async throws(AisError) -> UpdateReply {
        try beginUpdate(of: batch.count)
        defer { endUpdate() }
        return try await perform(.update, timeout, async: { Self.encode(batch, nil, $0, &$1) }) {
            reader throws(DecodeError) in
            try reader.value()
        }
    }
}
