import AmfEngine
import AmfProtocol
import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import AmfShell

/// A keeper on a loop of its own, with a table that outlives it.
private final class Stand {
    let directory: String
    let loop: Loop
    let table: SharedFile
    var keeper: ProcessKeeper
    var events: [NodeEvent] = []
    var notes: [ShellNote] = []
    var outputs: [Child] = []
    private let plan: SpawnPlan

    init() throws {
        directory = try File.makeTemporaryDirectory("/dev/shm/saf-keeper-")
        loop = try Loop(name: "test")
        table = try SharedFile.create(directory + "/children", size: ChildrenTable.fileSize, mode: 0o600)
        let places = Places(
            runDirectory: directory, shmDirectory: directory, stateDirectory: directory, logDirectory: directory,
            configDirectory: directory, nodeName: "test")
        plan = SpawnPlan(
            places: places, node: NodeID(7), inherited: ["PATH=/usr/bin:/bin"],
            executable: try #require(Environment.executablePath))
        keeper = ProcessKeeper(
            loop: loop, plan: plan, table: ChildrenTable(memory: table.mapping.bytes, owner: table))
        connect()
    }

    /// What a kill of amfd does: the table and the processes stay, everything else goes.
    func restart() throws {
        keeper = ProcessKeeper(
            loop: loop, plan: plan, table: ChildrenTable(memory: table.mapping.bytes, owner: table))
        outputs = []
        events = []
        connect()
    }

    private func connect() {
        keeper.onEvent = { [unowned self] in events.append($0) }
        keeper.onNote = { [unowned self] in notes.append($0) }
        keeper.onOutput = { [unowned self] in outputs.append($0) }
    }

    /// Runs the loop until `condition` holds; false when it takes too long.
    func until(_ condition: @escaping () -> Bool) -> Bool {
        let deadline = MonotonicClock.now() + .seconds(20)
        let poll = loop.scheduleRepeating(every: .milliseconds(1)) { [loop] in
            if condition() || MonotonicClock.now() > deadline { loop.stop() }
        }
        loop.run()
        loop.cancel(poll)
        return condition()
    }

    func has(_ matches: @escaping (NodeEvent) -> Bool) -> Bool {
        until { [unowned self] in events.contains(where: matches) }
    }

    func end() {
        keeper.killEverything()
        _ = until { [unowned self] in keeper.isEmpty }
        try? File.removeTree(directory)  // a left-over must not hide the test's own outcome
    }
}

private let name = SaName("safComp=C,safSu=S,safSg=G,safApp=A")!
private let key = ChildKey(component: name, instance: 1)

private func model(_ arguments: String..., command: String = "testcomponent") -> ComponentModel {
    var model = ComponentModel(name: "C", command: command)
    model.arguments = arguments
    return model
}

@Suite("Process keeper", .serialized)
struct ProcessKeeperTests {
    @Test("A child is started, known by its pid, killed with its group, and its end told once")
    func life() throws {
        let stand = try Stand()
        defer { stand.end() }
        stand.keeper.spawn(key, model("silent"), environment: [])
        guard case .spawned(name, 1, let pid, _) = stand.events.first else {
            Issue.record("\(stand.events)")
            return
        }
        #expect(stand.keeper.child(ofMember: pid)?.key == key)
        #expect(Process.information(of: pid)?.session == pid)
        #expect(stand.outputs.count == 1)
        // The kernel shows them a moment after the program has begun.
        var text = ""
        let deadline = MonotonicClock.now() + .seconds(30)
        while text.isEmpty, MonotonicClock.now() < deadline { text = try File.readText("/proc/\(pid)/environ") }
        let variables = text.split(separator: "\0")
        #expect(variables.contains("SA_AMF_COMPONENT_NAME=\(name)"))
        #expect(variables.contains("SAF_NODE_ID=7"))
        #expect(variables.contains { $0.hasPrefix("SAF_RUN_DIR=") })
        stand.keeper.kill(key)
        #expect(stand.has { $0 == .exited(name, 1, reason: "killed by SIGKILL") })
        #expect(stand.keeper.isEmpty)
        #expect(Process.startTime(of: pid) == nil)
        stand.keeper.kill(key)
        #expect(stand.has { $0 == .exited(name, 1, reason: "gone") })
    }

    @Test("What cannot be started is refused with the name of the thing")
    func refusals() throws {
        let stand = try Stand()
        defer { stand.end() }
        var wrongUser = model("silent")
        wrongUser.user = "nobody-of-this-name"
        var wrongDirectory = model("silent")
        wrongDirectory.workingDirectory = "/no/such/directory"
        let plainFile = stand.directory + "/plain"
        try File.writeAtomically(plainFile, text: "no program", durable: false, mode: 0o644)
        let cases: [(ComponentModel, String)] = [
            (model(command: "no-such-program"), "no-such-program: no such program"),
            (model(command: plainFile), "plain cannot be executed"),
            (wrongUser, "user nobody-of-this-name does not exist"),
            (wrongDirectory, "/no/such/directory"),
        ]
        for (model, expected) in cases {
            stand.events = []
            stand.keeper.spawn(key, model, environment: [])
            guard case .spawnFailed(name, 1, let reason) = stand.events.first else {
                Issue.record("\(expected): \(stand.events)")
                continue
            }
            #expect(reason.contains(expected))
        }
        #expect(stand.keeper.isEmpty)
    }

