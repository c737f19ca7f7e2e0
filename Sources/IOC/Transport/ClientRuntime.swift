import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Synchronization

/// The background thread of a process that uses SwiftSAF ("saf-runtime"), started when first needed: it delivers pushes
/// and completes calls that do not block. What runs on it must not block for long; nested calls are allowed.
public final class ClientRuntime: Sendable {
    /// For what only the runtime's thread may touch: reach it through ``post(_:)``.
    public let loop: Loop
    private let thread: OSThread

    private static let instance = Mutex<ClientRuntime?>(nil)

    private init() throws(OSError) {
        let loop = try Loop(name: "saf-runtime")
        self.loop = loop
        thread = try OSThread.spawn(name: "saf-runtime", stackSize: 1 << 20) { loop.run() }
    }

    /// The process's runtime; nil when there is no thread or descriptor to be had.
    public static var shared: ClientRuntime? {
        instance.withLock { instance in
            if let runtime = instance { return runtime }
            instance = try? ClientRuntime()
            return instance
        }
    }

    /// From any thread: runs `job` on the runtime's thread; false when too many wait.
    @discardableResult
    public func post(_ job: @escaping @Sendable () -> Void) -> Bool { loop.post(.normal, job) }

    /// From any thread: runs `job` on the runtime's thread after `delay`.
    public func post(after delay: Duration, _ job: @escaping @Sendable () -> Void) {
        loop.post(.normal) { [loop] in loop.schedule(after: delay, job) }
    }
}

/// What the runtime watches for one link; touched on the runtime's thread only.
final class RuntimeWatch: @unchecked Sendable {
    let link: Link
    private var bell: WatchID?
    private var socket: WatchID?

    init(link: Link) { self.link = link }

    func start(_ loop: Loop, _ heard: @escaping () -> Void) {
        bell = try? loop.watch(link.ownBell.raw, [.read, .edgeTriggered], lane: .high) { _ in heard() }
        // As long as it is so, not once: while somebody else reads nobody looks at it here.
        socket = try? loop.watch(link.socket.raw, .read, lane: .high) { _ in heard() }
    }

    func stop(_ loop: Loop) {
        if let bell { loop.unwatch(bell) }
        if let socket { loop.unwatch(socket) }
        (bell, socket) = (nil, nil)
    }
}
