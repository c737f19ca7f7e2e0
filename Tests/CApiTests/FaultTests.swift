import EngineKit
import OSAL
import Testing

/// What a C program sees when the service dies under it, or its data is spoilt.
@Suite("C programs and faults", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct FaultTests {
    @Test("ckptd is killed again and again: calls wait or say TRY_AGAIN, and nothing acknowledged is lost")
    func killed() throws {
        let stand = try CkptStand()
        let path = stand.root + "/counter"
        let counter = try SharedFile.create(path, size: 4096, mode: 0o600)
        func acknowledged() -> UInt64 {
            counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring)
        }
        let program = try stand.begin(CToolchain.compile("steady.c"), [path])
        for _ in 0..<25 {
            let seen = acknowledged()
            try stand.wait(for: "progress") { acknowledged() > seen + 50 || !program.isRunning }
            guard program.isRunning else { throw CToolError("\(try program.wait())") }
            stand.kill()
            try stand.start()
        }
        let seen = acknowledged()
        try stand.wait(for: "progress after the last") { acknowledged() > seen + 500 || !program.isRunning }
        counter.mapping.base.atomic(UInt64.self, at: 8).pointee.store(1, ordering: .releasing)
        let run = try program.wait()
        #expect(run.succeeded, "\(run)")
    }

    @Test("A section whose bytes are spoilt is CORRUPTED, the others are not, and overwriting repairs it")
    func corrupted() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("corrupted.c")
        try stand.run(program, ["make"])
        stand.kill()
        #expect(try spoil(Array("these bytes are to be spoilt by the test".utf8), below: stand.places.shmDirectory) > 0)
        try stand.start()
        try stand.run(program, ["meet"])
    }

    /// Turns over one bit wherever the bytes stand in a file of the folder; how often that was.
    func spoil(_ bytes: [UInt8], below folder: String) throws -> Int {
        var count = 0
        for name in try File.list(folder + "/ckpt") {
            let path = "\(folder)/ckpt/\(name)"
            let status = try File.stat(path, followLinks: false)
            guard status.kind == .file, status.size > 0 else { continue }
            let file = try SharedFile.open(path, writable: true)
            let size = file.mapping.count
            var place = 0
            while place + bytes.count <= size {
                let here = file.mapping.base.loadUnaligned(fromByteOffset: place, as: UInt8.self)
                if here == bytes[0],
                    bytes.indices.allSatisfy({
                        file.mapping.base.loadUnaligned(fromByteOffset: place + $0, as: UInt8.self) == bytes[$0]
                    })
                {
                    file.mapping.base.storeBytes(of: here ^ 1, toByteOffset: place, as: UInt8.self)
                    count += 1
                }
                place += 1
            }
        }
        return count
    }

    @Test("A persistent checkpoint is there again after a start from nothing, and deleted it stays deleted")
    func cold() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("cold.c")
        try stand.run(program, ["write"])
        stand.kill()
        try File.removeTree(stand.places.shmDirectory)
        try stand.start()
        try stand.run(program, ["read"])
        stand.kill()
        try File.removeTree(stand.places.shmDirectory)
        try stand.start()
        #expect(try !stand.begin(program, ["read"]).wait().succeeded)
    }

    @Test("A full RAM file system is NO_SPACE, and what is there stays", .enabled(if: Environment.userID == 0))
    func full() throws {
        let stand = try CkptStand(started: false)
        let shm = stand.places.shmDirectory
        try File.makeDirectories(shm, mode: 0o755)
        try #require(try Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", shm]) == 0)
        defer {
            stand.kill()
            _ = try? Self.run("/bin/umount", ["-l", shm])  // a stand that stays behind is seen
        }
        try stand.start()
        try stand.run(CToolchain.compile("full.c"))
    }

    @Test(
        "Who may write directly, and does whatever can be done with what it got, ends nobody of another user",
        .enabled(if: Environment.userID == 0 && File.canForbidCutting))
    func hostile() throws {
        let stand = try CkptStand(started: false)
        let shm = stand.places.shmDirectory
        try File.makeDirectories(shm, mode: 0o755)
        try File.setMode(stand.root, 0o755)
        try #require(try Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", shm]) == 0)
        defer {
            stand.kill()
            _ = try? Self.run("/bin/umount", ["-l", shm])  // a stand that stays behind is seen
        }
        try stand.start()
        let program = try CToolchain.compile("hostile.c")
        func said(_ word: String, _ name: String, _ command: StartedCommand) throws {
            try stand.wait(for: "\(name) to say \(word)") {
                (try? File.readText("\(stand.root)/\(name).out"))?.contains(word) == true || !command.isRunning
            }
            if !command.isRunning { throw CToolError("\(try command.wait())") }
        }
        let attacker = try stand.begin(program, ["attack", stand.root, "65534"], as: "attacker")
        try said("direct", "attacker", attacker)
        let victim = try stand.begin(program, ["victim", stand.root], as: "victim")
        try said("reading", "victim", victim)
        let pid = stand.pid
        _ = try File.openForAppending(stand.root + "/go")
        let outcome = try victim.wait()
        #expect(outcome.succeeded, "\(outcome)")
        _ = try File.openForAppending(stand.root + "/stop")
        let end = try attacker.wait()
        #expect(end.succeeded, "\(end)")
        #expect(stand.isRunning && stand.pid == pid)
        try stand.run(program, ["repair", stand.root])
    }

    private static func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        let child = try Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments))
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        guard case .exited(let code)? = Process.reap(child.pid) else { return -1 }
        return code
    }

    @Test("What a living program closes and finalises while ckptd is away is closed when it is back")
    func downTime() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("downtime.c")
        let holder = try stand.begin(program, ["hold", "\(stand.pid)"])
        let output = stand.root + "/downtime.out"
        try stand.wait(for: "the end of ckptd") {
            (try? File.readText(output))?.contains("closed") == true || !holder.isRunning
        }
        try #require(holder.isRunning)
        stand.kill()
        try stand.start()
        try stand.run(program, ["look"])
        #expect(holder.isRunning)
        _ = try Process.kill(holder.pid, .kill)
        _ = try holder.wait()
    }

    @Test("A program that is killed has nothing open any more")
    func clientKilled() throws {
        let stand = try CkptStand()
        let program = try CToolchain.compile("victim.c")
        let holder = try stand.begin(program, ["hold"])
        let output = stand.root + "/victim.out"
        try stand.wait(for: "the holder") {
            (try? File.readText(output))?.contains("open") == true || !holder.isRunning
        }
        try #require(holder.isRunning)
        _ = try Process.kill(holder.pid, .kill)
        _ = try holder.wait()
        try stand.run(program, ["gone"])
    }
}
