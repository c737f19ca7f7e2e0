import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes

// ckptworker write NAME KIND SECTION COUNTER [MILLISECONDS]  writes 0, 1, 2 … as 8 bytes each, one behind the other,
//   into a section, pausing so long after each, and stores in COUNTER (8 bytes, in memory) how many are acknowledged.
//   Ends when COUNTER's second word is set.
// ckptworker direct NAME SECTION COUNTER  overwrites a section with N and N % 900 bytes of it, N + 1 …, as fast as it
//   can, and stores in COUNTER which is acknowledged.
// ckptworker count NAME COUNTERS N  overwrites the N-th section with 1, 2 …, and stores in the N-th word of COUNTERS
//   which is acknowledged.
// ckptworker compare NAME COUNTERS RESULT mapped|asked  reads the sections 1 to 3 again and again, of the replica that
//   is mapped or by asking ckptd; stores in RESULT how often, and how often it was less than was acknowledged before.
// ckptworker fill NAME KIND MIB  makes so many sections of 1 MiB; then as hold.
// ckptworker hold NAME KIND      has it open until it is killed.
// ckptworker follow NAME KIND FILE  writes "snapshot CHANGE" and "update CHANGE" a line each.
// ckptworker activate NAME KIND  makes this node's replica the active one, and holds it.
// ckptworker read NAME           tells what the active replica has: "SECTION COUNT intact|broken" …, "change N"
// ckptworker local NAME          the same of this node's replica, as "SECTION DIGEST"
// ckptworker sections NAME       tells "SECTION SIZE" of whichever node has the data
// ckptworker strict NAME         asks for it as who wants to know about membership; tells "done" or the error
// ckptworker watch NAME KIND FILE  writes "active NODE on NODES" a line each time that is another
// ckptworker replicas NAME       tells of each replica "NODE STATE CHANGE [active]", and "epoch N"
// ckptworker open NAME KIND      opens and closes it; tells "done" or the error; unlink NAME does the same.
// KIND: sync, brief (the same, gone with its last close), async, collocated (asynchronous), collocated-sync, persistent
//   (synchronous).

let arguments = CommandLine.arguments
guard arguments.count >= 3, let name = SaName(arguments[2]) else {
    StandardError.write("usage: ckptworker write|fill|hold|follow|activate|read|local|replicas|open|unlink NAME …\n")
    Environment.exit(2)
}

let patience = Duration.seconds(60)

func fail(_ text: String) -> Never {
    StandardError.write("\(text): \(CheckpointService.shared.lastRefusal)\n")
    Environment.exit(1)
}

func attributes(_ kind: String) -> CreationAttributes {
    let flags: [String: CreationFlags] = [
        "sync": .writeAllReplicas, "brief": .writeAllReplicas, "async": .writeActiveReplica,
        "collocated": [.writeActiveReplica, .collocated],
        "collocated-sync": [.writeAllReplicas, .collocated], "persistent": [.writeAllReplicas, .persistent],
    ]
    guard let chosen = flags[kind] else { fail("kind \(kind)") }
    return CreationAttributes(
        flags: chosen, checkpointSize: 2 << 30, retentionDuration: kind == "brief" ? 0 : 600_000_000_000,
        sectionsMax: 4_096,
        sectionSizeMax: 8 << 20)
}

/// Tries again as long as nothing happened.
func insist<Value>(_ what: String, _ body: () async throws(AisError) -> Value) async -> Value {
    while true {
        do throws(AisError) {
            return try await body()
        } catch {
            guard error == .tryAgain else { fail("\(what): \(error)") }
            rest(.milliseconds(20))
        }
    }
}

func rest(_ duration: Duration) {
    let deadline = MonotonicClock.now() + duration
    while MonotonicClock.now() < deadline { _ = try? IO.waitUntil(-1, deadline: deadline) }
}

func open(_ kind: String) async -> Checkpoint {
    await insist("open") { () async throws(AisError) in
        try await Checkpoint.open(name, [.read, .write], creating: attributes(kind), timeout: patience)
    }
}

func tell(_ line: String) { StandardOutput.write(line + "\n") }

func waitForEver() -> Never { while true { rest(.seconds(3_600)) } }

