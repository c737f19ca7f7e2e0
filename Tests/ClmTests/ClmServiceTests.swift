import ClmClient
import ClmProtocol
import ClmShell
import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes
import Testing

/// Directories of one test, removed with it.
final class TemporaryPlaces: Sendable {
    let root: String
    let places: Places

    init() throws {
        root = try File.makeTemporaryDirectory("/tmp/clm-")
        places = Places(
            runDirectory: root + "/run", shmDirectory: root + "/shm", stateDirectory: root + "/state",
            logDirectory: root + "/log", configDirectory: root + "/config", nodeName: "here")
    }

    deinit { try? File.removeTree(root) }
}

/// A clmd on a thread of its own.
final class RunningClmd {
    private let loop: Loop
    private let thread: OSThread

    init(_ places: Places) throws {
        let loop = try Loop(name: "clmd")
        let started = Monitor<Result<Void, OSError>?>(nil)
        thread = try OSThread.spawn(name: "clmd", stackSize: 1 << 20) {
            do throws(OSError) {
                let daemon = try ClmDaemon(
                    loop: loop, places: places, description: .alone(name: SaName(places.nodeName) ?? SaName([0x61])!)
                ) { _ in }
                started.update { $0 = .success(()) }
                loop.run()
                daemon.close()
            } catch {
                started.update { $0 = .failure(error) }
            }
        }
        self.loop = loop
        let outcome = started.wait(until: MonotonicClock.now() + .seconds(10)) { $0 }
        try #require(outcome).get()
    }

    func stop() {
        loop.stop()
        thread.join()
    }
}

/// Collects what a subscriber hears.
final class Heard: Sendable {
    private let events = Monitor<[TopologyEvent]>([])

    func add(_ event: TopologyEvent) { events.update { $0.append(event) } }

    var all: [TopologyEvent] { events.update { $0 } }

    /// Waits until `count` events are there.
    func first(_ count: Int) -> [TopologyEvent] {
        events.wait(until: MonotonicClock.now() + .seconds(20)) { $0.count >= count ? $0 : nil } ?? all
    }
}

