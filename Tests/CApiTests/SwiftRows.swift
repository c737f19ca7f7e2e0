import CkptClient
import CkptProtocol
import SAFTypes

/// A checkpoint in each of the ways to open it, for one row.
final class SwiftRowArena: Sendable {
    static let name = SaName("safCkpt=row")!

    let service: CheckpointService
    let open: Checkpoint
    let reader: Checkpoint
    let writer: Checkpoint

    static func attributes(_ flags: CreationFlags = .writeActiveReplica) -> CreationAttributes {
        CreationAttributes(
            flags: flags, checkpointSize: 100, retentionDuration: 0, sectionsMax: 4, sectionSizeMax: 64,
            sectionIDSizeMax: 16)
    }

    init(_ service: CheckpointService, name: SaName = SwiftRowArena.name) async throws {
        self.service = service
        let patience = Duration.seconds(30)
        open = try await Checkpoint.open(name, creating: Self.attributes(), timeout: patience, in: service)
        reader = try await Checkpoint.open(name, [.read], timeout: patience, in: service)
        writer = try await Checkpoint.open(name, [.write], timeout: patience, in: service)
        if name == Self.name { try await open.put("a", [1, 2, 3], timeout: patience) }
    }

    func end() async throws {
        for checkpoint in [open, reader, writer] { try await checkpoint.close(timeout: .seconds(30)) }
    }

    /// Another one: without an active replica, of one section, or large.
    func other(_ flags: CreationFlags, sections: UInt32 = 4, size: UInt64 = 64) async throws -> Checkpoint {
        let attributes = CreationAttributes(
            flags: flags, checkpointSize: UInt64(sections) * size, retentionDuration: 0, sectionsMax: sections,
            sectionSizeMax: size, sectionIDSizeMax: 16)
        return try await Checkpoint.open(
            "safCkpt=other", creating: attributes, timeout: .seconds(30), in: service)
    }

    func passive() async throws -> Checkpoint { try await other([.writeActiveReplica, .collocated]) }
}

/// A function of the headers, a code that it documents, and a call of its Swift counterpart that throws it.
struct SwiftRow: Sendable {
    let function: String
    let code: AisError
    let call: SwiftRows.Body

    init(_ function: String, _ code: AisError, _ call: @escaping SwiftRows.Body) {
        (self.function, self.code, self.call) = (function, code, call)
    }
}

enum SwiftRows {
    typealias Body = @Sendable (SwiftRowArena) async throws -> Void

    static let all: [SwiftRow] =
        opening("saCkptCheckpointOpen") + opening("saCkptCheckpointOpenAsync") + checkpoints + sections + data
        + extensions

    private static let large = [UInt8](repeating: 1, count: 65)

    private static func opening(_ function: String) -> [SwiftRow] {
        [
            SwiftRow(function, .invalidParam) { at in
                _ = try await Checkpoint.open(String(repeating: "n", count: SaName.lengthMax + 1), in: at.service)
            },
            SwiftRow(function, .invalidParam) { at in _ = try await at.other([], sections: 1) },
            SwiftRow(function, .badFlags) { at in
                _ = try await Checkpoint.open(SwiftRowArena.name, [], in: at.service)
            },
            SwiftRow(function, .notExist) { at in
                _ = try await Checkpoint.open("safCkpt=none", in: at.service)
            },
            SwiftRow(function, .exist) { at in
                let attributes = SwiftRowArena.attributes(.writeAllReplicas)
                _ = try await Checkpoint.open(SwiftRowArena.name, creating: attributes, in: at.service)
            },
        ]
    }

