public import EngineKit
public import LogProtocol
import SAFTypes

/// Keeps entries from the files until this node's registry has heard of their streams: it may hear of a stream's
/// creation after the first records, which come by another way, and would not know their file.
///
/// Streams are numbered as they are created, so one with a number that the registry has given is known, or was.
public struct PublicationGate: Sendable {
    /// A registry that has lost its memory never hears of what was before: then the records go to a file of their own.
    public static let patience: Duration = .seconds(10)

    private var held: (entries: [LedgerEntry], beyond: StreamID, since: Instant)?

    public init() {}

    public var isHolding: Bool { held != nil }

    /// Entries to be written; nil: they are kept.
    ///
    /// - Parameter next: the number that the registry here gives to the next stream.
    public mutating func offer(_ entries: [LedgerEntry], next: StreamID, at now: Instant) -> [LedgerEntry]? {
        guard let newest = Self.newestStream(in: entries), newest >= next else { return entries }
        held = (entries, newest, now)
        return nil
    }

    /// What was kept and is to be written now. To be asked when the registry has changed, and after ``patience``.
    public mutating func release(next: StreamID, at now: Instant) -> [LedgerEntry]? {
        guard let held, held.beyond < next || now - held.since >= Self.patience else { return nil }
        self.held = nil
        return held.entries
    }

    /// The ledger is being cut back: what was kept is not its next any more.
    public mutating func drop() { held = nil }

    private static func newestStream(in entries: [LedgerEntry]) -> StreamID? {
        var newest: StreamID?
        for entry in entries {
            entry.batch.records.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                // Checked when the batch was decoded.
                while let stream = (try? GlobalRecord.skip(&reader)) ?? nil { newest = max(newest ?? stream, stream) }
            }
        }
        return newest
    }
}
