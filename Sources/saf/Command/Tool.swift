import ArgumentParser
import EngineKit
import IOC
import OSAL
import SAFTypes

/// What the subcommands share: where the node is, how errors look, how a program ends.
enum Tool {
    static let places = Places.fromEnvironment()

    /// Exit statuses beyond those of the argument parser.
    enum Status: Int32 { case failed = 1, refused = 2, unavailable = 3 }

    /// Colours: on a terminal, and not when NO_COLOR is set to anything. Source: no-color.org.
    static var isColoured: Bool {
        isTerminal(StandardOutput.raw) && (Environment.get("NO_COLOR") ?? "").isEmpty
            && Environment.get("TERM") != "dumb"
    }

    static var width: Int { terminalWidth() ?? 80 }

    static func fail(_ text: String, _ status: Status = .failed) -> any Error {
        StandardError.write(text.hasSuffix("\n") ? text : text + "\n")
        return ExitCode(status.rawValue)
    }

    /// Tells at once that there is no node, instead of waiting for one: neither amfd nor its guard holds its lock.
    static func requireNode() throws { if !isNodeThere { throw noNode() } }

    /// False when it is known that neither amfd nor its guard runs.
    static var isNodeThere: Bool {
        let amfd = places.runDirectory + "/amfd"
        return ![amfd + "/amfd.lock", amfd + "/guard.lock"].map(File.isLocked).allSatisfy { $0 == false }
    }

    private static func noNode() -> any Error {
        fail(
            """
            saf: no SwiftSAF node is running here.
            Looked in \(places.runDirectory) (SAF_RUN_DIR). Start a node with: amfd --guard
            If one runs in another place, set SAF_RUN_DIR to it.
            """, .unavailable)
    }

    /// Why a daemon that has a socket does not answer, and what to do; nil when nobody listens there.
    static func silence(of daemon: WellKnownService) -> String? {
        guard
            let socket = try? UnixSocket.connect(
                to: Endpoint.wellKnown(daemon).path(in: places.runDirectory), kind: .seqPacket),
            let pid = try? UnixSocket.peerCredentials(socket.raw).pid, let process = Process.information(of: pid)
        else { return nil }
        if process.isStopped { return "\(daemon.name) (pid \(pid)) is stopped; it goes on with: kill -CONT \(pid)" }
        return "\(daemon.name) (pid \(pid)) is there and did not answer; it may be busy, or stopped"
    }

    /// What went wrong between us and a daemon, with what to do about it.
    ///
    /// - Parameter mayHaveChanged: whether something may have been done all the same.
    static func explain(
        _ error: CallError, doing what: String, by daemon: WellKnownService = .amfd, mayHaveChanged: Bool = false
    ) -> any Error {
        switch error.code {
        case .tryAgain where error.isAnswer: return fail("saf: \(what): \(error.text)", .unavailable)
        case .tryAgain, .timeout:
            guard let silence = silence(of: daemon) else { break }
            let outcome =
                mayHaveChanged && error.code == .timeout ? "\nThe outcome is unknown; look with: saf status" : ""
            return fail("saf: \(what): \(error.text)\n\(silence)\(outcome)", .unavailable)
        default: break
        }
        switch error.code {
        case .tryAgain:
            return fail(
                """
                saf: \(what): \(error.text.isEmpty ? "\(error.code)" : error.text)
                Looked in \(places.runDirectory) (SAF_RUN_DIR). If no node is running, start one with: amfd --guard
                """, .unavailable)
        case .timeout:
            let outcome = mayHaveChanged ? "\nThe outcome is unknown; look with: saf status" : ""
            return fail("saf: \(what): \(error.text)\(outcome)", .unavailable)
        case .access, .accessDenied:
            return fail(
                "saf: \(what): \(error.text.isEmpty ? "not allowed" : error.text)\nRun it as root or as the user amfd "
                    + "runs as."
            )
        default: return fail("saf: \(what): \(error)")
        }
    }

    /// 2026-03-01T12:34:56.123Z, as in the log.
    static func time(_ nanoseconds: SaTime) -> String {
        let time = MonotonicClock.calendar(wallNanoseconds: max(0, nanoseconds), utc: true)
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let milliseconds = String(time.nanosecond / 1_000_000 + 1_000).dropFirst()
        let date = "\(time.year)-\(two(time.month))-\(two(time.day))"
        return "\(date)T\(two(time.hour)):\(two(time.minute)):\(two(time.second)).\(milliseconds)Z"
    }

    /// Sleeps without a loop.
    static func rest(_ time: Duration) {
        let rest = Monitor<Void>(())
        let _: Void? = rest.wait(until: MonotonicClock.now() + time) { _ in nil }
    }
}

/// An AIS code of a Client room with the service's own words.
enum CallErrorText {
    static func of(_ error: AisError, _ words: String = "", isAnswer: Bool = false) -> CallError {
        var words = words
        return isAnswer
            ? words.withUTF8 { CallError(error, said: UnsafeRawBufferPointer($0)) } : CallError(error, words)
    }
}
