import CkptClient
import CkptProtocol
import EngineKit
import IOCCluster
import OSAL
import SAFTypes
import SafStage

/// What is measured inside a node; the words are those of its command line.
enum CheckpointMeasurement: String {
    /// 1 KiB to all replicas, beside the TCP floor.
    case synchronous
    /// The same, and beside a pair of Redis servers.
    case synchronousAndRedis
    /// 64 KiB writes to the active replica, until the others have them, too.
    case asynchronous
    /// 64 bytes to a section that is left to its writers, until the other replica has them, too.
    case direct
    /// Has that checkpoint open, which keeps a replica on this node, until it is ended.
    case holding
    /// Fills a large checkpoint and goes on writing to it until another node has a copy.
    case filling
    /// Opens that checkpoint, which makes a replica on this node.
    case copying
    /// Whether this node knows what the other wrote synchronously.
    case looking
}

/// Measures in this node and ends: samples go to the record.
func runCheckpointWriter(_ word: String, floor host: String, record path: String) -> Never {
    Task {
        do {
            guard let kind = CheckpointMeasurement(rawValue: word) else {
                throw StageError("\(word): nothing to measure")
            }
            let file = try Record(path: path.isEmpty ? "/dev/null" : path).open()
            switch kind {
            case .synchronous: try measureSynchronous(host, redis: nil, file.raw)
            case .synchronousAndRedis: try measureSynchronous(host, redis: try RedisClient(), file.raw)
            case .asynchronous: try await measureAsynchronous(file.raw)
            case .direct: try measureDirect(file.raw)
            case .holding:
                try withExtendedLifetime(openDirect()) { while true { PrivateNode.pause(.seconds(3_600)) } }
            case .filling: try fillAndWrite(path, file.raw)
            case .copying: try measureCopy(path, file.raw)
            case .looking: try look()
            }
            Environment.exit(0)
        } catch {
            StandardError.write("saf bench: \(error)\n")
            Environment.exit(1)
        }
    }
    while true { PrivateNode.pause(.seconds(3_600)) }
}

private func open(_ name: String, _ attributes: CreationAttributes) throws -> Checkpoint {
    guard let name = SaName("safCkpt=\(name)") else { throw StageError("\(name) is no name") }
    return try insist { () throws(AisError) in
        try Checkpoint.openBlocking(name, creating: attributes, timeout: .seconds(20))
    }
}

/// Tries again as long as that is the answer, for half a minute: the nodes have just come up.
private func insist<Value>(_ body: () throws(AisError) -> Value) throws(AisError) -> Value {
    let deadline = MonotonicClock.now() + .seconds(30)
    while true {
        do throws(AisError) { return try body() } catch {
            guard error == .tryAgain, MonotonicClock.now() < deadline else { throw error }
            PrivateNode.pause(.milliseconds(20))
        }
    }
}

/// In slices, so that all see the same load.
private func measureSynchronous(_ host: String, redis: RedisClient?, _ file: Int32) throws {
    let floor = try TcpFloor(to: host)
    let minute = SaTime(60_000_000_000)
    let checkpoint = try open("bench-synchronous", .singleSection(of: 64 << 10, retained: minute))
    let data = [UInt8](repeating: 7, count: 1_024)
    func write() throws { _ = try insist { () throws(AisError) in try checkpoint.writeBlocking(at: 0, data) } }
    func nanoseconds(_ body: () throws -> Void) rethrows -> UInt64 {
        let start = MonotonicClock.now()
        try body()
        return UInt64((MonotonicClock.now() - start).nanoseconds)
    }
    for _ in 0..<500 { try write() }
    for _ in 0..<200 { try redis?.set(data) }
    for _ in 0..<40 {
        let tcp = try (0..<50).map { _ in try floor.roundTrip() }
        let writes = try (0..<200).map { _ in try nanoseconds(write) }
        let sets = try redis.map { redis in
            try (0..<200).map { _ in try nanoseconds { try redis.set(data) } }
        }
        for (name, samples) in [("tcp", tcp), ("write", writes), ("redis", sets ?? [])] {
            for sample in samples { try Record.append(name, [sample], to: file) }
        }
    }
    try checkpoint.closeBlocking()
}

/// What is not on two nodes must not be measured as if it were.
private func look() throws {
    guard let name = SaName("safCkpt=bench-synchronous") else { return }
    let nodes = try currentReplicas(of: name)
    guard nodes.count == 2 else { throw StageError("two replicas that have everything expected, found on \(nodes)") }
    let checkpoint = try Checkpoint.openBlocking(name, [.read], timeout: .seconds(10))
    let data = try checkpoint.readBlocking(at: 0, count: 1_024)
    guard data == [UInt8](repeating: 7, count: 1_024) else { throw StageError("the nodes see different checkpoints") }
}

/// The nodes whose replica of the checkpoint has everything.
private func currentReplicas(of name: SaName) throws -> [NodeID] {
    let checkpoints = try CheckpointService.shared.clusterList().checkpoints
    return checkpoints.first { $0.name == name }?.replicas.filter { $0.state == .current }.map(\.node) ?? []
}

