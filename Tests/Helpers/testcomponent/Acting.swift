import AmfClient
import EngineKit
import OSAL
import SwiftSAF

/// A component whose work others can see: one line for each act, in a file that all nodes of a lab share. The order of
/// the lines is the kernel's, so it is the order of the acts.
final class Actor: Sendable {
    private let isActive = Lock(false)
    private let descriptor: SharedDescriptor
    private let prefix: String

    init(_ path: String) throws {
        descriptor = SharedDescriptor(try File.openForAppending(path))
        prefix = "\(Environment.get("SAF_NODE_ID") ?? "0") \(MonotonicClock.now().nanoseconds)"
    }

    /// When this returns with false, nothing more is written.
    func set(_ isActive: Bool) { self.isActive.withLock { $0 = isActive } }

    func start() {
        _ = try? OSThread.spawn(name: "actor") { [self] in
            while true {
                isActive.withLock { if $0 { act() } }
                OSThread.sleep(.milliseconds(1))
            }
        }
    }

    private func act() {
        let line = ContiguousArray("\(prefix) \(MonotonicClock.now().nanoseconds)\n".utf8)
        line.withUnsafeBufferPointer { _ = try? IO.write(descriptor.raw, UnsafeRawBufferPointer($0)) }
    }
}

extension Behaviour {
    static func act(_ path: String) async {
        do {
            let actor = try Actor(path)
            actor.start()
            let component = try await Component.register()
            for await assignment in component.assignments {
                switch assignment.action {
                case .set(.active, _): actor.set(true)
                case .set, .remove, .terminate: actor.set(false)
                }
                assignment.complete()
                if case .set(.quiescing, let csi) = assignment.action { component.quiescingComplete(csi.name) }
                if assignment.action == .terminate { break }
            }
            waitForEver(atMost: .milliseconds(200))
        } catch {
            StandardError.write("testcomponent: cannot act: \(error)\n")
            Environment.exit(1)
        }
        Environment.exit(0)
    }
}
