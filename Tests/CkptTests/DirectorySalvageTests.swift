import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

/// Replicas that are away, and may come back with more than there is, or with what is no more.
@Suite("Directory: who is away")
struct DirectorySalvageTests {
    static let id = CheckpointID(rawValue: 1 << 40 + 7)
    static let name: SaName = {
        guard let name = SaName("safCkpt=x") else { preconditionFailure("a name") }
        return name
    }()

    /// A directory of three nodes and what happens to it, a millisecond after the other.
    private struct World {
        var directory = Directory()
        var now = Instant(nanoseconds: 1_000_000_000)
        var attributes = CreationAttributes(
            flags: .writeAllReplicas, checkpointSize: 4_096, retentionDuration: 60_000_000_000, sectionsMax: 4,
            sectionSizeMax: 1_024)
        var life: UInt64 = 10
        var lives: [UInt32: UInt64] = [:]
        var version: UInt16 = Directory.versions.upperBound

        init(isPersistent: Bool = false) {
            if isPersistent { attributes.flags.insert(.persistent) }
        }

        @discardableResult
        mutating func tell(_ event: DirectoryEvent) -> [DirectoryEffect] {
            now = now + .milliseconds(1)
            return directory.handle(event, version: version, at: now)
        }

        /// - Parameter change: of the replica it comes with; nil: it has none.
        @discardableResult
        mutating func join(
            _ node: UInt32, _ change: UInt64? = nil, epoch: UInt64 = 1, lineage: UInt64 = 5, isUnlinked: Bool = false
        ) -> [DirectoryEffect] {
            life += 1
            lives[node] = life
            var held: [HeldReplica] = []
            if let change {
                held = [
                    HeldReplica(
                        id: DirectorySalvageTests.id, name: DirectorySalvageTests.name, attributes: attributes,
                        version: ReplicaVersion(epoch: epoch, change: change),
                        retention: attributes.retentionDuration, isUnlinked: isUnlinked)
                ]
            }
            return tell(
                .joined(
                    NodeJoin(
                        node: NodeID(node), incarnation: life, nodesExpected: 3, time: 1_000 + life, lineage: lineage,
                        newLineage: 5, held: held, isLast: true)))
        }

        mutating func leave(_ nodes: UInt32...) {
            tell(.left(nodes.map { NodeLife(node: NodeID($0), incarnation: lives[$0] ?? 0) }))
        }

        mutating func open(on node: UInt32) {
            tell(
                .open(
                    DirectorySalvageTests.name, handle: HandleID(rawValue: UInt64(node)), on: NodeID(node),
                    id: DirectorySalvageTests.id, attributes: attributes))
        }

        mutating func becomesCurrent(_ node: UInt32) {
            tell(.current(DirectorySalvageTests.id, NodeID(node), epoch: entry?.epoch ?? 0))
        }

        mutating func report(_ node: UInt32, _ change: UInt64) {
            let report = ReplicaReport(
                id: DirectorySalvageTests.id, epoch: entry?.epoch ?? 0,
                version: ReplicaVersion(epoch: 1, change: change))
            tell(.report(NodeID(node), [report]))
        }

        var entry: DirectoryEntry? { directory.entry(DirectorySalvageTests.id) }
        func state(_ node: UInt32) -> ReplicaState? { entry?.replicas[NodeID(node)] }

        /// Node 1 is active, 2 and 3 had less when they left, and nothing is left of 1.
        static func lost(version: UInt16 = Directory.versions.upperBound) -> World {
            var world = World()
            world.version = version
            for node: UInt32 in 1...3 { world.join(node) }
            for node: UInt32 in 1...3 { world.open(on: node) }
            world.becomesCurrent(2)
            world.becomesCurrent(3)
            world.leave(3)
            world.leave(2)
            world.leave(1)
            world.join(2, 5)
            world.join(1)
            return world
        }

