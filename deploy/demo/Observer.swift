import EngineKit
import OSAL
import SafLab

/// What the components tell about themselves in the shared folder, read from outside with one clock; see
/// `Progress.swift` of the example.
final class Observer {
    struct Assignment: Equatable {
        var haState: String
        var at: Instant
        var pid: Int32
        /// The machine's name.
        var host: String
    }

    private let folder: String
    private var page: Mapping?
    /// So much of `acts` has been read.
    private var offset = 0
    private var rest: [UInt8] = []
    private var known: [Assignment] = []
    /// The index in `known` of the latest activation of each process.
    private var activations: [String: Int] = [:]
    /// Whether two were ever active at once; an actor is an activation.
    private(set) var order = ActingOrder<Int>()

    init(folder: String) { self.folder = folder }

    /// Bytes of the text that are counted and committed.
    var position: UInt64 { word(0) }
    /// The longest time between two commits, since the beginning or the last ``takeLongestGap()``.
    var longestGap: Duration { .nanoseconds(Int64(clamping: word(2))) }
    var commits: UInt64 { word(3) }

    /// The longest time between two commits, including the time since the last one; begins anew.
    func takeLongestGap() -> Duration {
        let open = MonotonicClock.now() - Instant(nanoseconds: word(1))
        let gap = max(longestGap, word(1) == 0 ? .zero : open)
        page?.base.storeBytes(of: 0, toByteOffset: 16, as: UInt64.self)
        return gap
    }

    /// Every assignment any component was given so far, in order.
    func assignments() -> [Assignment] {
        readActs()
        return known
    }

    /// Who was made active last, and has not been seen to end.
    var active: Assignment? { assignments().last { $0.haState == "active" } }

    /// In words, each case of two that were active at once.
    func overlapTexts() -> [String] {
        readActs()
        func name(_ index: Int) -> String { "\(known[index].host) (pid \(known[index].pid))" }
        return order.overlaps.map { "\(name($0.former)) acted after \(name($0.current)) had begun" }
    }

    private func readActs() {
        guard let acts = try? File.open(folder + "/acts") else { return }  // not there before the first assignment
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while let count = try? chunk.withUnsafeMutableBytes({ try IO.read(acts.raw, into: $0, at: offset) }), count > 0
        {
            rest += chunk[..<count]
            offset += count
        }
        guard let end = rest.lastIndex(of: 10) else { return }
        for line in rest[..<end].split(separator: 10) { take(String(decoding: line, as: UTF8.self)) }
        rest.removeFirst(end + 1)
    }

    private func take(_ line: String) {
        let words = line.split(separator: " ")
        guard words.count == 4, let time = UInt64(words[1]), let pid = Int32(words[2]) else { return }
        let process = "\(words[2]) \(words[3])"
        if words[0] == "acts" {
            if let activation = activations[process] { order.acted(activation) }
            return
        }
        known.append(
            Assignment(
                haState: String(words[0]), at: Instant(nanoseconds: time), pid: pid, host: String(words[3])))
        if words[0] == "active" {
            activations[process] = known.count - 1
            order.acted(known.count - 1)
        }
    }

    private func word(_ index: Int) -> UInt64 {
        if page == nil { page = try? SharedFile.open(folder + "/progress", writable: true).mapping }
        guard let page, page.count >= 32 else { return 0 }
        return page.base.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
    }
}
