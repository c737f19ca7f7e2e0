import LogClient
import LogProtocol
import OSAL
import Synchronization

/// The page with which logd changes severities in all processes. It outlives logd.
final class FilterPage {
    private let file: SharedFile

    init(directory: LogDirectory) throws(OSError) { file = try directory.openFilter(writable: true) }

    private var word: UnsafeMutablePointer<Atomic<UInt64>> { file.mapping.base.atomic(at: FilterLayout.wordOffset) }
    private var current: FilterWord { FilterWord(raw: word.pointee.load(ordering: .acquiring)) }

    func severity(of stream: LogStream) -> LogSeverity? { current.threshold(of: stream) }

    /// What a global stream lets through, in every process at once.
    func set(_ severities: SeveritySet, ofGlobal stream: LogStream) {
        let place: UnsafeMutablePointer<Atomic<UInt16>> = file.mapping.base.atomic(
            at: FilterLayout.severitiesOffset + 2 * Int(stream.rawValue))
        // 0 would let everything through.
        place.pointee.store(severities.rawValue | 1 << 15, ordering: .relaxed)
    }

    /// The text of the rules in force.
    var rules: String {
        let length = Int(file.mapping.base.load(fromByteOffset: FilterLayout.ruleLengthOffset, as: UInt32.self))
        guard length <= FilterLayout.ruleBytesMax else { return "" }
        let bytes = UnsafeRawBufferPointer(start: file.mapping.base + FilterLayout.ruleTextOffset, count: length)
        return String(decoding: bytes, as: UTF8.self)
    }

    func set(_ severity: LogSeverity?, of stream: LogStream) {
        let old = current
        let system = stream == .system ? severity : old.threshold(of: .system)
        let application = stream == .application ? severity : old.threshold(of: .application)
        store(system, application, generation: old.generation &+ 1)
    }

    /// The generation changes before and after, so that a reader of a torn text reads again.
    func set(rules text: String) {
        let old = current
        let bytes = Array(text.utf8.prefix(FilterLayout.ruleBytesMax))
        store(old.threshold(of: .system), old.threshold(of: .application), generation: old.generation &+ 1)
        (file.mapping.base + FilterLayout.ruleTextOffset).copyMemory(from: bytes, byteCount: bytes.count)
        file.mapping.base.storeBytes(
            of: UInt32(bytes.count), toByteOffset: FilterLayout.ruleLengthOffset, as: UInt32.self)
        store(old.threshold(of: .system), old.threshold(of: .application), generation: old.generation &+ 2)
    }

    private func store(_ system: LogSeverity?, _ application: LogSeverity?, generation: UInt32) {
        let new = FilterWord(system: system, application: application, generation: generation)
        word.pointee.store(new.raw, ordering: .sequentiallyConsistent)
    }
}
