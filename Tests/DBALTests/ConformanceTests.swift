import DBAL
import EngineKit
import OSAL
import Testing

/// What every engine must do.
@Suite("Databases", .serialized)
struct ConformanceTests {
    enum EngineKind: String, CaseIterable { case sqlite }

    static func open(_ kind: EngineKind, _ path: String) throws(DatabaseError) -> any Database {
        switch kind {
        case .sqlite: try SQLiteDatabase(path: path)
        }
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-dbal")
        defer { try? File.removeTree(folder) }
        try body(folder + "/db")
    }

    @Test("What was put is found, replaced, deleted, and still so when opened again", arguments: EngineKind.allCases)
    func basics(kind: EngineKind) throws {
        try withFolder { path in
            let database = try Self.open(kind, path)
            #expect(try database.value(of: [1]) == nil)
            try database.put([1], [10])
            try database.put([2], [])
            try database.put([1], [11, 12])
            try database.delete([3])
            #expect(try database.value(of: [1]) == [11, 12])
            #expect(try database.value(of: [2]) == [])
            database.close()
            let again = try Self.open(kind, path)
            #expect(try again.value(of: [1]) == [11, 12])
            try again.delete([1])
            #expect(try again.value(of: [1]) == nil)
        }
    }

    @Test("Records come in the order of their keys' bytes", arguments: EngineKind.allCases)
    func order(kind: EngineKind) throws {
        try withFolder { path in
            let database = try Self.open(kind, path)
            let keys: [[UInt8]] = [[0], [0, 0], [0, 255], [1], [127, 255], [128], [255], [255, 255]]
            try database.apply(keys.reversed().map { .put(key: $0, value: $0) })
            #expect(try database.records(from: [], limit: 100).map(\.key) == keys)
            #expect(try database.records(from: [0, 1], limit: 2).map(\.key) == [[0, 255], [1]])
            #expect(try database.records(from: [255, 255, 0], limit: 9).isEmpty)
            #expect(try database.records(withPrefix: [0]).map(\.key) == [[0], [0, 0], [0, 255]])
            #expect(try database.records(withPrefix: [255], limit: 1).map(\.key) == [[255]])
        }
    }

    @Test("A prefix of more than a page is read whole", arguments: EngineKind.allCases)
    func pages(kind: EngineKind) throws {
        try withFolder { path in
            let database = try Self.open(kind, path)
            let keys = (0..<1_000).map { [7, UInt8($0 >> 8), UInt8($0 & 255)] }
            try database.apply(keys.map { .put(key: $0, value: [1]) } + [.put(key: [8], value: [2])])
            #expect(try database.records(withPrefix: [7]).map(\.key) == keys)
        }
    }

    @Test("The changes of one call happen together, in their order, or not at all", arguments: EngineKind.allCases)
    func atomic(kind: EngineKind) throws {
        try withFolder { path in
            let database = try Self.open(kind, path)
            try database.apply([.put(key: [1], value: [1]), .delete(key: [1]), .put(key: [2], value: [2])])
            #expect(try database.records(from: [], limit: 9) == [DatabaseRecord(key: [2], value: [2])])
            #expect(throws: DatabaseError.self) {
                try database.apply([.put(key: [3], value: [3]), .put(key: [], value: [4])])
            }
            #expect(try database.value(of: [3]) == nil)
        }
    }

    @Test("A random history reads as a sorted map does", arguments: EngineKind.allCases, 0..<5 as Range<UInt64>)
    func model(kind: EngineKind, seed: UInt64) throws {
        try withFolder { path in
            var random = SeededRandom(seed: seed)
            var database = try Self.open(kind, path)
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
                    database = try Self.open(kind, path)
                }
            }
            let expected = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
                .map { DatabaseRecord(key: $0, value: model[$0] ?? []) }
            #expect(try database.records(from: [], limit: .max) == expected, "seed \(seed)")
        }
    }

    @Test(
        "A second opener, a closed database and a stranger's file are refused by name", arguments: EngineKind.allCases)
    func refusals(kind: EngineKind) throws {
        try withFolder { path in
            let database = try Self.open(kind, path)
            try database.put([1], [1])
            #expect { try Self.open(kind, path) } throws: { error in
                (error as? DatabaseError).map { $0.kind == .inUse && $0.text.contains(path) } ?? false
            }
            database.close()
            database.close()
            #expect { try database.value(of: [1]) } throws: { ($0 as? DatabaseError)?.kind == .closed }
            try File.writeAtomically(
                path + "2", text: String(repeating: "not a database\n", count: 400), durable: false)
            #expect { try Self.open(kind, path + "2") } throws: { ($0 as? DatabaseError)?.kind == .damaged }
            #expect { try Self.open(kind, path + "/no/such") } throws: { ($0 as? DatabaseError)?.kind == .failed }
        }
    }

    @Test(
        "A writer killed at any moment leaves whole batches, and every acknowledged one", arguments: EngineKind.allCases
    )
    func killed(kind: EngineKind) throws {
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
                let database = try Self.open(kind, path)
                let parts = try database.records(from: [], limit: 9).map { Self.lastNumber($0.value) }
                #expect(parts.count == 3 && Set(parts).count == 1, "seed \(seed), round \(round): \(parts)")
                let found = (parts.first ?? nil) ?? 0
                #expect(found >= acknowledged, "seed \(seed), round \(round): \(found) of \(acknowledged)")
                acknowledged = found
            }
        }
    }

    private static func lastNumber(_ bytes: [UInt8]) -> UInt64? {
        let whole = bytes.count / 8 * 8
        guard whole >= 8 else { return nil }
        return bytes[(whole - 8)..<whole].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