    @Test("The exit status of a child that ends by itself is told")
    func exitStatus() throws {
        let stand = try Stand()
        defer { stand.end() }
        stand.keeper.spawn(key, model("exit", "3"), environment: [])
        #expect(stand.has { $0 == .exited(name, 1, reason: "exited with code 3") })
    }

    @Test("The next life adopts what lives, with its output, and leaves out what died")
    func adoption() throws {
        let stand = try Stand()
        defer { stand.end() }
        let other = ChildKey(component: SaName("safComp=D,safSu=S,safSg=G,safApp=A")!, instance: 7)
        stand.keeper.spawn(key, model("silent"), environment: [])
        stand.keeper.spawn(other, model("silent"), environment: [])
        let (first, second) = (stand.keeper.all[0], stand.keeper.all[1])
        try stand.restart()
        try Process.kill(second.pid, .kill)
        #expect(try IO.waitUntil(second.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
        let adopted = stand.keeper.adopt()
        let living = adopted.living
        #expect(adopted.ended == [other])
        #expect(living.map(\.component) == [name])
        #expect(living.first?.pid == first.pid)
        #expect(stand.outputs.first?.output.output?.inode == first.record.outputPipe)
        _ = Process.reap(second.pid)
        stand.keeper.kill(key)
        #expect(stand.has { if case .exited(name, 1, _) = $0 { true } else { false } })
    }

    @Test("A process started in the instant amfd died is ended by the next life")
    func stray() throws {
        let stand = try Stand()
        defer { stand.end() }
        stand.keeper.spawn(key, model("silent"), environment: [])
        let child = stand.keeper.all[0]
        // An exec that is not through shows no environment yet; a new amfd comes later than that.
        #expect(stand.until { (try? File.readText("/proc/\(child.pid)/environ"))?.isEmpty == false })
        // As if the kill had come before the pid was written down.
        let slots = UnsafeMutableRawBufferPointer(
            rebasing: stand.table.mapping.bytes[ChildrenTable.headerSize...])
        slots.storeBytes(of: ChildRecord.SlotState.intended.rawValue, as: UInt32.self)
        try stand.restart()
        #expect(stand.keeper.adopt().living.isEmpty)
        #expect(try IO.waitUntil(child.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)))
        #expect(stand.notes.last == .endedStray(pid: child.pid))
        _ = Process.reap(child.pid)
    }

    @Test("A component whose output nobody reads goes on")
    func outputNeverBlocks() throws {
        let stand = try Stand()
        defer { stand.end() }
        let (pipe, childEnd) = try OutputPipe.make()
        let ears = try makePipe(nonBlocking: true)
        let directory = File.parent(of: try #require(Environment.executablePath))
        var options = SpawnOptions(path: directory + "/testcomponent")
        options.arguments = ["testcomponent", "output"]
        options.descriptors = [DescriptorMapping(childEnd.raw, as: 1), DescriptorMapping(ears.second.raw, as: 4)]
        let process = try Process.spawn(options)
        let pid = process.pid
        defer {
            _ = try? Process.kill(pid, .kill)
            _ = try? IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(10))
            _ = Process.reap(pid)
        }
        #expect(try IO.waitUntil(ears.first.raw, readable: true, deadline: MonotonicClock.now() + .seconds(20)))
        let again = OutputPipe.reopen(pid: pid, number: 1, inode: pipe.inode)
        #expect(again != nil)
        #expect(OutputPipe.reopen(pid: pid, number: 1, inode: pipe.inode + 1) == nil)
        #expect(OutputPipe.reopen(pid: pid, number: 0, inode: pipe.inode) == nil)
    }

    @Test("A clean-up command succeeds, fails, or is ended when it takes too long")
    func cleanup() throws {
        let stand = try Stand()
        defer { stand.end() }
        var good = model()
        good.cleanupCommand = "/bin/true"
        stand.keeper.cleanUp(key, good)
        #expect(stand.has { $0 == .cleanedUp(name, 1, succeeded: true, reason: "") })
        stand.events = []
        var bad = model()
        bad.cleanupCommand = "/bin/false"
        stand.keeper.cleanUp(key, bad)
        #expect(stand.has { if case .cleanedUp(name, 1, succeeded: false, _) = $0 { true } else { false } })
        stand.events = []
        var slow = model()
        (slow.cleanupCommand, slow.cleanupArguments) = ("/bin/sleep", ["100"])
        slow.timeouts.cleanup = .milliseconds(20)
        stand.keeper.cleanUp(key, slow)
        #expect(
            stand.has {
                $0 == .cleanedUp(name, 1, succeeded: false, reason: "the clean-up command did not end in time")
            })
    }
}
