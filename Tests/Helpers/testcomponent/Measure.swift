import AmfClient
import AmfProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization

/// When a component was last told to be active: a word to wait on and the time, in a RAM file that every component of a
/// measurement maps.
struct ActiveStamp {
    private let mapping: Mapping

    static func path(_ places: Places) -> String { places.shmDirectory + "/stamp" }

    init?(creating: Bool) {
        let places = Places.fromEnvironment()
        let file =
            creating
            ? try? SharedFile.create(Self.path(places), size: Mapping.pageBytes, mode: 0o600)
            : try? SharedFile.open(Self.path(places), writable: true)
        guard let file else { return nil }
        mapping = file.mapping
    }

    func mark() {
        mapping.base.atomic(UInt64.self, at: 8).pointee.store(MonotonicClock.now().nanoseconds, ordering: .releasing)
        mapping.base.atomic(UInt32.self).pointee.add(1, ordering: .releasing)
        Futex.wake(word)
    }

    var count: UInt32 { mapping.base.atomic(UInt32.self).pointee.load(ordering: .acquiring) }
    var time: UInt64 { mapping.base.atomic(UInt64.self, at: 8).pointee.load(ordering: .acquiring) }
    var word: UnsafePointer<UInt32> { UnsafePointer(mapping.base.assumingMemoryBound(to: UInt32.self)) }
}

/// `testcomponent measure N`: kills the active of the running node N times; prints the floor and the times from the
/// kill to the standby's CSISet(active), in microseconds.
enum Measure {
    static func failovers(_ count: Int) {
        let admin = AdminClient()
        guard let stamp = ActiveStamp(creating: false) ?? ActiveStamp(creating: true) else {
            return StandardError.write("no stamp file\n")
        }
        report("floor: SEQPACKET round trip", floor(2_000))
        var times: [Double] = []
        var lastCount: UInt32 = 0
        while times.count < count {
            guard let active = settled(admin, stamp) else { return StandardError.write("the node does not settle\n") }
            lastCount = stamp.count
            let start = MonotonicClock.now()
            _ = try? Process.kill(active, .kill)  // checked by its consequence
            let deadline = start + .seconds(10)
            while stamp.count == lastCount, MonotonicClock.now() < deadline {
                _ = try? Futex.wait(stamp.word, expected: lastCount, deadline: deadline)
            }
            guard stamp.time > start.nanoseconds else {
                return StandardError.write("no new active within 10 s of kill \(times.count + 1)\n")
            }
            times.append(Double(stamp.time - start.nanoseconds) / 1_000)
        }
        report("failover: SIGKILL to CSISet(active)", times)
    }

    /// The model to measure with, in wire form: 2N, two components that hold `mebibytes` each.
    static func writeModel(mebibytes: Int) {
        var group = ServiceGroupModel(name: "SG", .twoN)
        // Many kills in a short time are the purpose here.
        group.componentRestartMax = .max
        let node = Places.fromEnvironment().nodeName
        for number in 1...2 {
            var unit = ServiceUnitModel(name: "SU\(number)", node: node, rank: UInt32(number))
            var component = ComponentModel(name: "C\(number)", command: "testcomponent")
            component.arguments = ["run", String(mebibytes)]
            component.csiTypes = [SupportedCSIType("work")]
            unit.components = [component]
            group.serviceUnits.append(unit)
        }
        var instance = ServiceInstanceModel(name: "SI", serviceGroup: "SG")
        instance.csis = [CSIModel(name: "CSI", type: "work")]
        var application = ApplicationModel(name: "App")
        application.serviceGroups = [group]
        application.serviceInstances = [instance]
        var model = AmfModel()
        var own = NodeModel(name: node, id: NodeID(1))
        own.suFailoverMax = .max
        model.nodes = [own]
        model.applications = [application]
        model.encoded.withUnsafeBytes { try? IO.writeAll(StandardOutput.raw, $0) }  // an empty model is refused
    }

    /// The pid of the active once the standby has registered again and everything is quiet.
    private static func settled(_ admin: AdminClient, _ stamp: ActiveStamp) -> Int32? {
        let deadline = MonotonicClock.now() + .seconds(20)
        while MonotonicClock.now() < deadline {
            Behaviour.pause(.milliseconds(30))
            guard let status = try? admin.status() else { continue }
            let all = status.applications.filter { !$0.isMiddleware }.flatMap(\.serviceGroups).flatMap(\.serviceUnits)
                .flatMap(\.components)
            let isStandby = all.contains { $0.assignments.contains { $0.haState == .standby } }
            let active = all.first { $0.assignments.contains { $0.haState == .active } }
            if isStandby, let active { return active.pid }
        }
        return nil
    }

    private static func floor(_ count: Int) -> [Double] {
        guard let pair = try? UnixSocket.pair(kind: .seqPacket), let program = Environment.executablePath else {
            return []
        }
        guard (try? pair.first.setNonBlocking(false)) != nil, (try? pair.second.setNonBlocking(false)) != nil else {
            return []
        }
        var options = SpawnOptions(path: program, arguments: [program, "echo"])
        options.descriptors = [DescriptorMapping(pair.second.raw, as: 3)]
        guard let child = try? Process.spawn(options) else { return [] }
        defer {
            _ = try? Process.kill(child.pid, .kill)
            _ = try? IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(5))
            _ = Process.reap(child.pid)
        }
        var times: [Double] = []
        var buffer = [UInt8](repeating: 0, count: 64)
        for _ in 0..<count {
            let start = MonotonicClock.now()
            buffer.withUnsafeBytes { _ = try? IO.write(pair.first.raw, $0) }
            buffer.withUnsafeMutableBytes { _ = try? IO.read(pair.first.raw, into: $0) }
            times.append(Double((MonotonicClock.now() - start).nanoseconds) / 1_000)
        }
        return times
    }

    static func echo() {
        var buffer = [UInt8](repeating: 0, count: 64)
        while true {
            let count = buffer.withUnsafeMutableBytes { (try? IO.read(3, into: $0)) ?? 0 }
            if count == 0 { return }
            buffer.withUnsafeBytes { _ = try? IO.write(3, $0) }
        }
    }

    private static func report(_ name: String, _ times: [Double]) {
        guard !times.isEmpty else { return StandardOutput.write("\(name): not measured\n") }
        let sorted = times.sorted()
        let (half, most) = (sorted[sorted.count / 2], sorted[min(sorted.count - 1, sorted.count * 99 / 100)])
        StandardOutput.write(
            "\(name): n \(times.count) min \(sorted[0]) p50 \(half) p99 \(most) max \(sorted[sorted.count - 1])\n")
    }
}
