import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptLayout
@testable import CkptStore

/// An active replica on node 1 with two writers, one of them on node 3, and a follower on node 2.
private struct ReplicaPair {
    static let attributes = CreationAttributes(
        checkpointSize: 1 << 20, retentionDuration: 1_000, sectionsMax: 64, sectionSizeMax: 1 << 16)
    static let client = ClientSession(high: 1, low: 1)
    static let remote = ClientSession(high: 3, low: 3)

    let id: CheckpointID
    let handle: HandleID
    let remoteHandle = HandleID(rawValue: 3 << 52 | 99)
    var active: MemberNode
    var follower: MemberNode
    var random: SeededRandom
    var number: UInt64 = 0

    init(seed: UInt64, recorder: CrashRecorder = CrashRecorder(), limits: StoreLimits = .init()) throws {
        random = SeededRandom(seed: seed)
        active = MemberNode(1, limits: limits)
        follower = MemberNode(2, recorder: recorder, limits: limits)
        handle = HandleID(rawValue: active.engine.makeID())
        id = CheckpointID(rawValue: active.engine.makeID())
        let entry = try Self.entry(id, handle, remoteHandle)
        active.feed(.connected(Self.client, ProcessIdentity(id: 5, start: 6)))
        active.feed(.make(entry, time: 1))
        active.feed(.entry(id, entry))
        let origin = self.origin(handle)
        active.feed(.opened(id, active.engine.opener(handle, [.read, .write], origin)))
        follower.feed(.make(entry, time: 1))
        follower.feed(.entry(id, entry))
    }

    private static func entry(
        _ id: CheckpointID, _ handle: HandleID, _ remote: HandleID
    ) throws -> DirectoryEntry {
        var directory = Directory()
        for node: UInt32 in 1...3 {
            _ = directory.handle(
                .joined(
                    NodeJoin(
                        node: NodeID(node), incarnation: 1, nodesExpected: 3, time: 9, lineage: 0, newLineage: 1,
                        held: [], isLast: true)), at: .start)
        }
        let name = try #require(SaName("safCkpt=pair"))
        for (node, handle) in [(UInt32(1), handle), (3, remote)] {
            _ = directory.handle(
                .open(name, handle: handle, on: NodeID(node), id: id, attributes: attributes), at: .start)
        }
        return try #require(directory.entry(id))
    }

    func origin(_ handle: HandleID, number: UInt64 = 0) -> RequestOrigin {
        let session = handle == remoteHandle ? Self.remote : Self.client
        return RequestOrigin(
            identity: RequestIdentity(session: session, number: number), process: ProcessIdentity(id: 5, start: 6))
    }

