import EOLoop
import EngineKit
import IOC
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes

// A node of its own process for the tests of links, and what measures them:
//   linkpeer serve NODE IP1 IP2 INCARNATION [CERTIFICATES]   answers code 1 with the body it got
//   linkpeer bench NODE IP1 IP2 INCARNATION [CERTIFICATES]   measures against the other node, which serves

func say(_ text: String) { StandardOutput.write(text + "\n") }

func describe(_ arguments: [String]) -> ClusterDescription {
    let folder = arguments.count > 6 ? arguments[6] : nil
    return ClusterDescription(
        clusterName: "test", groupEngine: .corosync, localNode: NodeID(UInt32(arguments[2]) ?? 0),
        nodes: (1...2).compactMap { number in
            SaName("node-\(number)").map {
                ClusterDescribedNode(
                    id: NodeID(UInt32(number)), name: $0, role: .controller,
                    addresses: [LinkAddress(arguments[2 + number])])
            }
        },
        links: LinkSettings(
            security: folder == nil ? .none : .tls, portBase: 17_000, certificateDirectory: folder ?? ""))
}

func run(_ arguments: [String]) throws {
    guard arguments.count >= 6 else { throw LinkError("serve|bench NODE IP1 IP2 INCARNATION [CERTIFICATES] expected") }
    let loop = try Loop(name: "linkpeer")
    let links = try PeerLinks(
        loop: loop, service: .ckptd, description: describe(arguments), incarnation: UInt64(arguments[5]) ?? 0)
    links.onTrouble = { say("trouble: \($0)") }
    var received = 0
    links.onMessage = { _, _, _, body in received += body.count }
    links.onRequest = { request, body in
        switch request.code {
        case 1: request.reply(body)
        case 2: withUnsafeBytes(of: UInt64(received)) { request.reply($0) }
        default: request.reply([])
        }
    }
    let bench = arguments[1] == "bench" ? Bench(loop: loop, links: links) : nil
    if let bench { loop.enqueue(.normal) { bench.start() } } else { say("serving") }
    loop.run()
    withExtendedLifetime(bench) {}  // the links know it only as unowned
    links.close()
}

do {
    try run(CommandLine.arguments)
} catch {
    StandardError.write("linkpeer: \(error)\n")
    Environment.exit(1)
}