    private static let checkpoints: [SwiftRow] =
        [
            SwiftRow("saCkptCheckpointUnlink", .notExist) { at in
                try await Checkpoint.unlink("safCkpt=none", in: at.service)
            },
            SwiftRow("saCkptCheckpointRetentionDurationSet", .invalidParam) { at in
                try await at.open.setRetentionDuration(-1)
            },
            SwiftRow("saCkptCheckpointRetentionDurationSet", .badOperation) { at in
                try await Checkpoint.unlink(SwiftRowArena.name, in: at.service)
                try await at.open.setRetentionDuration(1)
            },
            SwiftRow("saCkptActiveReplicaSet", .access) { at in
                try await at.reader.setActiveReplica()
            },
            SwiftRow("saCkptActiveReplicaSet", .badOperation) { at in
                try await at.open.setActiveReplica()
            },
            SwiftRow("saCkptCheckpointStatusGet", .notExist) { at in
                _ = try await at.passive().status()
            },
        ] + synchronising("saCkptCheckpointSynchronize") + synchronising("saCkptCheckpointSynchronizeAsync")

    private static func synchronising(_ function: String) -> [SwiftRow] {
        [
            SwiftRow(function, .access) { at in try await at.reader.synchronize() },
            SwiftRow(function, .badOperation) { at in
                try await at.other(.writeAllReplicas).synchronize()
            },
            SwiftRow(function, .notExist) { at in try await at.passive().synchronize() },
        ]
    }

    private static let sections: [SwiftRow] = [
        SwiftRow("saCkptSectionCreate", .invalidParam) { at in
            try await at.open.createSection("b", large)
        },
        SwiftRow("saCkptSectionCreate", .invalidParam) { at in
            try await at.open.createSection("12345678901234567")
        },
        SwiftRow("saCkptSectionCreate", .noSpace) { at in
            try await at.open.createSection("b", [UInt8](repeating: 1, count: 64))
            try await at.open.createSection("c", [UInt8](repeating: 1, count: 64))
        },
        SwiftRow("saCkptSectionCreate", .exist) { at in try await at.open.createSection("a") },
        SwiftRow("saCkptSectionCreate", .access) { at in
            try await at.reader.createSection("b")
        },
        SwiftRow("saCkptSectionCreate", .notExist) { at in
            try await at.passive().createSection("b")
        },
        SwiftRow("saCkptSectionDelete", .invalidParam) { at in
            try await at.other(.writeAllReplicas, sections: 1).deleteSection(.defaultSection)
        },
        SwiftRow("saCkptSectionDelete", .access) { at in try await at.reader.deleteSection("a")
        },
        SwiftRow("saCkptSectionDelete", .notExist) { at in
            try await at.open.deleteSection("none")
        },
        SwiftRow("saCkptSectionExpirationTimeSet", .invalidParam) { at in
            try await at.other(.writeAllReplicas, sections: 1).setExpiration(.defaultSection, .saTimeEnd)
        },
        SwiftRow("saCkptSectionExpirationTimeSet", .access) { at in
            try await at.reader.setExpiration("a", .saTimeEnd)
        },
        SwiftRow("saCkptSectionExpirationTimeSet", .notExist) { at in
            try await at.open.setExpiration("none", .saTimeEnd)
        },
        SwiftRow("saCkptSectionIterationInitialize", .notExist) { at in
            _ = try await at.passive().sections()
        },
    ]

