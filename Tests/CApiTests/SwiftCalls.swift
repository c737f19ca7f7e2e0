import CkptClient
import CkptProtocol
import OSAL
import SAFTypes

/// A checkpoint that is open, and what calls need of it.
final class SwiftArena {
    let service: CheckpointService
    let name: SaName
    let open: Checkpoint
    /// Nothing of it is mapped.
    let untouched: Checkpoint

    init(_ stand: CkptStand, _ word: String) async throws {
        service = CheckpointService(places: stand.places)
        guard let name = SaName("safCkpt=arena \(word)") else { throw CToolError("no name") }
        self.name = name
        let attributes = SwiftRowArena.attributes([.writeActiveReplica, .collocated])
        open = try await Checkpoint.open(name, creating: attributes, timeout: .seconds(30), in: service)
        try await open.setActiveReplica(timeout: .seconds(30))
        try await open.put("s", [1], timeout: .seconds(30))
        untouched = try await Checkpoint.open(name, timeout: .seconds(30), in: service)
    }

    func close() async throws {
        try await open.close()
        try await untouched.close()
    }
}

/// The calls that ask ckptd.
enum SwiftCalls {
    struct Call: Sendable {
        let name: String
        /// Else it is about a name.
        let usesOpen: Bool
        let body: @Sendable (SwiftArena) async throws -> Void

        init(
            _ name: String, usesOpen: Bool = true,
            _ body: @escaping @Sendable (SwiftArena) async throws -> Void
        ) { (self.name, self.usesOpen, self.body) = (name, usesOpen, body) }
    }

    private static let brief = Duration.milliseconds(50)

    static let all: [Call] = named + whole + sections + data

    private static let named = [
        Call("open", usesOpen: false) { at in
            _ = try await Checkpoint.open(at.name, timeout: brief, in: at.service)
        },
        Call("openBlocking", usesOpen: false) { at in
            _ = try Checkpoint.openBlocking(at.name, timeout: brief, in: at.service)
        },
        Call("unlink", usesOpen: false) { at in
            try await Checkpoint.unlink("safCkpt=none", timeout: brief, in: at.service)
        },
        Call("exists", usesOpen: false) { at in
            _ = try await Checkpoint.exists(at.name, timeout: brief, in: at.service)
        },
    ]

    private static let whole = [
        Call("status") { at in _ = try await at.open.status(timeout: brief) },
        Call("statusBlocking") { at in _ = try at.open.statusBlocking(timeout: brief) },
        Call("setRetentionDuration") { at in
            try await at.open.setRetentionDuration(1, timeout: brief)
        },
        Call("setActiveReplica") { at in try await at.open.setActiveReplica(timeout: brief) },
        Call("synchronize") { at in try await at.open.synchronize(timeout: brief) },
        Call("replicas") { at in _ = try await at.open.replicas(timeout: brief) },
    ]

    private static let sections = [
        Call("createSection") { at in
            try await at.open.createSection("new", timeout: brief)
        },
        Call("deleteSection") { at in try await at.open.deleteSection("s", timeout: brief) },
        Call("setExpiration") { at in
            try await at.open.setExpiration("s", .saTimeEnd, timeout: brief)
        },
        Call("sections") { at in _ = try await at.open.sections(timeout: brief) },
        Call("describe") { at in _ = try await at.open.describe("s", timeout: brief) },
        Call("contains") { at in _ = try await at.open.contains("s", timeout: brief) },
    ]

    private static let data = [
        Call("read") { at in _ = try await at.untouched.read("s", timeout: brief) },
        Call("readBlocking") { at in
            _ = try at.untouched.readBlocking("s", timeout: brief)
        },
        Call("readAll") { at in _ = try await at.open.readAll(timeout: brief) },
        Call("put") { at in try await at.open.put("s", [2], timeout: brief) },
        Call("write of several") { at in
            try await at.open.write(timeout: brief) {
                $0.put("s", [1])
                $0.put("t", [2])
            }
        },
        Call("write") { at in try await at.open.write("s", at: 0, [2], timeout: brief) },
        Call("overwrite") { at in try await at.open.overwrite("s", [2], timeout: brief) },
        Call("overwriteBlocking") { at in
            try at.open.overwriteBlocking("s", [2], timeout: brief)
        },
        Call("mirror") { at in
            _ = try await at.open.mirror("s").overwrite([3], timeout: brief)
        },
    ]
}