func write(_ kind: String, _ section: String, _ path: String, pause time: Duration) async throws {
    let counter = try SharedFile.open(path, writable: true)
    let acknowledged = counter.mapping.base.atomic(UInt64.self)
    let stop = counter.mapping.base.atomic(UInt64.self, at: 8)
    let checkpoint = await open(kind)
    let id = SectionID(section)
    let isDirect = kind == "collocated"  // what asks nobody does not suspend either
    do throws(AisError) {
        try await checkpoint.createSection(id, timeout: patience)
    } catch {
        guard error == .exist else { fail("create \(section): \(error)") }
    }
    var number: UInt64 = 0
    while stop.pointee.load(ordering: .acquiring) == 0 {
        var writer = ByteWriter()
        writer.integer(number)
        let bytes = writer.bytes
        let offset = Int(number) * 8
        _ = await insist("write \(number)") { () async throws(AisError) in
            if isDirect { return try checkpoint.writeBlocking(id, at: offset, bytes, timeout: patience) }
            return try await checkpoint.write(id, at: offset, bytes, timeout: patience)
        }
        number += 1
        acknowledged.pointee.store(number, ordering: .releasing)
        if time > .zero { rest(time) }
    }
}

func overwrite(_ section: String, _ path: String) throws {
    let counter = try SharedFile.open(path, writable: true)
    let acknowledged = counter.mapping.base.atomic(UInt64.self)
    let checkpoint = try Checkpoint.openBlocking(name, [.read, .write], timeout: patience)
    let id = SectionID(section)
    var number = try checkpoint.readBlocking(id, timeout: patience).withUnsafeBytes {
        $0.loadUnaligned(as: UInt64.self)
    }
    while true {
        number += 1
        let filling = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: Int(number % 900))
        do throws(AisError) {
            try checkpoint.overwriteBlocking(id, withUnsafeBytes(of: number) { Array($0) } + filling, timeout: patience)
        } catch {
            guard error == .tryAgain else { fail("write \(number): \(error)") }
            continue
        }
        acknowledged.pointee.store(number, ordering: .releasing)
    }
}

func number(_ data: [UInt8]) -> UInt64 {
    data.count < 8 ? 0 : data.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
}

func countUp(_ path: String, _ index: Int) async throws {
    let page = try SharedFile.open(path, writable: true)
    let checkpoint = await open("sync")
    var value: UInt64 = 0
    while true {
        value += 1
        var writer = ByteWriter()
        writer.integer(value)
        let bytes = writer.bytes
        _ = await insist("write \(value)") { () async throws(AisError) in
            try await checkpoint.put(SectionID("counted\(index)"), bytes, timeout: patience)
        }
        page.mapping.base.atomic(UInt64.self, at: 8 * index).pointee.store(value, ordering: .releasing)
        rest(.microseconds(500))
    }
}

func compare(_ path: String, _ results: String, isMapped: Bool) async throws {
    let page = try SharedFile.open(path, writable: true)
    let result = try SharedFile.open(results, writable: true)
    let (reads, old) = (result.mapping.base.atomic(UInt64.self), result.mapping.base.atomic(UInt64.self, at: 8))
    let checkpoint = await open("sync")
    var index = 0
    while true {
        // Three nodes share the cores with these: a reader that never rests is all that runs.
        rest(.microseconds(200))
        index = index % 3 + 1
        let id = SectionID("counted\(index)")
        let least = page.mapping.base.atomic(UInt64.self, at: 8 * index).pointee.load(ordering: .acquiring)
        if least == 0 { continue }
        var found: UInt64 = 0
        do throws(AisError) {
            if isMapped {
                found = number(try checkpoint.readBlocking(id, timeout: patience))
            } else {
                let all = try await checkpoint.readAll(timeout: patience)
                found = all.sections.first { $0.id == id }.map { number($0.data) } ?? 0
            }
        } catch {
            guard error == .tryAgain || error == .timeout else { fail("read: \(error)") }
            continue
        }
        if found < least {
            StandardError.write("read \(found) after \(least)\n")
            old.pointee.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
        reads.pointee.wrappingAdd(1, ordering: .acquiringAndReleasing)
    }
}

func fill(_ kind: String, _ count: Int) async {
    let checkpoint = await open(kind)
    for number in 0..<count {
        let data = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 1 << 20)
        _ = await insist("fill \(number)") { () async throws(AisError) in
            try await checkpoint.createSection(SectionID("filler-\(number)"), data, timeout: patience)
        }
    }
    tell("ready")
    waitForEver()
}

func follow(_ kind: String, _ path: String) async throws {
    let file = try File.openForAppending(path)
    let checkpoint = await open(kind)
    for await event in checkpoint.updates {
        let line: String =
            switch event {
            case .snapshot(let change, _): "snapshot \(change)\n"
            case .update(let change, _, _): "update \(change)\n"
            }
        let bytes = ContiguousArray(line.utf8)
        try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
            try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
        }
    }
    fail("the updates ended")
}

/// Whether a section holds 0, 1, 2 …
func count(_ data: [UInt8]) -> (Int, Bool) {
    let numbers = data.count / 8
    return data.withUnsafeBytes { bytes in
        let isIntact = (0..<numbers).allSatisfy {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) == UInt64($0)
        }
        return (numbers, isIntact)
    }
}