    private static let data: [SwiftRow] = [
        SwiftRow("saCkptCheckpointWrite", .invalidParam) { at in
            try await at.open.write("a", at: 0, large)
        },
        SwiftRow("saCkptCheckpointWrite", .invalidParam) { at in
            try await at.open.write("a", at: -1, [1])
        },
        SwiftRow("saCkptCheckpointWrite", .notExist) { at in
            try await at.open.write("none", at: 0, [1])
        },
        SwiftRow("saCkptCheckpointWrite", .access) { at in
            try await at.reader.write("a", at: 0, [1])
        },
        SwiftRow("saCkptCheckpointWrite", .noSpace) { at in
            try await at.open.put("b", [UInt8](repeating: 1, count: 64))
            try await at.open.write("a", at: 0, [UInt8](repeating: 1, count: 64))
        },
        SwiftRow("saCkptSectionOverwrite", .invalidParam) { at in
            try await at.open.overwrite("a", large)
        },
        SwiftRow("saCkptSectionOverwrite", .notExist) { at in
            try await at.open.overwrite("none", [1])
        },
        SwiftRow("saCkptSectionOverwrite", .access) { at in
            try await at.reader.overwrite("a", [1])
        },
        SwiftRow("saCkptSectionOverwrite", .noSpace) { at in
            try await at.open.put("b", [UInt8](repeating: 1, count: 64))
            try await at.open.overwrite("a", [UInt8](repeating: 1, count: 64))
        },
        SwiftRow("saCkptCheckpointRead", .invalidParam) { at in
            _ = try await at.open.read("a", at: 4)
        },
        SwiftRow("saCkptCheckpointRead", .notExist) { at in _ = try await at.open.read("none") },
        SwiftRow("saCkptCheckpointRead", .access) { at in _ = try await at.writer.read("a") },
        SwiftRow("saCkptCheckpointRead", .noResources) { at in
            _ = try await tooMuch(at).read([ReadRange(id: "a"), ReadRange(id: "b")])
        },
    ]

    /// Two sections that no one answer holds.
    private static func tooMuch(_ at: SwiftRowArena) async throws -> Checkpoint {
        let size: UInt64 = 30 << 20
        let checkpoint = try await at.other(.writeAllReplicas, sections: 2, size: size)
        for id: SectionID in ["a", "b"] {
            try await checkpoint.createSection(id, timeout: .seconds(30))
            try await checkpoint.write(id, at: Int(size) - 1, [1], timeout: .seconds(30))
        }
        return checkpoint
    }

    private static let extensions: [SwiftRow] =
        [
            SwiftRow("safCkptUpdate", .invalidParam) { at in try await at.open.write { _ in } },
            SwiftRow("safCkptUpdate", .exist) { at in
                try await at.open.write {
                    $0.put("b", [1])
                    $0.create("a", [])
                }
            },
            SwiftRow("safCkptUpdate", .notExist) { at in
                try await at.open.write {
                    $0.put("b", [1])
                    $0.delete("none")
                }
            },
            SwiftRow("safCkptUpdate", .noSpace) { at in
                try await at.open.write {
                    $0.put("b", [UInt8](repeating: 1, count: 64))
                    $0.put("a", [UInt8](repeating: 1, count: 64))
                }
            },
            SwiftRow("safCkptUpdate", .access) { at in
                try await at.reader.write { $0.put("b", [1]) }
            },
            SwiftRow("safCkptUpdate", .noResources) { at in
                try await at.open.write { batch in
                    for _ in 0...CkptProtocolLimits.operationsMax { batch.put("b", [1]) }
                }
            },
            SwiftRow("safCkptSectionsGet", .access) { at in _ = try await at.writer.readAll() },
            SwiftRow("safCkptSectionsGet", .notExist) { at in
                _ = try await at.passive().readAll()
            },
            SwiftRow("safCkptSectionsGet", .noResources) { at in
                _ = try await tooMuch(at).readAll()
            },
            SwiftRow("safCkptSectionCheck", .notExist) { at in
                _ = try await at.open.describe("none")
            },
        ] + difference

    private static let difference: [SwiftRow] = [
        SwiftRow("safCkptSectionOverwriteDifferential", .invalidParam) { at in
            _ = try await at.open.mirror("a").overwrite(large)
        },
        SwiftRow("safCkptSectionOverwriteDifferential", .notExist) { at in
            _ = try await at.open.mirror("none", creates: false).overwrite([1])
        },
        SwiftRow("safCkptSectionOverwriteDifferential", .access) { at in
            _ = try await at.reader.mirror("a").overwrite([1])
        },
        SwiftRow("safCkptSectionOverwriteDifferential", .noSpace) { at in
            try await at.open.put("b", [UInt8](repeating: 1, count: 64))
            _ = try await at.open.mirror("a").overwrite([UInt8](repeating: 1, count: 64))
        },
    ]
}
