import AmfClient
import EngineKit
import OSAL
import SwiftSAF

/// A component whose work is to write a checkpoint, and whose every acknowledged write others see in a file: one line
/// as ``Actor`` writes it. What the checkpoint refused, and what somebody else has written over its own, is a line of
/// its own: "refused NODE LIFE", "overwritten NODE LIFE".
final class CheckpointActor: Sendable {
    private let isActive = Lock(false)
    private let descriptor: SharedDescriptor
    private let life: String
    private static let name = SaName("safCkpt=acts")!  // it is short

    init(_ path: String) throws {
        descriptor = SharedDescriptor(try File.openForAppending(path))
        life = "\(Environment.get("SAF_NODE_ID") ?? "0") \(MonotonicClock.now().nanoseconds)"
    }

    func set(_ isActive: Bool) { self.isActive.withLock { $0 = isActive } }

    func start() {
        _ = try? OSThread.spawn(name: "actor") { [self] in
            let checkpoint = open()
            var last: [UInt8]?
            var count = 0
            while true {
                if isActive.withLock({ $0 }) {
                    count += 1
                    last = act(checkpoint, count, after: last)
                } else {
                    last = nil
                }
                OSThread.sleep(.milliseconds(2))
            }
        }
    }

    /// Every node has it open, so each has a replica.
    private func open() -> Checkpoint {
        let attributes = CreationAttributes(
            flags: .writeAllReplicas, checkpointSize: 256, retentionDuration: 600_000_000_000, sectionsMax: 1,
            sectionSizeMax: 256)
        while true {
            if let checkpoint = try? Checkpoint.openBlocking(Self.name, creating: attributes) { return checkpoint }
            OSThread.sleep(.milliseconds(50))
        }
    }

    /// Returns what it has written; nil when it does not know.
    private func act(_ checkpoint: Checkpoint, _ count: Int, after last: [UInt8]?) -> [UInt8]? {
        do throws(AisError) {
            if let last, try checkpoint.readBlocking() != last {
                tell("overwritten \(life)")
                return nil
            }
            let data = Array("\(life) \(count)".utf8)
            try checkpoint.overwriteBlocking(.defaultSection, data)
            // What was done before the node was frozen may be answered long after: it counts if it still stands.
            guard try checkpoint.readBlocking() == data else {
                tell("overwritten \(life)")
                return nil
            }
            tell("\(life) \(MonotonicClock.now().nanoseconds)")
            return data
        } catch {
            if error == .access { tell("refused \(life)") }
            return nil
        }
    }

    private func tell(_ text: String) {
        let line = ContiguousArray("\(text)\n".utf8)
        line.withUnsafeBufferPointer { _ = try? IO.write(descriptor.raw, UnsafeRawBufferPointer($0)) }
    }
}

extension Behaviour {
    static func write(_ path: String) async {
        do {
            let actor = try CheckpointActor(path)
            actor.start()
            let component = try await Component.register()
            for await assignment in component.assignments {
                if case .set(.active, _) = assignment.action { actor.set(true) } else { actor.set(false) }
                assignment.complete()
                if case .set(.quiescing, let csi) = assignment.action { component.quiescingComplete(csi.name) }
                if assignment.action == .terminate { break }
            }
            waitForEver(atMost: .milliseconds(200))
        } catch {
            StandardError.write("testcomponent: cannot write: \(error)\n")
            Environment.exit(1)
        }
        Environment.exit(0)
    }
}