    /// A random update at the active replica, by one of the writers.
    mutating func write(operationsMax: Int = 4, sizeMax: Int = 300) throws {
        var payload = [UInt8](repeating: 0xEE, count: 3)
        var operations: [SectionOperation] = []
        var known = active.engine.sections(of: id, limit: 100).map(\.descriptor.id).sorted()
        for _ in 0..<Int.random(in: 1...operationsMax, using: &random) {
            let data = (0..<Int.random(in: 0...sizeMax, using: &random)).map { _ in
                UInt8.random(in: .min ... .max, using: &random)
            }
            let slice = PayloadSlice(offset: payload.count, count: data.count)
            payload += data
            if known.isEmpty || (known.count < 12 && random.chance(percent: 25)) {
                let id: SectionID = SectionID(random.chance(percent: 50) ? "" : "s\(number)-\(operations.count)")
                operations.append(.init(kind: .create, id: id, expiration: .saTimeEnd, data: slice))
                if !id.isDefault { known.append(id) }
                continue
            }
            let section = known[Int.random(in: 0..<known.count, using: &random)]
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let offset = UInt64.random(in: 0...500, using: &random)
                operations.append(.init(kind: .write, id: section, offset: offset, data: slice))
            case 5..<8: operations.append(.init(kind: .overwrite, id: section, data: slice))
            case 8: operations.append(.init(kind: .setExpiration, id: section, expiration: .saTimeEnd - 5))
            default:
                operations.append(.init(kind: .delete, id: section))
                known.removeAll { $0 == section }
            }
        }
        number += 1
        active.time += 1
        let isRemote = random.chance(percent: 50)
        let request = CkptRequest.update(isRemote ? remoteHandle : handle, operations)
        let origin = origin(isRemote ? remoteHandle : handle, number: number)
        active.feed(
            isRemote
                ? .forwarded(request, origin, checkpoint: id, from: NodeID(3), time: active.time)
                : .request(request, origin, time: active.time), payload)
        #expect(active.told.contains(.wrote(id, change: change)))
    }

    var change: UInt64 { active.engine.replica(id)?.version.change ?? 0 }

    /// Everything the follower lacks is told, live or from the log.
    mutating func tell(isTolerant: Bool = false) throws {
        let has = follower.engine.replica(id)?.version.change ?? 0
        if has + 1 == change, random.chance(percent: 50) {
            return try follower.apply(id, change: change, active.update, isTolerant: isTolerant)
        }
        for (index, body) in try #require(active.logged(id, after: has)).enumerated() {
            try follower.apply(id, change: has + 1 + UInt64(index), body, isTolerant: isTolerant)
            let isApplied = follower.isApplied
            #expect(isApplied)
        }
    }

    func expectEqual(_ seed: UInt64) throws {
        let (first, second) = (try active.content(id), try follower.content(id))
        #expect(first.replica == second.replica, "seed \(seed)")
        #expect(first.nextSerial == second.nextSerial, "seed \(seed)")
        #expect(first.executed == second.executed, "seed \(seed)")
        #expect(first.sections.keys.sorted() == second.sections.keys.sorted(), "seed \(seed)")
        for (section, content) in first.sections {
            #expect(content.descriptor == second.sections[section]?.descriptor, "seed \(seed)")
            #expect(content.data == second.sections[section]?.data, "seed \(seed), section \(section)")
        }
    }

    mutating func startCopy() { follower.feed(.wipe(id, base: change)) }

    mutating func finishCopy(epoch: UInt64 = 4) throws {
        let history = EpochHistory(start: 1, previous: 2)
        let end = try #require(active.engine.copyEnd(of: id))
        try follower.finish(id, end, ReplicaVersion(epoch: epoch, change: change), history)
        active.feed(.keepEpoch(id, epoch: epoch, history))
    }
}

@Suite("Replicas with real stores")
struct ReplicaTests {
    private static let limits = StoreLimits(logBytesMin: 16 << 10)

    @Test("A follower that is told every update is equal, also after a restart", arguments: 0..<20 as Range<UInt64>)
    func following(seed: UInt64) throws {
        var pair = try ReplicaPair(seed: seed, limits: Self.limits)
        for round in 0..<60 {
            try pair.write()
            if round % 3 == 2 || pair.random.chance(percent: 60) { try pair.tell() }
        }
        try pair.tell()
        let expected = try pair.active.content(pair.id)
        #expect(try pair.follower.content(pair.id) == expected, "seed \(seed)")
        let image = try #require(pair.follower.images[pair.id])
        let again = try MemberNode(2, recovering: [image.memory.content], limits: Self.limits)
        #expect(try again.content(pair.id) == expected, "seed \(seed)")
        #expect(again.engine.copyEnd(of: pair.id) == pair.follower.engine.copyEnd(of: pair.id))
    }

    @Test("A copy taken while updates go on ends equal", arguments: 0..<30 as Range<UInt64>)
    func copying(seed: UInt64) throws {
        var pair = try ReplicaPair(seed: seed, limits: Self.limits)
        for _ in 0..<20 { try pair.write() }
        // What it has is of no use.
        let base = pair.change
        pair.startCopy()
        var cursor = CopyCursor()
        var pieces = 0
        while let (body, next) = pair.active.piece(pair.id, cursor, bytesMax: 150) {
            try pair.follower.take(pair.id, body)
            #expect(pair.follower.told.isEmpty, "pieces are taken")
            cursor = next
            pieces += 1
            guard pair.random.chance(percent: 60), pieces < 400 else { continue }
            try pair.write(sizeMax: 600)
            try pair.tell(isTolerant: true)
        }
        #expect(pieces > 3 && (seed > 3 || pair.change > base))
        try pair.finishCopy()
        let isApplied = pair.follower.isApplied
        #expect(isApplied)
        try pair.expectEqual(seed)
        // Updates done in part must not be told to anybody.
        #expect(pair.change == base || pair.follower.logged(pair.id, after: pair.change - 1) == nil)
        for _ in 0..<5 {
            try pair.write()
            try pair.tell()
        }
        try pair.expectEqual(seed)
        #expect(pair.follower.logged(pair.id, after: pair.change - 3)?.count == 3)
    }

