public import CkptProtocol
import OSAL
public import SAFTypes

/// Overwrites a section by sending only what has changed since it was last written through this mirror. Thread-safe;
/// a write while another one through the same mirror is under way is refused with `.tryAgain`.
///
/// The mirror keeps what it wrote last. A difference is applied only to exactly that data: when anybody else has
/// written the section since, or ckptd has another life, or another node's replica is active, it is refused, and all
/// of the data is sent. So what the section has after a write is always what was given. For large data that changes
/// little: fewer bytes to ckptd, to the other replicas, and to those who follow. (SAFplus: differential checkpoints.)
public final class SectionMirror: Sendable {
    public let checkpoint: Checkpoint
    public let section: SectionID

    private struct State {
        var data: [UInt8] = []
        /// What ckptd knows `data` by; 0: it does not.
        var tag: UInt64 = 0
        var lastTag: UInt64 = 0
        var isBusy = false
        var statistics = Statistics()
    }
    private let state = Lock(State())

    /// What went to ckptd, and what would have gone without differences: bytes of data.
    public struct Statistics: Hashable, Sendable {
        public var writes: UInt64 = 0
        /// Of them, with everything: the first, and those that had no base.
        public var fullWrites: UInt64 = 0
        public var bytesSent: UInt64 = 0
        public var bytesGiven: UInt64 = 0
    }

    /// Makes the section when there is none; else the write is refused with `.notExist`.
    private let creates: Bool

    init(_ checkpoint: Checkpoint, _ section: SectionID, creates: Bool) {
        self.checkpoint = checkpoint
        self.section = section
        self.creates = creates
    }

    public var statistics: Statistics { state.withLock { $0.statistics } }

    /// Makes `data` the section's data; creates the section when there is none. Returns the change number.
    ///
    /// - Throws: as ``Checkpoint/writeBlocking(ifChangeIs:timeout:_:)``, and `.tryAgain`, see above.
    @discardableResult
    public func overwriteBlocking(
        _ data: UnsafeRawBufferPointer, timeout: Duration = .seconds(5)
    ) throws(AisError) -> UInt64 {
        try begin()
        var isKept = false
        let difference = difference(to: data)
        defer { end(data, difference?.pieces, isKept: isKept) }
        if let difference {
            do throws(AisError) {
                let reply = try checkpoint.writeBlocking(difference.batch, timeout: timeout)
                isKept = true
                return reply.change
            } catch {
                guard Self.wantsEverything(error) else { throw error }
            }
        }
        let reply = try checkpoint.writeBlocking(everything(data), timeout: timeout)
        isKept = true
        return reply.change
    }

    @discardableResult
    public func overwriteBlocking(_ data: [UInt8], timeout: Duration = .seconds(5)) throws(AisError) -> UInt64 {
        var outcome: Result<UInt64, AisError> = .failure(.library)
        data.withUnsafeBytes { bytes in
            do throws(AisError) {
                outcome = .success(try overwriteBlocking(bytes, timeout: timeout))
            } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    // MARK: Steps of a write

    func begin() throws(AisError) {
        let isFree = state.withLock { state in
            if state.isBusy { return false }
            state.isBusy = true
            state.lastTag += 1
            state.statistics.writes += 1
            return true
        }
        if !isFree { throw .tryAgain }
    }

    struct Difference {
        var batch: UpdateBatch
        var pieces: [Range<Int>]
    }

    /// Nil: everything is to be sent.
    func difference(to data: UnsafeRawBufferPointer) -> Difference? {
        state.withLock { state in
            guard state.tag != 0 else { return nil }
            var found: SectionDifference?
            state.data.withUnsafeBytes { found = SectionDifference(from: $0, to: data) }
            guard let found else { return nil }
            var batch = UpdateBatch()
            batch.require(section, tag: state.tag)
            for piece in found.pieces {
                batch.write(section, at: piece.lowerBound, UnsafeRawBufferPointer(rebasing: data[piece]))
            }
            // Nothing has changed; all the same the write has a number, and who follows hears of it.
            if found.pieces.isEmpty { batch.write(section, at: 0, UnsafeRawBufferPointer(start: nil, count: 0)) }
            batch.tag(section, state.lastTag)
            state.statistics.bytesSent += UInt64(found.byteCount)
            return Difference(batch: batch, pieces: found.pieces)
        }
    }

    func everything(_ data: UnsafeRawBufferPointer) -> UpdateBatch {
        var batch = UpdateBatch()
        if creates {
            batch.put(section, data)
        } else {
            batch.overwrite(section, data)
        }
        state.withLock { state in
            batch.tag(section, state.lastTag)
            state.statistics.fullWrites += 1
            state.statistics.bytesSent += UInt64(data.count)
        }
        return batch
    }

    /// There is no such base any more.
    static func wantsEverything(_ error: AisError) -> Bool { error == .badOperation || error == .notExist }

    /// - Parameter pieces: what has changed; nil: everything.
    func end(_ data: UnsafeRawBufferPointer, _ pieces: [Range<Int>]?, isKept: Bool) {
        state.withLock { state in
            state.isBusy = false
            let isBase = state.tag != 0
            state.tag = isKept ? state.lastTag : 0
            guard isKept else { return }
            state.statistics.bytesGiven += UInt64(data.count)
            if let pieces, isBase {
                if state.data.count < data.count {
                    state.data += [UInt8](repeating: 0, count: data.count - state.data.count)
                }
                for piece in pieces { state.data.replaceSubrange(piece, with: data[piece]) }
            } else {
                state.data.removeAll(keepingCapacity: true)
                state.data.append(contentsOf: data)
            }
        }
    }
}

extension Checkpoint {
    /// A mirror of a section for writers that overwrite it again and again with little changed.
    ///
    /// - Parameter creates: makes the section when there is none; else a write is refused with `.notExist`.
    public func mirror(_ section: SectionID = .defaultSection, creates: Bool = true) -> SectionMirror {
        SectionMirror(self, section, creates: creates)
    }
}
