import ClmClient
import ClmProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Testing

/// A clmd as a process, beside which this test was built.
private struct ClmdProcess: ~Copyable {
    private let process: SpawnedProcess

    init(_ places: Places) throws {
        let folder = File.parent(of: try #require(Environment.executablePath))
        var options = SpawnOptions(path: folder + "/clmd", arguments: ["clmd"], environment: places.environment)
        options.deathSignal = .kill
        process = try Process.spawn(options)
    }

    func end(_ signal: SignalNumber) throws -> OSAL.ExitStatus? {
        try Process.kill(process.pid, signal)
        let poller = try Poller()
        try poller.add(process.rawPidfd, interest: .read, token: 1)
        var events: [PollEvent] = []
        try poller.wait(into: &events, timeout: .seconds(20))
        return Process.reap(process.pid)
    }
}

@Suite("clmd under kill -9")
struct ClmKillTests {
    @Test("Ten kills: names stay, subscribers hear nothing of it, the view stays; SIGTERM ends it with status 0")
    func kills() throws {
        let temporary = try TemporaryPlaces()
        let provider = ClusterClient(places: temporary.places)
        let user = ClusterClient(places: temporary.places)
        defer {
            provider.close()
            user.close()
        }
        let heard = Heard()
        _ = try user.subscribe(ServiceRange(allOf: 100)) { heard.add($0) }
        var expected: [TopologyEvent] = []
        for round in 0..<10 as Range<UInt32> {
            let clmd = try ClmdProcess(temporary.places)
            let binding = try provider.bind(
                ServiceRange(type: 100, instance: round), to: PortID(round), incarnation: 1, timeout: .seconds(20))
            expected.append(.published(binding))
            for earlier in 0...round {
                #expect(try user.lookup(type: 100, instance: earlier, timeout: .seconds(20)).count == 1)
            }
            #expect(try user.currentView(timeout: .seconds(20)).viewNumber == 1)
            #expect(heard.first(expected.count) == expected, "round \(round)")
            #expect(try clmd.end(.kill) == .signaled(.kill))
        }
        let clmd = try ClmdProcess(temporary.places)
        #expect(try user.lookup(type: 100, instance: 9, timeout: .seconds(20)).count == 1)
        #expect(try clmd.end(.terminate) == .exited(code: 0))
        #expect(heard.all == expected)
    }
}
