public import CkptProtocol
public import SAFTypes

/// The sections of a checkpoint as a collection of data by id; see ``Checkpoint/contents``.
///
///     let contents = checkpoint.contents
///     try await contents.set([1, 2, 3], for: "position")
///     if let data = try await contents["position"] { … }
///     for try await section in contents { total += section.size }
///
/// It holds nothing: every use asks the service. An iteration returns every section that existed when it was begun and
/// is not deleted before its end exactly once, in the order of their creation.
public struct Sections: AsyncSequence, Sendable {
    public typealias Element = SectionDescriptor
    public typealias Failure = AisError

    let checkpoint: Checkpoint
    var chosen = SectionsChosen.any
    var time: SaTime = 0
    var timeout: Duration = .seconds(5)

    /// The section's data; nil when there is no such section.
    public subscript(_ id: SectionID) -> [UInt8]? {
        get async throws(AisError) {
            do throws(AisError) {
                return try await checkpoint.read(id, timeout: timeout)
            } catch {
                guard error == .notExist, try await checkpoint.hasActiveReplica(timeout: timeout) else { throw error }
                return nil
            }
        }
    }

    /// Replaces the section's data, or creates the section.
    public func set(_ data: [UInt8], for id: SectionID, expires: SaTime = .saTimeEnd) async throws(AisError) {
        try await checkpoint.put(id, data, expires: expires, timeout: timeout)
    }

    /// Deletes the section; false when there was none.
    @discardableResult
    public func remove(_ id: SectionID) async throws(AisError) -> Bool {
        do throws(AisError) {
            try await checkpoint.deleteSection(id, timeout: timeout)
            return true
        } catch {
            guard error == .notExist, try await checkpoint.hasActiveReplica(timeout: timeout) else { throw error }
            return false
        }
    }

    public func contains(_ id: SectionID) async throws(AisError) -> Bool {
        try await checkpoint.contains(id, timeout: timeout)
    }

    /// How many sections there are.
    public var count: Int {
        get async throws(AisError) { Int(try await checkpoint.status(timeout: timeout).sectionCount) }
    }

    /// All data at one change number.
    public func all() async throws(AisError) -> [SectionID: [UInt8]] {
        let reply = try await checkpoint.readAll(timeout: timeout)
        return Dictionary(reply.sections.map { ($0.id, $0.data) }) { _, last in last }
    }

    /// Only some of them, for an iteration.
    ///
    /// - Parameter time: for the two cases of `chosen` that compare expiration times.
    public func only(_ chosen: SectionsChosen, time: SaTime = 0) -> Sections {
        var some = self
        (some.chosen, some.time) = (chosen, time)
        return some
    }

    public struct Iterator: AsyncIteratorProtocol {
        public typealias Failure = AisError

        fileprivate let sections: Sections
        private var page: [SectionDescriptor] = []
        private var index = 0
        private var hasMore = true

        private static let pageSize: UInt32 = 256

        fileprivate init(_ sections: Sections) { self.sections = sections }

        public mutating func next() async throws(AisError) -> SectionDescriptor? {
            if index == page.count, hasMore {
                let reply = try await sections.checkpoint.page(
                    after: page.last?.serial ?? 0, limit: Self.pageSize, sections.chosen, sections.time,
                    timeout: sections.timeout)
                (page, index) = (reply.sections, 0)
                hasMore = reply.hasMore && !reply.sections.isEmpty
            }
            guard index < page.count else { return nil }
            defer { index += 1 }
            return page[index]
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(self) }
}

extension Checkpoint {
    /// The sections, as a collection of data by id.
    public var contents: Sections { Sections(checkpoint: self) }

    /// NOT_EXIST has two meanings: no section, or nobody to ask.
    fileprivate func hasActiveReplica(timeout: Duration) async throws(AisError) -> Bool {
        do throws(AisError) {
            _ = try await status(timeout: timeout)
            return true
        } catch {
            guard error == .notExist else { throw error }
            return false
        }
    }
}
