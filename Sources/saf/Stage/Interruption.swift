import EngineKit
import OSAL

/// What is left to clean up when this program is interrupted: its private nodes with all their processes and folders.
public enum Interruption {
    private static let nodes = Lock<[String: Places]>([:])
    private static let others = Lock<[String: @Sendable () -> Void]>([:])

    /// Something else to clean up when this program is interrupted, done on another thread; nil: no longer.
    public static func atEnd(_ name: String, _ cleanUp: (@Sendable () -> Void)?) {
        others.withLock { $0[name] = cleanUp }
    }

    static func add(_ folder: String, _ places: Places) { nodes.withLock { $0[folder] = places } }
    static func remove(_ folder: String) { nodes.withLock { $0[folder] = nil } }

    /// From now on SIGINT, SIGTERM and SIGHUP kill what the private nodes run, remove their folders and end this
    /// program with 128 and the signal's number. Call it first in `main`, before any thread is started.
    public static func cleanUpNodes() {
        do throws(OSError) {
            let signals = try SignalDescriptor(blocking: [.interrupt, .terminate, .hangup])
            let waiting = SharedSignals(signals)
            _ = try OSThread.spawn(name: "interruption") {
                while true {
                    // Again after whatever ended the wait.
                    _ = try? IO.waitUntil(waiting.signals.raw, readable: true, deadline: nil)
                    if let information = waiting.signals.next() { end(information.signal) }
                }
            }
        } catch {
            StandardError.write("an interruption will leave processes behind: \(error)\n")
        }
    }

    private static func end(_ signal: SignalNumber) -> Never {
        let others = others.withLock { $0 }
        for name in others.keys.sorted() { others[name]?() }
        let left = nodes.withLock { $0 }
        for folder in left.keys.sorted() {
            guard let places = left[folder] else { continue }
            // Guard and amfd start each other again: first nobody goes on, then all end, until nobody is left.
            let deadline = MonotonicClock.now() + .seconds(10)
            var running = PrivateNode.processes(in: places)
            while !running.isEmpty, MonotonicClock.now() < deadline {
                for signal in [SignalNumber.stop, .kill] {
                    for process in running { _ = try? Process.kill(process.pid, signal) }  // gone by itself is as good
                }
                running = PrivateNode.processes(in: places)
            }
            try? File.removeTree(places.shmDirectory)
            try? File.removeTree(folder)
        }
        Environment.exit(128 + signal.rawValue)
    }

    private final class SharedSignals: Sendable {
        let signals: SignalDescriptor
        init(_ signals: consuming SignalDescriptor) { self.signals = signals }
    }
}
