import EOLoop
import EngineKit
import IOCCluster
import OSAL
import SAFTypes
import Testing

@testable import AmfShell

@Suite("Fence agents")
struct FencerTests {
    /// Agents that are shell scripts, in a folder of their own.
    private func run(_ scripts: [String], timeout: Duration = .seconds(20)) throws -> (failure: String?, input: String)
    {
        let folder = try File.makeTemporaryDirectory("/dev/shm/saf-fence-")
        defer { _ = try? File.removeTree(folder) }
        try File.writeAtomically(folder + "/parameters", text: "ip=192.0.2.1\npassword=secret", durable: false)
        var devices: [FencingDevice] = []
        for (index, script) in scripts.enumerated() {
            let path = "\(folder)/agent\(index)"
            try File.writeAtomically(
                path, Array("#!/bin/sh\ncd \(folder)\n\(script)\n".utf8), durable: false, mode: 0o755)
            devices.append(FencingDevice(node: NodeID(2), agent: path, parametersFile: folder + "/parameters"))
        }
        let loop = try Loop(name: "fence")
        let fencer = Fencer(loop: loop, settings: FencingSettings(timeout: timeout, devices: devices))
        var failure: String?
        fencer.fence(NodeID(2)) {
            failure = $0
            loop.stop()
        }
        loop.schedule(after: .seconds(60)) {
            failure = "the test took too long"
            loop.stop()
        }
        loop.run()
        return (failure, (try? File.readText(folder + "/input")) ?? "")
    }

    @Test("An agent is told what to do on its standard input; exit status 0 is success")
    func succeeds() throws {
        let outcome = try run(["cat > input"])
        #expect(outcome.failure == nil)
        #expect(outcome.input == "action=off\nip=192.0.2.1\npassword=secret\n")
    }

    @Test("The next device is tried when one fails; what they said is told, and no password")
    func tryNext() throws {
        #expect(try run(["echo no route >&2; exit 1", "cat > input"]).failure == nil)
        let failure = try #require(try run(["echo no route >&2; exit 1", "exit 3"]).failure)
        #expect(failure.contains("no route"))
        #expect(!failure.contains("secret"))
    }

    @Test("An agent that does not end is ended, and has not succeeded")
    func late() throws {
        let failure = try #require(try run(["sleep 60"], timeout: .milliseconds(100)).failure)
        #expect(failure.contains("did not end"))
    }

    @Test("What the parameters ask for is done")
    func action() {
        #expect(Fencer.input(Array("action=reboot\nip=1\n".utf8)) == Array("action=reboot\nip=1\n".utf8))
    }
}