    @Test("What was executed is known on every replica", arguments: [false, true])
    func executedElsewhere(byCopy: Bool) throws {
        var pair = try ReplicaPair(seed: 1, limits: Self.limits)
        for _ in 0..<10 {
            try pair.write()
            if !byCopy { try pair.tell() }
        }
        if byCopy {
            pair.startCopy()
            let (body, _) = try #require(pair.active.piece(pair.id, CopyCursor(), bytesMax: 1 << 20))
            try pair.follower.take(pair.id, body)
            try pair.finishCopy()
        }
        for number: UInt64 in 1...10 {
            for handle in [pair.handle, pair.remoteHandle] {
                let isRemote = handle == pair.remoteHandle
                let known = try pair.active.content(pair.id).executed[handle]?.contains(number) ?? false
                guard known else { continue }
                let request = CkptRequest.update(handle, [.init(kind: .delete, id: "never")])
                pair.follower.feed(
                    .forwarded(
                        request, pair.origin(handle, number: number), checkpoint: pair.id,
                        from: NodeID(isRemote ? 3 : 1), time: 9))
                #expect(pair.follower.told.first == .executed(pair.id, change: number))
            }
        }
        #expect(pair.follower.engine.replica(pair.id)?.version.change == 10)
    }

    @Test("A death after any store of a follower leaves the state before or after", arguments: 0..<10 as Range<UInt64>)
    func crashOfFollower(seed: UInt64) throws {
        let recorder = CrashRecorder()
        recorder.isBackwards = seed % 2 == 1
        var pair = try ReplicaPair(seed: seed, recorder: recorder, limits: Self.limits)
        var crashes = 0
        func crash(_ body: (inout ReplicaPair) throws -> Void) throws {
            let before = try pair.follower.content(pair.id)
            recorder.images = []
            recorder.isRecording = true
            try body(&pair)
            recorder.isRecording = false
            let after = try pair.follower.content(pair.id)
            var isNew = false
            for content in recorder.images {
                let image = try MemberNode.Image(recovering: TestMemory(content), limits: Self.limits)
                crashes += 1
                if image.state.isPartial {
                    #expect(before.replica.isPartial || after.replica.isPartial)
                    isNew = isNew || image.state.replica == after.replica
                    #expect(image.state.replica == (isNew ? after : before).replica, "seed \(seed)")
                } else {
                    let found = try MemberNode.content(image)
                    isNew = isNew || found == after
                    #expect(found == (isNew ? after : before), "seed \(seed)")
                }
                // A copy can begin anew over whatever there is.
                if image.state.isPartial, crashes % 7 == 0 {
                    var again = try MemberNode(2, recovering: [content], limits: Self.limits)
                    again.feed(.wipe(pair.id, base: 3))
                    #expect(again.engine.sections(of: pair.id, limit: 9).isEmpty)
                    #expect(again.engine.replica(pair.id)?.isPartial == true)
                }
                image.memory.free()
            }
        }
        for _ in 0..<4 {
            try pair.write(sizeMax: 100)
            try crash { try $0.tell() }
        }
        let epoch = pair.random.next() >> 40
        try crash { $0.follower.feed(.keepEpoch($0.id, epoch: epoch, EpochHistory(start: 3, previous: 9))) }
        #expect(pair.follower.engine.replica(pair.id)?.version == ReplicaVersion(epoch: epoch, change: pair.change))
        try crash { $0.startCopy() }
        var cursor = CopyCursor()
        while let (body, next) = pair.active.piece(pair.id, cursor, bytesMax: 100) {
            try crash { try $0.follower.take($0.id, body) }
            cursor = next
            guard pair.random.chance(percent: 40) else { continue }
            try pair.write(sizeMax: 100)
            try crash { try $0.tell(isTolerant: true) }
        }
        try crash { try $0.finishCopy() }
        try pair.expectEqual(seed)
        #expect(crashes > 300)
    }

