import SwiftSAF

/// The state of the work: everything before `position` is in `counts`. `change` is the checkpoint's change number of
/// it.
struct CountedText: Sendable {
    var counts = WordCounts()
    var position: UInt64 = 0
    var change: UInt64 = 0

    mutating func take(_ section: SectionID, _ bytes: [UInt8]) {
        if section == WordStore.position {
            position = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        } else {
            counts.take(section: section.bytes, bytes: bytes)
        }
    }
}

/// The checkpoint: a section for the position and one for each bucket of words.
struct WordStore: Sendable {
    static let position: SectionID = "position"
    let checkpoint: Checkpoint

    static func open() async throws(AisError) -> WordStore {
        let attributes = CreationAttributes(
            checkpointSize: 256 << 20, retentionDuration: 3_600_000_000_000,
            sectionsMax: UInt32(WordCounts.bucketCount + 1), sectionSizeMax: 1 << 20, sectionIDSizeMax: 32)
        guard let name = SaName("safCkpt=wordcount") else { throw .invalidParam }
        while true {
            do throws(AisError) {
                return WordStore(checkpoint: try await Checkpoint.open(name, creating: attributes))
            } catch {
                if error != .tryAgain && error != .timeout { throw error }  // ckptd is being restarted
            }
        }
    }

    /// What is committed; makes the sections first when there are none yet. Nil when the task was cancelled.
    func load() async -> CountedText? {
        while !Task.isCancelled {
            do throws(AisError) {
                let all = try await checkpoint.readAll()
                guard !all.sections.isEmpty else {
                    try await checkpoint.write(ifChangeIs: all.change) { batch in
                        batch.create(Self.position, CountedText().positionBytes)
                        for bucket in 0..<WordCounts.bucketCount {
                            batch.create(SectionID(WordCounts.sectionName(bucket)), [])
                        }
                    }
                    continue
                }
                var text = CountedText(change: all.change)
                for section in all.sections { text.take(section.id, section.data) }
                return text
            } catch {
                if !error.isPassing, error != .interrupt {
                    Log.error("the counts cannot be read: \(error)", area: "WRD")
                    return nil
                }
            }
        }
        return nil
    }

    /// Writes the position and the changed buckets together, and only if nobody else has written since `text` was
    /// known.
    /// - Returns: the new state; nil when it has to be loaded again, because it is not known or somebody else wrote.
    func commit(_ text: CountedText, changed: [Int]) async -> CountedText? {
        while true {
            do throws(AisError) {
                let reply = try await checkpoint.write(ifChangeIs: text.change) { batch in
                    batch.overwrite(Self.position, text.positionBytes)
                    for bucket in changed {
                        batch.overwrite(SectionID(WordCounts.sectionName(bucket)), text.counts.encodedBucket(bucket))
                    }
                }
                var committed = text
                committed.change = reply.change
                return committed
            } catch {
                if error != .tryAgain { return nil }  // not done for sure: once more
                if Task.isCancelled { return nil }
            }
        }
    }
}

extension CountedText {
    var positionBytes: [UInt8] { withUnsafeBytes(of: position.littleEndian) { Array($0) } }
}

extension AisError {
    /// ckptd is being restarted, or another component was quicker: trying again helps.
    var isPassing: Bool { self == .tryAgain || self == .timeout || self == .badOperation || self == .exist }
}
