public import SAFTypes

extension SectionMirror {
    /// As ``overwriteBlocking(_:timeout:)``.
    @discardableResult
    public func overwrite(_ data: [UInt8], timeout: Duration = .seconds(5)) async throws(AisError) -> UInt64 {
        try begin()
        var isKept = false
        let difference = data.withUnsafeBytes { self.difference(to: $0) }
        defer { data.withUnsafeBytes { end($0, difference?.pieces, isKept: isKept) } }
        if let difference {
            do throws(AisError) {
                let reply = try await checkpoint.write(difference.batch, timeout: timeout)
                isKept = true
                return reply.change
            } catch {
                guard Self.wantsEverything(error) else { throw error }
            }
        }
        let batch = data.withUnsafeBytes { everything($0) }
        let reply = try await checkpoint.write(batch, timeout: timeout)
        isKept = true
        return reply.change
    }
}