/// Bytes and nanoseconds of each stretch of writes, until every replica has them.
private func measureAsynchronous(_ file: Int32) async throws {
    let size = 16 << 20
    let checkpoint = try open(
        "bench-asynchronous",
        CreationAttributes(flags: .writeActiveReplica, checkpointSize: UInt64(size), sectionSizeMax: UInt64(size)))
    let data = [UInt8](repeating: 7, count: 64 << 10)
    for stretch in 0..<17 {
        let start = MonotonicClock.now()
        let bytes = 64 << 20
        for index in 0..<bytes / data.count {
            _ = try insist { () throws(AisError) in
                try checkpoint.writeBlocking(at: index * data.count % size, data, timeout: .seconds(20))
            }
        }
        try await checkpoint.synchronize(timeout: .seconds(60))
        let time = UInt64((MonotonicClock.now() - start).nanoseconds)
        if stretch > 0 { try Record.append("stretch", [UInt64(bytes), time], to: file) }
    }
    try checkpoint.closeBlocking()
}

private func openDirect() throws -> Checkpoint {
    try open(
        "bench-direct",
        CreationAttributes(
            flags: [.writeActiveReplica, .collocated], checkpointSize: 64 << 10, sectionsMax: 4,
            sectionSizeMax: 16 << 10))
}

/// `slice`: writes, nanoseconds for them, nanoseconds until the other replica has all, updates it was told for them.
private func measureDirect(_ file: Int32) throws {
    let checkpoint = try openDirect()
    try insist { () throws(AisError) in try checkpoint.setActiveReplicaBlocking(timeout: .seconds(10)) }
    guard let name = SaName("safCkpt=bench-direct") else { return }
    let deadline = MonotonicClock.now() + .seconds(30)
    while try currentReplicas(of: name).count < 2 {
        guard MonotonicClock.now() < deadline else { throw StageError("no second replica within 30 s") }
        PrivateNode.pause(.milliseconds(20))
    }
    let (id, data) = (SectionID("direct"), [UInt8](repeating: 7, count: 64))
    _ = try insist { () throws(AisError) in try checkpoint.createSectionBlocking(id, data) }
    func write() throws { _ = try insist { () throws(AisError) in try checkpoint.writeBlocking(id, at: 0, data) } }
    for _ in 0..<1_000 { try write() }
    for _ in 0..<60 {
        let before = try checkpoint.statusBlocking().change
        let start = MonotonicClock.now()
        let count = 20_000
        for _ in 0..<count { try write() }
        let written = MonotonicClock.now()
        try checkpoint.synchronizeBlocking(timeout: .seconds(20))
        let end = MonotonicClock.now()
        let told = try checkpoint.statusBlocking().change - before
        let times = [written - start, end - written].map { UInt64($0.nanoseconds) }
        try Record.append("slice", [UInt64(count)] + times + [told], to: file)
    }
    try checkpoint.closeBlocking()
}

/// The checkpoint that is copied whole: in all replicas at once, and on the nodes that have it open.
enum LargeCheckpoint {
    static let sections = 1_024
    static let sectionBytes = 1 << 20
    static var bytes: Int { sections * sectionBytes }

    static func name(for record: String) throws -> SaName {
        guard let file = record.split(separator: "/").last, let name = SaName("safCkpt=\(file)") else {
            throw StageError("\(record) is no name")
        }
        return name
    }

    static var attributes: CreationAttributes {
        CreationAttributes(
            flags: [.writeAllReplicas, .collocated], checkpointSize: UInt64(bytes), sectionsMax: UInt32(sections),
            sectionSizeMax: UInt64(sectionBytes))
    }

    static func section(_ number: Int) -> SectionID { SectionID(Array("section \(number)".utf8)) }
}

/// Says `filled` when it is, writes 1 KiB again and again until it reads `copied`, and says `written` how often.
private func fillAndWrite(_ path: String, _ file: Int32) throws {
    let name = try LargeCheckpoint.name(for: path)
    let checkpoint = try insist { () throws(AisError) in
        try Checkpoint.openBlocking(name, creating: LargeCheckpoint.attributes, timeout: .seconds(20))
    }
    let content = [UInt8](repeating: 7, count: LargeCheckpoint.sectionBytes)
    for number in 0..<LargeCheckpoint.sections {
        _ = try insist { () throws(AisError) in
            try checkpoint.createSectionBlocking(LargeCheckpoint.section(number), content, timeout: .seconds(20))
        }
    }
    try Record.append("filled", [], to: file)
    let (record, data) = (Record(path: path), [UInt8](repeating: 8, count: 1_024))
    var count = 0
    var looked = MonotonicClock.now()
    while true {
        let section = LargeCheckpoint.section(count % LargeCheckpoint.sections)
        _ = try insist { () throws(AisError) in
            try checkpoint.writeBlocking(section, at: 0, data, timeout: .seconds(60))
        }
        count += 1
        guard MonotonicClock.now() - looked > .milliseconds(50) else { continue }
        looked = MonotonicClock.now()
        if record.lines.contains(where: { $0.name == "copied" }) { break }
    }
    try Record.append("written", [UInt64(count)], to: file)
    try checkpoint.closeBlocking()
}

/// `copied` bytes, nanoseconds: from the open, which makes a replica here, until it has everything.
private func measureCopy(_ path: String, _ file: Int32) throws {
    let (name, node) = (try LargeCheckpoint.name(for: path), try ClusterDescription.load(.fromEnvironment()).localNode)
    let start = MonotonicClock.now()
    let checkpoint = try Checkpoint.openBlocking(name, timeout: .seconds(20))
    while try !currentReplicas(of: name).contains(node) {
        guard MonotonicClock.now() - start < .seconds(120) else { throw StageError("no copy within 120 s") }
        PrivateNode.pause(.milliseconds(5))
    }
    let time = UInt64((MonotonicClock.now() - start).nanoseconds)
    try Record.append("copied", [UInt64(LargeCheckpoint.bytes), time], to: file)
    try checkpoint.closeBlocking()
}
