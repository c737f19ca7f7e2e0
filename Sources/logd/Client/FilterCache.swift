import LogProtocol
import OSAL
import Synchronization

/// What this process lets through: its own `CL_LOG_SEVERITY` and what the filter page says instead.
///
/// One load of the page's word per record; the rest is looked at only when that word has changed.
final class FilterCache: Sendable {
    private let page: SharedFile?
    private let own: LogSeverity
    private let node: [UInt8]
    private let program: [UInt8]
    private let seen: Atomic<UInt64>
    /// Bits 0…7 and 8…15: the most verbose severity that may pass on the two streams; 16…23 and 24…31: the same
    /// without rules; bit 32: there are rules.
    private let limits: Atomic<UInt64>
    private let rules = Lock(FilterRules())

    private static let hasRules: UInt64 = 1 << 32

    init(page: SharedFile?, own: LogSeverity, node: String, program: String) {
        (self.page, self.own) = (page, own)
        (self.node, self.program) = (Array(node.utf8), Array(program.utf8))
        seen = Atomic(0)
        limits = Atomic(Self.pack(system: own, application: own, rules: FilterRules()))
        refresh()
    }

    private static func pack(system: LogSeverity, application: LogSeverity, rules: FilterRules) -> UInt64 {
        let verbose = rules.rules.map(\.threshold).max() ?? .emergency
        let (most, mostApplication) = (max(system, verbose), max(application, verbose))
        return UInt64(most.rawValue) | UInt64(mostApplication.rawValue) << 8 | UInt64(system.rawValue) << 16
            | UInt64(application.rawValue) << 24 | (rules.isEmpty ? 0 : hasRules)
    }

    private func word() -> UInt64 {
        guard let page else { return 0 }
        return page.mapping.base.atomic(UInt64.self, at: FilterLayout.wordOffset).pointee.load(ordering: .acquiring)
    }

    /// The threshold a record of this severity may meet at most; nil when it cannot pass.
    @inline(__always)
    func admits(_ severity: LogSeverity, _ stream: LogStream) -> Bool {
        if stream.isGlobal { return admitsGlobal(severity, stream) }
        if word() != seen.load(ordering: .relaxed) { refresh() }
        let limits = limits.load(ordering: .relaxed)
        return severity.rawValue <= UInt8(truncatingIfNeeded: stream == .system ? limits : limits >> 8)
    }

    /// A global stream has a filter of its own, the same in the whole cluster; a process's threshold is not asked.
    func admitsGlobal(_ severity: LogSeverity, _ stream: LogStream) -> Bool {
        guard let page else { return true }
        let place: UnsafeMutablePointer<Atomic<UInt16>> = page.mapping.base.atomic(
            at: FilterLayout.severitiesOffset + 2 * Int(stream.rawValue))
        let set = place.pointee.load(ordering: .relaxed)
        return set == 0 || SeveritySet(rawValue: set).contains(severity)
    }

    /// The threshold for exactly this record, after ``admits(_:_:)``.
    @inline(__always)
    func threshold(
        _ stream: LogStream, area: UnsafeRawBufferPointer, context: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer
    ) -> UInt8 {
        let limits = limits.load(ordering: .relaxed)
        let plain = UInt8(truncatingIfNeeded: stream == .system ? limits >> 16 : limits >> 24)
        if limits & Self.hasRules == 0 { return plain }
        return rules.withLock { $0.threshold(area: area, context: context, file: file)?.rawValue } ?? plain
    }

    /// Reads the page again. A text torn by a change is noticed by the word, and read again at the next record.
    private func refresh() {
        rules.withLock { rules in
            let raw = word()
            let current = FilterWord(raw: raw)
            rules = readRules()
            guard word() == raw else { return }
            limits.store(
                Self.pack(
                    system: current.threshold(of: .system) ?? own,
                    application: current.threshold(of: .application) ?? own,
                    rules: rules), ordering: .relaxed)
            seen.store(raw, ordering: .relaxed)
        }
    }

    private func readRules() -> FilterRules {
        guard let page else { return FilterRules() }
        let length = Int(page.mapping.base.load(fromByteOffset: FilterLayout.ruleLengthOffset, as: UInt32.self))
        guard length > 0, length <= FilterLayout.ruleBytesMax else { return FilterRules() }
        let bytes = Array(UnsafeRawBufferPointer(start: page.mapping.base + FilterLayout.ruleTextOffset, count: length))
        return FilterRules.parse(String(decoding: bytes, as: UTF8.self)).rules.restricted(node: node, program: program)
    }
}
