import EngineKit
import OSAL

/// The other process of a bench: this very program, started again with a role and a descriptor.
enum Peer {
    /// The hidden command that starts a role: `saf bench-peer ROLE ARGUMENT…`.
    static let command = "bench-peer"

    static func spawn(
        _ role: String, _ arguments: [String] = [], descriptors: [DescriptorMapping] = [],
        environment: [String] = Environment.all
    ) throws(OSError) -> SpawnedProcess {
        let program = Environment.executablePath ?? "/proc/self/exe"
        var options = SpawnOptions(
            path: program, arguments: [program, command, role] + arguments, environment: environment)
        options.descriptors = descriptors + [DescriptorMapping(2, as: 2)]
        options.newSession = false
        options.deathSignal = .kill
        return try Process.spawn(options)
    }
}

/// Runs the role that `saf bench-peer` names; never returns.
public func runBenchPeer(_ arguments: [String]) -> Never {
    let rest = Array(arguments.dropFirst())
    switch arguments.first {
    case "echo": Floor.echo(on: 3)
    case "ioc-echo": runIOCEcho(on: rest.first.flatMap { Int($0) })
    case "component": runBenchComponent()
    case "cluster-component" where rest.count == 1: runClusterComponent(rest[0])
    case "views" where rest.count == 1: runViewWitness(rest[0])
    case "multicasts" where rest.count == 1: runMulticastWitness(rest[0])
    case "tcp-echo" where rest.count == 1: runTcpEcho(at: rest[0])
    case "tcp-ping" where rest.count == 2: runTcpPing(to: rest[0], record: rest[1])
    case "cluster-checkpoints" where rest.count == 3:
        runCheckpointWriter(rest[0], floor: rest[1], record: rest[2])
    default:
        StandardError.write("saf bench-peer is a part of saf bench, not for people\n")
        Environment.exit(2)
    }
}