@Suite("clmd and its clients")
struct ClmServiceTests {
    @Test("Bind, look up, subscribe, withdraw; a client's end withdraws what it bound")
    func names() throws {
        let temporary = try TemporaryPlaces()
        let clmd = try RunningClmd(temporary.places)
        defer { clmd.stop() }
        let provider = ClusterClient(places: temporary.places)
        let user = ClusterClient(places: temporary.places)
        defer { user.close() }
        let heard = Heard()
        _ = try user.subscribe(ServiceRange(allOf: 100)) { heard.add($0) }
        let first = try provider.bind(ServiceRange(type: 100, instance: 7), to: PortID(5), incarnation: 9)
        #expect(first.address == PortAddress(node: NodeID(1), port: 5, incarnation: 9))
        #expect(heard.first(1) == [.published(first)])
        #expect(try user.lookup(type: 100, instance: 7) == [first.address])
        #expect(user.resolver(.service(type: 100, instance: 7), MonotonicClock.now() + .seconds(5)) == .port(PortID(5)))
        #expect(user.resolver(.service(type: 4, instance: 0), MonotonicClock.now() + .seconds(5)) == .wellKnown(.ckptd))
        #expect(throws: AisError.invalidParam) {
            _ = try provider.bind(ServiceRange(type: 63, instance: 0), to: PortID(5), incarnation: 9)
        }
        let second = try provider.bind(ServiceRange(type: 100, instance: 8), to: PortID(5), incarnation: 9)
        try provider.unbind(first)
        #expect(heard.first(3) == [.published(first), .published(second), .withdrawn(first)])
        provider.close()
        #expect(heard.first(4).last == .withdrawn(second))
    }

    @Test("CLM B.01.01: the node, the view, and a view number that grows only when the node starts again")
    func membership() throws {
        let temporary = try TemporaryPlaces()
        var clmd = try RunningClmd(temporary.places)
        let client = ClusterClient(places: temporary.places)
        defer { client.close() }
        let node = try client.node()
        #expect(node.name == SaName("here"))
        #expect(node.nodeID == NodeID(1))
        #expect(node.isMember)
        #expect(node.bootTimestamp > 0)
        let view = try client.currentView()
        #expect(
            view == ClusterView(viewNumber: 1, memberCount: 1, notifications: [.init(node: node, change: .noChange)]))
        #expect(throws: AisError.notExist) { try client.node(NodeID(2), timeout: .seconds(1)) }
        clmd.stop()
        clmd = try RunningClmd(temporary.places)
        #expect(try client.currentView() == view)
        clmd.stop()
        for memory in [temporary.places.runDirectory, temporary.places.shmDirectory] { try File.removeTree(memory) }
        clmd = try RunningClmd(temporary.places)
        #expect(try client.currentView().viewNumber == 2)
        #expect(try client.node().initialViewNumber == 2)
        clmd.stop()
    }

    @Test("CLM B.04.01: a lock asks the trackers first; the node is no member until it is unlocked")
    func administration() async throws {
        let temporary = try TemporaryPlaces()
        let clmd = try RunningClmd(temporary.places)
        defer { clmd.stop() }
        let tracker = ClusterClient(places: temporary.places)
        let administrator = ClusterClient(places: temporary.places)
        defer {
            tracker.close()
            administrator.close()
        }
        let steps = Monitor<[ClusterView]>([])
        let views = Monitor<[ClusterView]>([])
        func wait(_ monitor: Monitor<[ClusterView]>, _ count: Int) throws -> [ClusterView] {
            let deadline = MonotonicClock.now() + .seconds(20)
            return try #require(monitor.wait(until: deadline) { $0.count >= count ? $0 : nil })
        }
        #expect(throws: AisError.badFlags) { try tracker.track([.changes, .changesOnly]) { _ in } }
        let number = try tracker.track([.changesOnly, .local]) { view in views.update { $0.append(view) } }
        try tracker.trackSteps { view in
            steps.update { $0.append(view) }
            return view.step == .validate ? .rejected : nil
        }
        #expect(try await tracker.member().isMember)
        #expect(throws: AisError.failedOperation) { try administrator.administer(.shutdown, NodeID(1)) }
        #expect(try wait(steps, 2).map(\.step) == [.validate, .aborted])
        // A thread of its own: tests that wait may have all of the tasks'.
        let outcome = Monitor<Result<Void, AisError>?>(nil)
        let locking = try OSThread.spawn(name: "administrator") {
            do throws(AisError) {
                try administrator.administer(.lock, NodeID(1), timeout: .seconds(20))
                outcome.update { $0 = .success(()) }
            } catch {
                outcome.update { $0 = .failure(error) }
            }
        }
        let start = try wait(steps, 3)[2]
        #expect(start.step == .start && start.rootCause == NodeID(1))
        #expect(try tracker.node().isMember, "not before the tracker has answered")
        try tracker.respond(start.invocation, .ok)
        locking.join()
        try outcome.wait(until: MonotonicClock.now()) { $0 }?.get()
        #expect(throws: AisError.notExist) { try tracker.respond(start.invocation, .ok) }
        let left = try wait(views, 1)[0]
        #expect(left.viewNumber == 2 && left.notifications.map(\.change) == [.left] && !left.isLocalMember)
        #expect(try !tracker.node().isMember)
        #expect(throws: AisError.noOp) { try administrator.administer(.lock, NodeID(1)) }
        try administrator.administer(.unlock, NodeID(1))
        #expect(try wait(views, 2)[1].isLocalMember)
        #expect(try tracker.node().initialViewNumber == 3)
        tracker.stopTracking(number)
    }

    @Test("A restart of clmd is not seen by subscribers; who died meanwhile is withdrawn")
    func restart() throws {
        let temporary = try TemporaryPlaces()
        var clmd = try RunningClmd(temporary.places)
        let stays = ClusterClient(places: temporary.places)
        let dies = ClusterClient(places: temporary.places)
        let user = ClusterClient(places: temporary.places)
        defer {
            stays.close()
            user.close()
        }
        let heard = Heard()
        _ = try user.subscribe(ServiceRange(allOf: 100)) { heard.add($0) }
        let staying = try stays.bind(ServiceRange(type: 100, instance: 1), to: PortID(1), incarnation: 1)
        let dying = try dies.bind(ServiceRange(type: 100, instance: 2), to: PortID(2), incarnation: 1)
        #expect(heard.first(2) == [.published(staying), .published(dying)])
        clmd.stop()
        dies.close()
        clmd = try RunningClmd(temporary.places)
        defer { clmd.stop() }
        #expect(try user.lookup(type: 100, instance: 1) == [staying.address])
        #expect(heard.first(3) == [.published(staying), .published(dying), .withdrawn(dying)])
        let late = try stays.bind(ServiceRange(type: 100, instance: 3), to: PortID(1), incarnation: 1)
        #expect(heard.first(4).last == .published(late))
    }

    @Test("A second clmd for the same places is refused with the reason")
    func second() throws {
        let temporary = try TemporaryPlaces()
        let clmd = try RunningClmd(temporary.places)
        defer { clmd.stop() }
        #expect(throws: OSError.self) { try RunningClmd(temporary.places) }
    }

    @Test("A damaged journal and a damaged record are told and made anew")
    func damaged() throws {
        let temporary = try TemporaryPlaces()
        for (folder, file) in [("shm", "clmd.names"), ("run", "clmd.member"), ("state", "clmd.member")] {
            try File.makeDirectories("\(temporary.root)/\(folder)")
            try File.writeAtomically("\(temporary.root)/\(folder)/\(file)", text: "nonsense", durable: false)
        }
        let clmd = try RunningClmd(temporary.places)
        defer { clmd.stop() }
        let client = ClusterClient(places: temporary.places)
        defer { client.close() }
        #expect(try client.currentView().viewNumber == 1)
    }
}