    @Test("No room for a copy: what is there is given back, and a later copy succeeds")
    func noRoom() throws {
        let recorder = CrashRecorder()
        var pair = try ReplicaPair(seed: 2, recorder: recorder, limits: Self.limits)
        for _ in 0..<30 { try pair.write(sizeMax: 3_000) }
        pair.startCopy()
        let empty = try #require(pair.follower.images[pair.id]).fileBytes
        recorder.growthLimit = empty + 4_000
        func copy() throws -> Bool {
            pair.startCopy()
            var cursor = CopyCursor()
            while let (body, next) = pair.active.piece(pair.id, cursor, bytesMax: 1_000) {
                try pair.follower.take(pair.id, body)
                if pair.follower.told.contains(.replication(.applied(pair.id, false))) { return false }
                cursor = next
            }
            try pair.finishCopy()
            return true
        }
        let isRefused = try !copy()
        #expect(isRefused)
        pair.follower.feed(.wipe(pair.id, base: 0))
        #expect(try #require(pair.follower.images[pair.id]).fileBytes <= empty)
        recorder.growthLimit = .max
        let isDone = try copy()
        #expect(isDone)
        #expect(try pair.follower.content(pair.id) == pair.active.content(pair.id))
        let large = try #require(pair.follower.images[pair.id]).fileBytes
        pair.startCopy()
        #expect(try #require(pair.follower.images[pair.id]).fileBytes < large)
    }

    @Test("A section that is corrupted stays so in a copy, until it is overwritten")
    func corruptedCopy() throws {
        var pair = try ReplicaPair(seed: 4, limits: Self.limits)
        let data = [UInt8](repeating: 7, count: 1_500)
        func ask(_ operation: SectionOperation, number: UInt64) {
            pair.active.feed(
                .request(.update(pair.handle, [operation]), pair.origin(pair.handle, number: number), time: 5), data)
        }
        ask(.init(kind: .create, id: "a", expiration: .saTimeEnd, data: .init(offset: 0, count: 1_500)), number: 1)
        var memory = try #require(pair.active.images[pair.id]).memory
        let entry = try #require(pair.active.images[pair.id]?.sections[0])
        memory.store(UInt8(1), at: entry.dataOffset + 600)
        pair.startCopy()
        let (body, next) = try #require(pair.active.piece(pair.id, CopyCursor(), bytesMax: 512))
        try pair.follower.take(pair.id, body)
        let (second, _) = try #require(pair.active.piece(pair.id, next, bytesMax: 512))
        pair.active.feed(.damaged(pair.id, slot: 0))
        try pair.follower.take(pair.id, second)
        try pair.finishCopy()
        let image = try #require(pair.follower.images[pair.id])
        let again = try MemberNode(2, recovering: [image.memory.content], limits: Self.limits)
        for node in [pair.follower, again] {
            #expect(node.engine.sections(of: pair.id, limit: 1).first?.descriptor.state == .corrupted)
            #expect(throws: StoreError.corrupted(slot: 0)) {
                try node.images[pair.id]?.read(slot: 0, offset: 0, count: 0)
            }
        }
        ask(.init(kind: .overwrite, id: "a", data: .init(offset: 0, count: 20)), number: 2)
        try pair.tell()
        #expect(try pair.follower.content(pair.id) == pair.active.content(pair.id))
    }

    @Test("What another node says may be anything: refused or harmless", arguments: 0..<60 as Range<UInt64>)
    func hostilePeer(seed: UInt64) throws {
        var pair = try ReplicaPair(seed: seed, limits: Self.limits)
        for _ in 0..<6 {
            try pair.write()
            try pair.tell()
        }
        try pair.write()
        var random = SeededRandom(seed: seed &+ 99)
        func damaged(_ body: [UInt8]) -> [UInt8] {
            var bytes = body
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            return bytes
        }
        for _ in 0..<40 {
            var other = pair
            let content = try #require(pair.follower.images[pair.id]).memory.content
            other.follower = try MemberNode(2, recovering: [content], limits: Self.limits)
            other.follower.recorder.growthLimit = 1 << 20
            do { try other.follower.apply(pair.id, change: pair.change, damaged(pair.active.update)) } catch {
                #expect(error is DecodeError)
            }
            other.startCopy()
            let (body, _) = try #require(pair.active.piece(pair.id, CopyCursor(), bytesMax: 4_000))
            do { try other.follower.take(pair.id, damaged(body)) } catch { #expect(error is DecodeError) }
        }
    }
}
