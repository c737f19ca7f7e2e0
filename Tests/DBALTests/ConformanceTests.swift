import DBAL
import EngineKit
import OSAL
import Testing

/// What every engine must do.
@Suite("Databases", .serialized)
struct ConformanceTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-dbal")
        defer { try? File.removeTree(folder) }
        try body(folder + "/db")
    }

    @Test(
        "What was put is found, replaced, deleted, and still so when opened again", arguments: DatabaseEngine.allCases)
    func basics(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            #expect(try database.value(of: [1]) == nil)
            try database.put([1], [10])
            try database.put([2], [])
            try database.put([1], [11, 12])
            try database.delete([3])
            #expect(try database.value(of: [1]) == [11, 12])
            #expect(try database.value(of: [2]) == [])
            database.close()
            let again = try kind.open(path)
            #expect(try again.value(of: [1]) == [11, 12])
            try again.delete([1])
            #expect(try again.value(of: [1]) == nil)
        }
    }

    @Test("Records come in the order of their keys' bytes", arguments: DatabaseEngine.allCases)
    func order(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            let keys: [[UInt8]] = [[0], [0, 0], [0, 255], [1], [127, 255], [128], [255], [255, 255]]
            try database.apply(keys.reversed().map { .put(key: $0, value: $0) })
            #expect(try database.records(from: [], limit: 100).map(\.key) == keys)
            #expect(try database.records(from: [0, 1], limit: 2).map(\.key) == [[0, 255], [1]])
            #expect(try database.records(from: [255, 255, 0], limit: 9).isEmpty)
            #expect(try database.records(withPrefix: [0]).map(\.key) == [[0], [0, 0], [0, 255]])
            #expect(try database.records(withPrefix: [255], limit: 1).map(\.key) == [[255]])
        }
    }

    @Test("A prefix of more than a page is read whole", arguments: DatabaseEngine.allCases)
    func pages(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            let keys = (0..<1_000).map { [7, UInt8($0 >> 8), UInt8($0 & 255)] }
            try database.apply(keys.map { .put(key: $0, value: [1]) } + [.put(key: [8], value: [2])])
            #expect(try database.records(withPrefix: [7]).map(\.key) == keys)
        }
    }

    @Test("The changes of one call happen together, in their order, or not at all", arguments: DatabaseEngine.allCases)
    func atomic(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            try database.apply([.put(key: [1], value: [1]), .delete(key: [1]), .put(key: [2], value: [2])])
            #expect(try database.records(from: [], limit: 9) == [DatabaseRecord(key: [2], value: [2])])
            #expect(throws: DatabaseError.self) {
                try database.apply([.put(key: [3], value: [3]), .put(key: [], value: [4])])
            }
            #expect(try database.value(of: [3]) == nil)
        }
    }

    @Test("A random history reads as a sorted map does", arguments: DatabaseEngine.allCases, 0..<5 as Range<UInt64>)
    func model(kind: DatabaseEngine, seed: UInt64) throws {
        try withFolder { path in
            var random = SeededRandom(seed: seed)
            var database = try kind.open(path)
            var model: [[UInt8]: [UInt8]] = [:]
            for _ in 0..<60 {
                var changes: [DatabaseChange] = []
                for _ in 0..<Int.random(in: 0...5, using: &random) {
                    let key = [UInt8.random(in: 0...9, using: &random), UInt8.random(in: 0...3, using: &random)]
                    if Bool.random(using: &random) {
                        let value = [UInt8](repeating: key[0], count: Int.random(in: 0...9_000, using: &random))
                        changes.append(.put(key: key, value: value))
                        model[key] = value
                    } else {
                        changes.append(.delete(key: key))
                        model[key] = nil
                    }
                }
                try database.apply(changes)
                if Int.random(in: 0...9, using: &random) == 0 {
                    database.close()
                    database = try kind.open(path)
                }
            }
            let expected = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
                .map { DatabaseRecord(key: $0, value: model[$0] ?? []) }
            #expect(try database.records(from: [], limit: .max) == expected, "seed \(seed)")
        }
    }

    @Test(
        "A second opener, a closed database and a stranger's file are refused by name",
        arguments: DatabaseEngine.allCases)
    func refusals(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            try database.put([1], [1])
            #expect { try kind.open(path) } throws: { error in
                (error as? DatabaseError).map { $0.kind == .inUse && $0.text.contains(path) } ?? false
            }
            database.close()
            database.close()
            #expect { try database.value(of: [1]) } throws: { ($0 as? DatabaseError)?.kind == .closed }
            try File.writeAtomically(
                path + "2", text: String(repeating: "not a database\n", count: 400), durable: false)
            let stranger = try File.readAll(path + "2")
            #expect { try kind.open(path + "2") } throws: { ($0 as? DatabaseError)?.kind == .damaged }
            #expect(try File.readAll(path + "2") == stranger)
            #expect { try kind.open(path + "/no/such") } throws: { ($0 as? DatabaseError)?.kind == .failed }
        }
    }

    @Test(
        "A writer killed at any moment leaves whole batches, and every acknowledged one",
        arguments: DatabaseEngine.allCases
    )
    func killed(kind: DatabaseEngine) throws {
        try withFolder { path in
            let seed = UInt64.random(in: 1...999_999)
            var random = SeededRandom(seed: seed)
            let programs = File.parent(of: try #require(Environment.executablePath))
            var acknowledged: UInt64 = 0
            for round in 0..<8 {
                let output = try File.openForAppending("\(path).\(round)")
                var options = SpawnOptions(
                    path: programs + "/dbwriter", arguments: ["dbwriter", kind.rawValue, path, "\(acknowledged)"])
                options.descriptors = [DescriptorMapping(output.raw, as: 1)]
                let child = try Process.spawn(options)
                let deadline = MonotonicClock.now() + .seconds(30)
                while try File.stat("\(path).\(round)").size < 8, MonotonicClock.now() < deadline { OSThread.yield() }
                _ = try IO.waitUntil(
                    child.rawPidfd, readable: true,
                    deadline: MonotonicClock.now() + .microseconds(Int64.random(in: 0...20_000, using: &random)))
                _ = try Process.kill(child.pid, .kill)
                _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: deadline)
                _ = Process.reap(child.pid)
                // One 8-byte number for each acknowledged batch.
                let told = try File.readAll("\(path).\(round)")
                #expect(told.count >= 8, "seed \(seed), round \(round): the writer wrote")
                acknowledged = Self.lastNumber(told) ?? acknowledged
                let database = try kind.open(path)
                let parts = try database.records(from: [], limit: 9).map { Self.lastNumber($0.value) }
                #expect(parts.count == 3 && Set(parts).count == 1, "seed \(seed), round \(round): \(parts)")
                let found = (parts.first ?? nil) ?? 0
                #expect(found >= acknowledged, "seed \(seed), round \(round): \(found) of \(acknowledged)")
                acknowledged = found
            }
        }
    }

    @Test("A value of many pages, and many values at once, come back as they were", arguments: DatabaseEngine.allCases)
    func big(kind: DatabaseEngine) throws {
        try withFolder { path in
            let database = try kind.open(path)
            let big = (0..<(5 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            try database.put([1], big)
            let many = (0..<4_000).map { [UInt8(2), UInt8($0 >> 8), UInt8($0 & 255)] }
            try database.apply(many.map { .put(key: $0, value: $0 + [UInt8](repeating: 5, count: 1_000)) })
            try database.delete(many[17])
            database.close()
            let again = try kind.open(path)
            #expect(try again.value(of: [1]) == big)
            #expect(try again.value(of: many[17]) == nil)
            #expect(try again.records(withPrefix: [2]).map(\.key) == many.filter { $0 != many[17] })
            #expect(
                throws: DatabaseError.self, "a key that is too long",
                performing: { try again.put([UInt8](repeating: 1, count: 4_097), []) })
        }
    }

    @Test(
        "Foreign bytes in the middle of the file, or its end cut off, are told by name; nothing is made up",
        arguments: DatabaseEngine.allCases)
    func damaged(kind: DatabaseEngine) throws {
        try withFolder { path in
            let whole = (0..<3_000).map { number in
                DatabaseRecord(
                    key: [UInt8(number >> 8), UInt8(number & 255)], value: [UInt8](repeating: 9, count: 700))
            }
            let database = try kind.open(path)
            for start in stride(from: 0, to: whole.count, by: 500) {
                try database.apply(whole[start..<start + 500].map { .put(key: $0.key, value: $0.value) })
            }
            database.close()
            let content = try File.readAll(path)
            try #require(content.count > 1 << 20)
            var foreign = content
            for index in (content.count / 2)..<(content.count / 2 + 20_000) { foreign[index] = UInt8(index * 31 & 255) }
            for (what, bytes) in [("foreign bytes", foreign), ("cut off", Array(content.prefix(content.count / 3)))] {
                try File.writeAtomically(path, bytes, durable: false, mode: 0o600)
                var error: DatabaseError?
                do throws(DatabaseError) {
                    let read = try kind.open(path).records(from: [], limit: .max)
                    Issue.record("\(kind), \(what): \(read.count) records were read")
                } catch let failure {
                    error = failure
                }
                let isClear = error.map { $0.kind == .damaged || kind == .gdbm && $0.kind == .otherFormat } ?? false
                #expect(isClear && error?.text.contains(path) == true, "\(kind), \(what): \(error?.text ?? "none")")
            }
        }
    }

    @Test(
        "A full disk refuses and changes nothing; with space again it goes on", .enabled(if: Environment.userID == 0),
        arguments: DatabaseEngine.allCases)
    func full(kind: DatabaseEngine) throws {
        let mount = try File.makeTemporaryDirectory("/tmp/swiftsaf-dbal-full")
        defer { try? File.removeTree(mount) }
        try #require(try Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", mount]) == 0)
        defer { _ = try? Self.run("/bin/umount", [mount]) }
        let path = mount + "/db"
        let database = try kind.open(path)
        var kept = 0
        var refusal: DatabaseError?
        while refusal == nil, kept < 2_000 {
            let value = [UInt8](repeating: UInt8(kept & 255), count: 30_000)
            do throws(DatabaseError) {
                try database.apply([
                    .put(key: Self.key(kept), value: value), .put(key: [9] + Self.key(kept), value: [1]),
                ])
                kept += 1
            } catch {
                refusal = error
            }
        }
        #expect(refusal?.kind == .full && refusal?.text.contains(path) == true, "\(refusal?.text ?? "none")")
        let found = try? database.records(withPrefix: [9]).count
        #expect(found == nil || found == kept, "all that was acknowledged, and no half of the rest")
        // A file system that grows is a disk on which somebody made room.
        try #require(try Self.run("/bin/mount", ["-o", "remount,size=96m", mount]) == 0)
        try database.put([1], [1])
        #expect(try database.records(withPrefix: [9]).count == kept)
        database.close()
        let again = try kind.open(path)
        #expect(try again.value(of: [1]) == [1])
        #expect(try again.records(withPrefix: [9]).count == kept)
        #expect(try again.value(of: Self.key(kept - 1))?.count == 30_000)
        again.close()
    }

    private static func key(_ number: Int) -> [UInt8] { [3, UInt8(number >> 8), UInt8(number & 255)] }

    private static func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        let child = try Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments))
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        guard case .exited(let code) = Process.reap(child.pid) else { return -1 }
        return code
    }

    private static func lastNumber(_ bytes: [UInt8]) -> UInt64? {
        let whole = bytes.count / 8 * 8
        guard whole >= 8 else { return nil }
        return bytes[(whole - 8)..<whole].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