func read() async {
    let checkpoint = await insist("open") { () async throws(AisError) in
        try await Checkpoint.open(name, [.read], timeout: patience)
    }
    let all = await insist("read") { () async throws(AisError) in try await checkpoint.readAll(timeout: patience) }
    for section in all.sections where !"\(section.id)".hasPrefix("filler") {
        let (numbers, isIntact) = count(section.data)
        tell("\(section.id) \(numbers) \(isIntact ? "intact" : "broken")")
    }
    tell("sections \(all.sections.count)")
    tell("change \(all.change)")
    await insist("close") { () async throws(AisError) in try await checkpoint.close(timeout: patience) }
}

/// One word that is different for different data.
func digest(_ data: [UInt8]) -> String {
    var sum: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in data { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return String(sum, radix: 16)
}

func local() throws {
    // A node without a replica is told what another one has.
    let own = try CheckpointService.shared.list().checkpoints
    guard own.contains(where: { $0.name == name }) else { fail("no replica here") }
    var after: UInt64 = 0
    var change: UInt64 = 0
    while true {
        let page = try CheckpointService.shared.sections(of: name, after: after, dataMax: 8 << 20)
        change = page.snapshot.change
        for section in page.snapshot.sections { tell("\(section.id) \(digest(section.data))") }
        guard page.hasMore, let last = page.snapshot.sections.last else { break }
        after = last.descriptor.serial
    }
    tell("change \(change)")
}

func watch(_ kind: String, _ path: String) async throws {
    let file = try File.openForAppending(path)
    let checkpoint = await open(kind)
    for await set in checkpoint.replicaChanges {
        let nodes = set.replicas.map { "\($0.node)" }.joined(separator: ",")
        let bytes = ContiguousArray("active \(set.active.map { "\($0)" } ?? "none") on \(nodes)\n".utf8)
        try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
            try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
        }
    }
    fail("the changes ended")
}

func replicas() throws {
    for checkpoint in try CheckpointService.shared.clusterList().checkpoints where checkpoint.name == name {
        for replica in checkpoint.replicas {
            let change = replica.isKnown ? "\(replica.change)" : "?"
            tell("\(replica.node) \(replica.state) \(change)\(replica.node == checkpoint.active ? " active" : "")")
        }
        tell("epoch \(checkpoint.epoch)")
    }
}

func attempt(_ body: () async throws(AisError) -> Void) async {
    do throws(AisError) {
        try await body()
        tell("done")
    } catch {
        tell("\(error)")
    }
}

switch arguments[1] {
case "write" where arguments.count >= 6:
    let time = arguments.count > 6 ? Int(arguments[6]) ?? 0 : 0
    try await write(arguments[3], arguments[4], arguments[5], pause: .milliseconds(time))
case "direct" where arguments.count >= 5: try overwrite(arguments[3], arguments[4])
case "count" where arguments.count >= 5: try await countUp(arguments[3], Int(arguments[4]) ?? 1)
case "compare" where arguments.count >= 6:
    try await compare(arguments[3], arguments[4], isMapped: arguments[5] == "mapped")
case "fill" where arguments.count >= 5: await fill(arguments[3], Int(arguments[4]) ?? 1)
case "hold" where arguments.count >= 4:
    let checkpoint = await open(arguments[3])
    tell("ready")
    withExtendedLifetime(checkpoint) { waitForEver() }
case "follow" where arguments.count >= 5: try await follow(arguments[3], arguments[4])
case "activate" where arguments.count >= 4:
    let checkpoint = await open(arguments[3])
    await insist("activate") { () async throws(AisError) in try await checkpoint.setActiveReplica(timeout: patience) }
    tell("ready")
    withExtendedLifetime(checkpoint) { waitForEver() }
case "read": await read()
case "local": try local()
case "open" where arguments.count >= 4:
    let kind = arguments[3]
    await attempt { () async throws(AisError) in
        try await Checkpoint.open(name, [.read], creating: attributes(kind), timeout: patience).close()
    }
case "unlink":
    await attempt { () async throws(AisError) in try await Checkpoint.unlink(name, timeout: patience) }
case "replicas": try replicas()
case "sections":
    for section in try CheckpointService.shared.sections(of: name, dataMax: 0).snapshot.sections {
        tell("\(section.id) \(section.descriptor.size)")
    }
case "strict":
    CheckpointService.shared.requiresMembership = true
    await attempt { () async throws(AisError) in _ = try await Checkpoint.attributes(of: name, timeout: patience) }
case "watch" where arguments.count >= 5: try await watch(arguments[3], arguments[4])
default:
    StandardError.write("ckptworker: what is \(arguments.dropFirst())?\n")
    Environment.exit(2)
}
