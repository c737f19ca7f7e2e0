import EOLoop
import EngineKit
import IOC
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes

// A node of its own process for the tests of links, and what measures them:
//   linkpeer serve NODE IP1 IP2 INCARNATION [CERTIFICATES]   answers code 1 with the body it got
//   linkpeer ask NODE IP1 IP2 INCARNATION [CERTIFICATES]     asks the other node again and again, says "up ADDRESS",
//                                                           "down REASON" and at the first answer of a link "answered"
//   linkpeer bench NODE IP1 IP2 INCARNATION [CERTIFICATES]   measures against the other node, which serves
//   linkpeer certificates FOLDER                             makes FOLDER/1 and FOLDER/2 for the two nodes
// Several addresses of a node are written with commas between them.

func say(_ text: String) { StandardOutput.write(text + "\n") }

func describe(_ arguments: [String]) -> ClusterDescription {
    let folder = arguments.count > 6 ? arguments[6] : nil
    return ClusterDescription(
        clusterName: "test", groupEngine: .corosync, localNode: NodeID(UInt32(arguments[2]) ?? 0),
        nodes: (1...2).compactMap { number in
            SaName("node-\(number)").map {
                ClusterDescribedNode(
                    id: NodeID(UInt32(number)), name: $0, role: .controller,
                    addresses: arguments[2 + number].split(separator: ",").map { LinkAddress(String($0)) })
            }
        },
        links: LinkSettings(
            security: folder == nil ? .none : .tls, portBase: 17_000, certificateDirectory: folder ?? ""))
}

/// Asks, and asks again as soon as there is an answer, or none.
final class Asker {
    private let loop: Loop
    private let links: PeerLinks
    private let other: NodeID
    private var isSaid = false

    init(loop: Loop, links: PeerLinks, other: NodeID) {
        (self.loop, self.links, self.other) = (loop, links, other)
        links.onUp = { [unowned self] node, _, _ in
            isSaid = false
            say("up \(links.status.first { $0.node == node }?.address ?? "?")")
        }
        links.onDown = { say("down \($1)") }
    }

    func ask() {
        links.call(1, [1], to: other, timeout: .seconds(60)) { [unowned self] result in
            if case .success = result, !isSaid {
                isSaid = true
                say("answered")
            }
            loop.schedule(after: .milliseconds(10)) { [unowned self] in ask() }
        }
    }
}

func makeCertificates(in folder: String) throws {
    let authority = try CertificateAuthority.create(cluster: "test")
    for number in 1...2 {
        try File.makeDirectories("\(folder)/\(number)")
        try authority.issue(node: "node-\(number)").save(in: "\(folder)/\(number)")
    }
}

func run(_ arguments: [String]) throws {
    if arguments.count == 3, arguments[1] == "certificates" { return try makeCertificates(in: arguments[2]) }
    guard arguments.count >= 6 else {
        throw LinkError("serve|ask|bench NODE IP1 IP2 INCARNATION [CERTIFICATES] expected")
    }
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
    var bench: Bench?
    var asker: Asker?
    if arguments[1] == "bench" {
        let other = links.description.localNode == NodeID(1) ? 4 : 3
        bench = Bench(loop: loop, links: links, floor: try TcpFloor(to: arguments[other]))
        loop.enqueue(.normal) { bench?.start() }
    } else if arguments[1] == "ask" {
        asker = Asker(loop: loop, links: links, other: NodeID(links.description.localNode == NodeID(1) ? 2 : 1))
        loop.enqueue(.normal) { asker?.ask() }
    } else {
        // Only for who measures; a test that starts many nodes at one address has the first one's.
        try? TcpFloor.serve(at: arguments[links.description.localNode == NodeID(1) ? 3 : 4])
        say("serving")
    }
    loop.run()
    withExtendedLifetime((bench, asker)) {}  // the links know it only as unowned
    links.close()
}

do {
    try run(CommandLine.arguments)
} catch {
    StandardError.write("linkpeer: \(error)\n")
    Environment.exit(1)
}
