public import EOLoop
import LogClient
import LogProtocol
public import OSAL
import SAFTypes

/// The filter rules an operator keeps in `$SAF_CONFIG_DIR/logfilter.txt`: read at the start and whenever the file
/// changes. Its mistakes are logged, each with its line, and then the rules before it stay in force. Without a file
/// there is nothing to do: rules set on the console stay as they are. Loop thread only.
public final class RulesFile {
    public static let name = "logfilter.txt"

    private let loop: Loop
    private let path: String
    private let directory: String
    private let log = Log(stream: .system, area: "LOG")
    private let use: (String) -> [String]
    private var text: String?
    private var watching: (watch: SharedDirectoryWatch, id: WatchID)?

    /// - Parameter use: puts rules into force; what is wrong with them, if anything.
    public init(loop: Loop, places: Places, use: @escaping (String) -> [String]) {
        (self.loop, self.use) = (loop, use)
        directory = places.configDirectory
        path = "\(directory)/\(Self.name)"
        watch()
        read()
    }

    public func close() {
        guard let watching else { return }
        loop.unwatch(watching.id)
        self.watching = nil
    }

    /// No such directory: then there are no rules, and a restart of logd looks again.
    private func watch() {
        guard let watch = try? DirectoryWatch(directory, alsoWritten: true) else { return }
        let shared = SharedDirectoryWatch(watch)
        let id = try? loop.watch(shared.watch.raw, .read) { [unowned self] _ in heard() }
        if let id { watching = (shared, id) }
    }

    private func heard() {
        if watching?.watch.watch.drain() == false { close() }
        read()
    }

    private func read() {
        let found: String?
        do throws(OSError) {
            found = File.exists(path) ? try File.readText(path, limit: LogLimits.ruleBytesMax + 1) : nil
        } catch {
            return log.warning("\(path) cannot be read: \(error)")
        }
        guard found != text else { return }
        let hadRules = text != nil
        text = found
        guard let found else {
            if hadRules, use("").isEmpty { log.notice("\(path) is gone: no filter rules") }
            return
        }
        let mistakes = FilterRules.parse(found).mistakes
        for mistake in mistakes { log.warning("\(path):\(mistake.line): \(mistake.problem)") }
        guard mistakes.isEmpty else { return log.warning("\(path) is not used; the filter rules stay as they were") }
        let refused = use(found)
        for refusal in refused { log.warning("\(path): \(refusal)") }
        if refused.isEmpty { log.notice("filter rules of \(path) are in force") }
    }
}

/// A directory watch that a class can hold.
private final class SharedDirectoryWatch {
    let watch: DirectoryWatch
    init(_ watch: consuming DirectoryWatch) { self.watch = watch }
}
