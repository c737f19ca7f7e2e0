import CCorosync
import EngineKit
import OSAL

/// Whether the links of corosync (knet) to the other nodes stand, as the corosync of this node sees it.
///
/// Source: cmap_keys(7), stats.knet.nodeX.linkY.connected.
public enum KnetLinks {
    public struct Link: Hashable, Sendable {
        /// Its other end; an own node is not listed by corosync as another.
        public var node: UInt32
        /// The plane, 0 to 7.
        public var number: Int
        public var isConnected: Bool
    }

    /// Why it is not known, for people.
    public struct Problem: Error, CustomStringConvertible {
        public let description: String
    }

    /// Every link, by node and number. Any thread; blocks until corosync has answered.
    ///
    /// - Throws: no library, no corosync, no right to ask it (root, or as corosync.conf says), no answer in time.
    public static func read(timeout: Duration = .seconds(1)) throws(Problem) -> [Link] {
        let answer = Monitor<Result<[Link], Problem>?>(nil)
        do throws(OSError) {
            let library = try CorosyncLibrary.open()
            // A corosync that is stopped answers never: the thread is then left to wait for it.
            _ = try OSThread.spawn(name: "knet-links") {
                let result: Result<[Link], Problem>
                do throws(Problem) { result = .success(try ask(library)) } catch { result = .failure(error) }
                answer.update { $0 = result }
            }
        } catch {
            throw Problem(description: "\(error)")
        }
        let result = answer.wait(until: MonotonicClock.now() + timeout) { $0 }
        guard let result else { throw Problem(description: "corosync does not answer") }
        return try result.get()
    }

    private static func ask(_ library: CorosyncLibrary) throws(Problem) -> [Link] {
        var handle: UInt64 = 0
        var iteration: UInt64 = 0
        try check("cmap_initialize_map", library.cmapInitializeMap(&handle, CMAP_MAP_STATS))
        let cmap = handle
        defer { _ = library.cmapFinalize(cmap) }
        try check("cmap_iter_init", library.cmapIterate(cmap, "stats.knet.node", &iteration))
        var links: [Link] = []
        var name = [CChar](repeating: 0, count: Int(CMAP_KEYNAME_MAXLEN) + 1)
        while library.cmapNext(cmap, iteration, &name, nil, nil) == CS_OK {
            let key = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard let (node, number) = place(key) else { continue }
            var value: UInt8 = 0
            // A link that was taken away between the two questions is none.
            guard library.cmapGetByte(cmap, name, &value) == CS_OK else { continue }
            links.append(Link(node: node, number: number, isConnected: value != 0))
        }
        return links.sorted { ($0.node, $0.number) < ($1.node, $1.number) }
    }

    /// Of `stats.knet.node2.link1.connected`: 2 and 1; nil for any other key.
    static func place(_ key: String) -> (node: UInt32, number: Int)? {
        let parts = key.split(separator: ".")
        guard parts.count == 5, parts[2].hasPrefix("node"), parts[3].hasPrefix("link"), parts[4] == "connected",
            let node = UInt32(parts[2].dropFirst(4)), let number = Int(parts[3].dropFirst(4))
        else { return nil }
        return (node, number)
    }

    private static func check(_ call: String, _ code: cs_error_t) throws(Problem) {
        guard code == CS_OK else { throw Problem(description: "\(call): \(describe(code))") }
    }
}