        /// As another member that is told everything.
        func copy() throws -> World {
            var writer = ByteWriter()
            directory.encode(to: &writer, version: version)
            var copy = self
            copy.directory = try writer.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return try Directory(decoding: &reader, version: version)
            }
            return copy
        }
    }

    @Test("When all are lost that had everything, who left with a replica is waited for, and the newest is taken")
    func waits() throws {
        var world = World.lost()
        #expect(world.entry?.isElecting == false && world.entry?.isLost == false && world.entry?.active == nil)
        #expect(world.entry?.awaited == [NodeID(3)] && world.state(2) == .synchronising)
        // Nobody comes to a name that may yet have its data.
        world.open(on: 1)
        #expect(world.entry?.openers.contains(HandleID(rawValue: 1)) == true)
        var copy = try world.copy()
        for world in [world, copy] { #expect(world.entry?.awaited == [NodeID(3)]) }
        copy.join(3, 9)
        copy.report(2, 5)
        #expect(copy.entry?.active == nil, "one has not said what it has")
        copy.report(3, 9)
        #expect(copy.entry?.active == NodeID(3) && copy.state(2) == .synchronising)
        #expect(copy.entry?.awaited == [])
        // Who comes back with nothing is not waited for either.
        world.join(3)
        world.report(2, 5)
        #expect(world.entry?.active == NodeID(2))
    }

    @Test("Who does not come back within the time, or when an operator gives up waiting, is not waited for")
    func givesUp() {
        var waiting = World.lost()
        var told = World.lost()
        told.tell(.salvageOver(Self.id))
        told.report(2, 5)
        #expect(told.entry?.active == NodeID(2))
        let again = told.tell(.salvageOver(Self.id))
        #expect(again.contains { if case .refused(.badOperation, _) = $0 { true } else { false } })

        #expect(
            waiting.tell(.salvageOver(nil)).contains { if case .startTimer(.salvage, _) = $0 { true } else { false } })
        #expect(waiting.entry?.awaited == [NodeID(3)], "the time is not over")
        waiting.now = waiting.now + Directory.salvageMax
        waiting.tell(.salvageOver(nil))
        waiting.report(2, 5)
        #expect(waiting.entry?.active == NodeID(2))
        // What comes too late has less than there is.
        waiting.join(3, 9)
        #expect(waiting.state(3) == .synchronising && waiting.entry?.active == NodeID(2))
    }

    @Test("An operator may give up a node that is known to have everything")
    func givesUpAbsent() {
        var world = World()
        for node: UInt32 in 1...3 { world.join(node) }
        for node: UInt32 in 1...2 { world.open(on: node) }
        world.leave(1)
        #expect(world.entry?.awaited == [NodeID(1)] && world.state(2) == .synchronising)
        world.now = world.now + Directory.salvageMax * 10
        world.tell(.salvageOver(nil))
        #expect(world.entry?.awaited == [NodeID(1)], "it has all that was acknowledged: there is no time for that")
        world.tell(.salvageOver(Self.id))
        world.report(2, 5)
        #expect(world.entry?.active == NodeID(2) && world.state(1) == nil)
    }

    @Test("When who was chosen to be active leaves meanwhile, another can be chosen of what is left")
    func chosenLeaves() {
        var world = World()
        world.attributes.flags = [.writeActiveReplica, .collocated]
        for node: UInt32 in 1...3 { world.join(node) }
        for node: UInt32 in 1...3 { world.open(on: node) }
        world.tell(.setActive(Self.id, NodeID(1)))
        for node: UInt32 in 1...3 { world.report(node, 0) }
        #expect(world.entry?.active == NodeID(1))
        world.leave(2)
        world.leave(3)
        world.join(3, 5)
        world.open(on: 3)
        #expect(world.state(3) == .synchronising)
        world.tell(.setActive(Self.id, NodeID(3)))
        world.leave(1)
        world.join(1)
        #expect(world.entry?.awaited == [NodeID(2)])
        world.leave(3)
        world.join(3, 5)
        world.join(2)
        #expect(world.entry?.active == nil && world.entry?.isLost == false && world.entry?.awaited == [])
        world.tell(.setActive(Self.id, NodeID(3)))
        world.report(3, 5)
        #expect(world.entry?.active == NodeID(3))
    }

    @Test("Among members that speak version 2 everybody decides as they do: nobody is waited for")
    func olderMembers() throws {
        var old = World.lost(version: 2)
        #expect(old.entry?.awaited == [] && old.state(2) == .current && old.entry?.isElecting == true)
        old.report(2, 5)
        #expect(old.entry?.active == NodeID(2))
        // One of them comes while somebody is waited for.
        var new = World.lost()
        new.version = 2
        let copy = try new.copy()
        for var world in [new, copy] {
            world.leave(1)
            #expect(world.entry?.isElecting == true && world.entry?.departed == [])
            var writer = ByteWriter()
            world.directory.encode(to: &writer)
            #expect(try world.copy().directory.digest(version: 2) == world.directory.digest(version: 2))
        }
    }

    @Test("Data of an epoch that the directory has forgotten are not thrown away: the newest is elected")
    func forgottenEpoch() throws {
        var world = World(isPersistent: true)
        for node: UInt32 in 1...3 { world.join(node) }
        world.open(on: 1)
        world.open(on: 2)
        let known = try #require(world.entry?.epoch)
        world.leave(2)
        var before = world
        // Node 2 has led in a later epoch, alone among the ckptds, and whoever knew of that has lost its memory.
        world.join(2, 40, epoch: known + 3)
        let epoch = try #require(world.entry?.epoch)
        #expect(epoch > known + 3 && world.entry?.isElecting == true && world.entry?.active == nil)
        world.tell(
            .report(NodeID(1), [.init(id: Self.id, epoch: epoch, version: .init(epoch: known, change: 30))]))
        #expect(world.entry?.active == nil)
        world.tell(
            .report(NodeID(2), [.init(id: Self.id, epoch: epoch, version: .init(epoch: known + 3, change: 40))]))
        #expect(world.entry?.active == NodeID(2) && world.state(1) == .synchronising)
        // Of another directory, with clocks of its own, that says nothing.
        before.join(2, 40, epoch: known + 3, lineage: 77)
        #expect(before.entry?.active == NodeID(1) && before.state(2) == .synchronising)
    }

    @Test(
        "Who was found with more than others, and leaves before one is elected, is waited for",
        arguments: [false, true])
    func leavesBeforeElection(isBackBefore: Bool) throws {
        var world = World(isPersistent: true)
        world.join(2, 9, lineage: 0)
        world.leave(2)
        world.join(1, 3, lineage: 0)
        if isBackBefore {
            // And leaves once more: now there is another that was found.
            world.join(2, 9)
            world.leave(2)
        }
        world.join(3)
        world.tell(.recoveryOver)
        world.open(on: 1)
        world.report(1, 3)
        var copy = try world.copy()
        #expect(world.entry?.active == nil && world.entry?.awaited == [NodeID(2)] && world.entry?.isLost == false)
        world.join(2, 9)
        world.report(2, 9)
        world.report(1, 3)
        #expect(world.entry?.active == NodeID(2) && world.state(1) == .synchronising && world.entry?.awaited == [])
        // Nobody need wait: not when an operator says so, nor when it comes back without its replica.
        var alone = copy
        copy.tell(.salvageOver(Self.id))
        alone.join(2)
        #expect(copy.entry?.active == NodeID(1) && alone.entry?.active == NodeID(1))
    }

    @Test("Who is known to have no more than another that was found may leave")
    func leavesWithLess() {
        var world = World(isPersistent: true)
        world.join(1, 3, lineage: 0)
        world.join(2, 9)
        world.leave(1)
        world.tell(.recoveryOver)
        world.report(2, 9)
        #expect(world.entry?.active == NodeID(2) && world.entry?.awaited == [])
    }

    @Test("What one has acknowledged alone is passed over when the others have gone on before they hear of it")
    func passedOver() throws {
        var world = World(isPersistent: true)
        for node: UInt32 in 1...3 { world.join(node) }
        world.open(on: 1)
        world.open(on: 2)
        world.becomesCurrent(2)
        let known = try #require(world.entry?.epoch)
        // Node 2 leads alone in an epoch that nobody else hears of, and loses its power; the others' ckptds come back
        // with what they remember.
        world.leave(1, 2, 3)
        world.join(3)
        world.join(1, 30, epoch: known)
        #expect(world.entry?.awaited == [])
        #expect(world.entry?.active == NodeID(1))
        let epoch = try #require(world.entry?.epoch)
        #expect(epoch > known)
        world.join(2, 40, epoch: known + 1)
        #expect(world.entry?.active == NodeID(1) && world.state(2) == .synchronising)
    }

    @Test("That a replica is current, said of one that is dropped, is not believed of the next one on that node")
    func droppedWhileCurrent() throws {
        var world = World()
        world.attributes.flags = [.writeAllReplicas, .collocated]
        for node: UInt32 in 1...3 { world.join(node) }
        for node: UInt32 in 1...2 { world.open(on: node) }
        world.becomesCurrent(2)
        let epoch = try #require(world.entry?.epoch)
        world.tell(.close([OpenedHandle(Self.id, HandleID(rawValue: 2))]))
        #expect(world.state(2) == nil && world.entry?.active == NodeID(1))
        world.open(on: 2)
        // Node 2 had not heard yet that it is to drop the first one.
        world.tell(.current(Self.id, NodeID(2), epoch: epoch))
        #expect(world.state(2) == .synchronising)
        world.becomesCurrent(2)
        #expect(world.state(2) == .current)
    }

    // MARK: What is no more

    private static let identity = RequestIdentity(session: ClientSession(high: 1, low: 1), number: 3)

    private func isUnknown(_ effects: [DirectoryEffect], _ node: UInt32) -> Bool {
        effects.contains(.unknown(Self.id, NodeID(node)))
    }

    @Test("A persistent checkpoint that was unlinked does not come back with a node that did not hear of it")
    func unlinked() throws {
        var world = World(isPersistent: true)
        for node: UInt32 in 1...3 { world.join(node) }
        world.open(on: 1)
        world.open(on: 2)
        world.leave(2)
        world.tell(.unlink(Self.name, by: Self.identity))
        world.tell(.close([OpenedHandle(Self.id, HandleID(rawValue: 1))]))
        // What node 2 had open is closed when it does not come back.
        world.now = world.now + Directory.awayMax
        world.tell(.forgotten(NodeID(2)))
        #expect(world.entry == nil && world.directory.buried.ids == [Self.id])
        var copy = try world.copy()
        #expect(isUnknown(world.join(2, 4), 2), "to the same directory")
        #expect(isUnknown(copy.join(2, 4, lineage: 99), 2), "to one that has begun anew since")
        #expect(world.entry == nil && copy.entry == nil)
    }

    @Test("Nor in a cluster that begins anew, whoever comes first", arguments: [true, false])
    func unlinkedBeforeColdStart(isFirst: Bool) throws {
        var world = World(isPersistent: true)
        if isFirst { world.join(2, 4, lineage: 5) }
        for part in DirectoryMemory.parts(of: NodeID(1), DirectoryStamp(began: 3, index: 9), [], buried: [Self.id]) {
            world.tell(.remembered(part))
        }
        if !isFirst { #expect(isUnknown(world.join(2, 4, lineage: 77), 2)) }
        world.join(1)
        let effects = world.join(3)
        #expect(world.entry == nil && world.directory.entry(named: Self.name) == nil)
        if isFirst { #expect(effects.contains { if case .removed(Self.id, _) = $0 { true } else { false } }) }
        // A database that has not heard of it says that it was: that is older.
        #expect(world.directory.buried.contains(Self.id))
    }

    @Test("What its retention duration has ended does not come back either; what is not persistent is not remembered")
    func retained() {
        for isPersistent in [true, false] {
            var world = World(isPersistent: isPersistent)
            for node: UInt32 in 1...3 { world.join(node) }
            world.open(on: 1)
            world.tell(.close([OpenedHandle(Self.id, HandleID(rawValue: 1))]))
            world.now = world.now + .seconds(61)
            world.tell(.retentionOver(Self.id))
            #expect(world.entry == nil && world.directory.buried.count == (isPersistent ? 1 : 0))
        }
    }

    @Test("Who still has it open keeps it over a restart of all ckptds, unlinked")
    func unlinkedAndOpen() {
        var world = World(isPersistent: true)
        for part in DirectoryMemory.parts(of: NodeID(1), DirectoryStamp(began: 3, index: 9), [], buried: [Self.id]) {
            world.tell(.remembered(part))
        }
        let held = HeldReplica(
            id: Self.id, name: Self.name, attributes: world.attributes, version: ReplicaVersion(epoch: 1, change: 4),
            retention: 5, isUnlinked: true, openers: [HandleID(rawValue: 1)])
        world.tell(
            .joined(
                NodeJoin(
                    node: NodeID(1), incarnation: 1, nodesExpected: 3, time: 1_000, lineage: 0, newLineage: 5,
                    held: [held], isLast: true)))
        world.join(2, 4)
        world.join(3)
        #expect(world.entry?.isUnlinked == true && world.directory.entry(named: Self.name) == nil)
        world.tell(.close([OpenedHandle(Self.id, HandleID(rawValue: 1))]))
        #expect(world.entry == nil)
    }

    @Test("A database that waited when all went down waits again, also for who had left with a replica")
    func waitsAfterColdStart() throws {
        let lost = World.lost()
        let known = try #require(lost.entry.flatMap { RememberedCheckpoint($0) })
        #expect(known.departed == [NodeID(3)] && known.holders.isEmpty)
        var world = World()
        for part in DirectoryMemory.parts(of: NodeID(1), DirectoryStamp(began: 3, index: 9), [known]) {
            world.tell(.remembered(part))
        }
        world.join(1)
        world.join(2, 5)
        world.tell(.recoveryOver)
        #expect(world.entry?.active == nil && world.entry?.awaited == [NodeID(3)])
        world.join(3, 9)
        world.tell(
            .report(
                NodeID(2), [.init(id: Self.id, epoch: world.entry?.epoch ?? 0, version: .init(epoch: 1, change: 5))]))
        world.tell(
            .report(
                NodeID(3), [.init(id: Self.id, epoch: world.entry?.epoch ?? 0, version: .init(epoch: 1, change: 9))]))
        #expect(world.entry?.active == NodeID(3))
    }
}
