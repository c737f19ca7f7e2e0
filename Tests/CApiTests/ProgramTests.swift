import ClmClient
import EngineKit
import OSAL
import SAFTypes
import Testing

/// C programs against the installed headers and library, each with a ckptd of its own.
@Suite("C programs", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct ProgramTests {
    @Test("The headers alone are C and C++, without a warning, and their layout is the specification's")
    func headers() throws {
        let stand = try CkptStand(started: false)
        let ways: [(compiler: [String], name: String)] = [
            (["cc", "-std=c11"], "headers-c11"), (["cc", "-std=gnu17"], "headers-gnu17"),
            (["c++", "-std=c++11", "-x", "c++"], "headers-c++11"),
            (["c++", "-std=c++20", "-x", "c++"], "headers-c++20"),
        ]
        for (compiler, name) in ways where CToolchain.lacks([compiler[0]]).isEmpty {
            try stand.run(CToolchain.compile("headers.c", compiler: compiler, as: name))
        }
        let extended = try CToolchain.compile(
            "headers.c", flags: ["-DSA_EXTENDED_NAME_SOURCE"], as: "headers-extended")
        try stand.run(extended)
    }

    static let behaving = [
        "lifecycle", "checkpoints", "sections", "async", "interop", "standby", "extensions", "limits", "quiet",
    ]

    @Test("Every function: arguments, errors, rules", arguments: behaving)
    func behaves(program: String) throws {
        let stand = try CkptStand()
        try stand.run(CToolchain.compile(program + ".c"))
    }

    @Test("Several threads dispatch, block, read, write and close")
    func threads() throws {
        let stand = try CkptStand()
        try stand.run(CToolchain.compile("threads.c"), timeout: .seconds(400))
    }

    @Test("A process forks, with exec and without")
    func fork() throws {
        let stand = try CkptStand()
        try stand.run(CToolchain.compile("fork.c"))
    }

    @Test("Extended names, allowed by the environment and not")
    func names() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("names.c")
        try stand.run(program, ["off"])
        try stand.run(program, ["on"], environment: ["SA_ENABLE_EXTENDED_NAMES=1"])
    }

    @Test("On a node that is no member of its cluster B.02 says UNAVAILABLE, B.01 never")
    func outside() throws {
        let stand = try CkptStand(started: false)
        try stand.describeCluster()
        try stand.start()
        try stand.run(CToolchain.compile("outside.c"))
    }

    @Test("A node is locked and unlocked: handles of B.02 are UNAVAILABLE, and stay so; B.01 goes on")
    func locked() throws {
        try lock("locked", [], thenUnlockAt: "left")
    }

    @Test("The service is killed, stands still, or its node is locked: what every function says")
    func everywhere() throws {
        let program = try CToolchain.compile("everywhere.c")
        for fault in ["killed", "stopped"] {
            let stand = try CkptStand()
            try stand.run(program, [fault, "\(stand.pid)"])
        }
        try lock("everywhere", ["locked"], thenUnlockAt: nil)
    }

    /// Runs a program that says "open" when its node may be locked.
    private func lock(_ name: String, _ arguments: [String], thenUnlockAt word: String?) throws {
        let stand = try CkptStand()
        let clmd = try stand.daemon("clmd")
        let cluster = ClusterClient(places: stand.places)
        defer { cluster.close() }
        let program = try stand.begin(CToolchain.compile(name + ".c"), arguments)
        let output = stand.root + "/\(name).out"
        func said(_ word: String) throws {
            try stand.wait(for: word) {
                (try? File.readText(output))?.contains(word) == true || !program.isRunning
            }
        }
        try said("open")
        try stand.wait(for: "the node's joining") { (try? cluster.administer(.lock, NodeID(1))) != nil }
        if let word {
            try said(word)
            try cluster.administer(.unlock, NodeID(1))
        }
        let run = try program.wait()
        #expect(run.succeeded, "\(run)")
        withExtendedLifetime(clmd) {}
    }

    @Test("A service that is away, or stands still, costs no more than the timeout")
    func silence() throws {
        let program = try CToolchain.compile("silent.c")
        try CkptStand(started: false).run(program, ["absent"])
        let stand = try CkptStand()
        try stand.run(program, ["stopped", "\(stand.pid)"])
    }
}
