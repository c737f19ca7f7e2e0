import AmfEngine
import AmfProtocol
import EngineKit
import OSAL
import SAFTypes

/// What the cluster engine needs for the death of an active component, beside waking one thread: the least that news of
/// a death costs before anybody can decide anything.
enum ClusterBenches {
    static func all() throws -> [Comparison] {
        let floor = try WakeFloor()
        return try [1, 200].map { groups in
            let world = try ClusterWorld(groups: groups)
            return Comparison(
                name: "amfd.death.\(2 * groups)-components",
                subject: Work(timing: "the report to the orders") { count in
                    var taken = Duration.zero
                    for _ in 0..<count { taken += try world.killActive() }
                    return taken
                },
                peer: Work("waking a thread") { try floor.wake($0) })
        }
    }
}

/// A cluster engine with components that do at once what they are told.
private final class ClusterWorld {
    private var engine = ClusterEngine()
    private let node = NodeID(1)
    private var now = Instant.start
    private var pid: Int32 = 1
    /// The active component of the group whose active is killed.
    private var active: (component: SaName, instance: InstanceNumber)?

    init(groups: Int) throws {
        feed(.model(Self.model(groups: groups)))
        feed(.nodeJoined(node, incarnation: 1, living: []))
        feed(.timer(.startup))
        guard active != nil else { throw BenchError("no component of the model became active") }
    }

    /// The time the engine takes to answer the death; what follows until all is repaired is not counted.
    func killActive() throws -> Duration {
        guard let victim = active else { throw BenchError("nobody is active") }
        active = nil
        now = now + .seconds(1)
        let report = NodeReport.failed(
            victim.component, victim.instance, recovery: .noRecommendation, isDead: true, cause: .died)
        let start = MonotonicClock.now()
        let effects = engine.handle(.report(node, report), at: now)
        let taken = MonotonicClock.now() - start
        answer(effects)
        guard active != nil else { throw BenchError("nobody took over from \(victim.component)") }
        return taken
    }

    private func feed(_ event: ClusterEvent) { answer(engine.handle(event, at: now)) }

    private func answer(_ effects: [ClusterEffect]) {
        for effect in effects {
            if case .order(_, let order) = effect, let report = report(on: order) { feed(.report(node, report)) }
        }
    }

    private func report(on order: NodeOrder) -> NodeReport? {
        switch order {
        case .instantiate(let component, let instance, _):
            pid = pid < 4_000_000 ? pid + 1 : 2
            return .instantiated(component, instance, pid: pid, startedAt: 1)
        case .terminate(let component, let instance), .cleanup(let component, let instance):
            return .uninstantiated(component, instance)
        case .confirm: return nil
        case .csiSet(let set):
            if set.haState == .active, set.descriptor.csi.map({ "\($0)".contains("safSi=G0,") }) == true {
                active = (set.component, set.instance)
            }
            return .answered(set.component, set.instance, set.invocation)
        case .csiRemove(let remove): return .answered(remove.component, remove.instance, remove.invocation)
        }
    }

    private static func model(groups: Int) -> AmfModel {
        var model = AmfModel()
        model.nodes = [NodeModel(name: "node1", id: NodeID(1))]
        model.nodes[0].suFailoverMax = .max
        var application = ApplicationModel(name: "bench")
        for number in 0..<groups {
            var group = ServiceGroupModel(name: "G\(number)", .twoN)
            group.serviceUnits = (1...2).map { rank in
                var unit = ServiceUnitModel(name: "SU\(rank)", node: "node1", rank: UInt32(rank))
                var component = ComponentModel(name: "C", command: "/bin/true")
                component.csiTypes = [SupportedCSIType("work")]
                component.recoveryOnError = .componentFailover
                unit.components = [component]
                return unit
            }
            application.serviceGroups.append(group)
            var instance = ServiceInstanceModel(name: "G\(number)", serviceGroup: "G\(number)")
            instance.csis = [CSIModel(name: "work", type: "work")]
            application.serviceInstances.append(instance)
        }
        model.applications = [application]
        return model
    }
}

/// A thread that sleeps on a futex word and hands the baton back: two wakings a turn.
private final class WakeFloor {
    private let word: UnsafeMutablePointer<UInt32>
    private let thread: OSThread

    init() throws {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)  // lives as long as the program
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
        word = memory.assumingMemoryBound(to: UInt32.self)
        nonisolated(unsafe) let shared = memory
        thread = try OSThread.spawn(name: "woken") {
            while true {
                WakeFloor.await(1, at: shared)
                WakeFloor.set(0, at: shared)
            }
        }
    }

    /// `count` wakings: there and back are two.
    func wake(_ count: Int) throws {
        let memory = UnsafeMutableRawPointer(word)
        for _ in 0..<max(1, count / 2) {
            Self.set(1, at: memory)
            Self.await(0, at: memory)
        }
    }

    private static func await(_ value: UInt32, at memory: UnsafeMutableRawPointer) {
        let atomic = memory.atomic(UInt32.self)
        let raw = UnsafeRawPointer(memory).assumingMemoryBound(to: UInt32.self)
        while true {
            let seen = atomic.pointee.load(ordering: .acquiring)
            if seen == value { return }
            _ = try? Futex.wait(raw, expected: seen, deadline: nil)  // whatever it says, the word is looked at again
        }
    }

    private static func set(_ value: UInt32, at memory: UnsafeMutableRawPointer) {
        memory.atomic(UInt32.self).pointee.store(value, ordering: .releasing)
        Futex.wake(UnsafeRawPointer(memory).assumingMemoryBound(to: UInt32.self), count: 1)
    }
}
