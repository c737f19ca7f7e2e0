import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

/// Folders with certificates, removed at the end.
final class Certificates: Sendable {
    let root: String

    init() { root = must { () throws(OSError) in try File.makeTemporaryDirectory("/dev/shm/saf-links-") } }

    deinit { try? File.removeTree(root) }

    func copy(_ file: String, to target: String) throws {
        try File.writeAtomically("\(root)/\(target)", try File.readAll("\(root)/\(file)"), durable: false)
    }

    func authority(_ cluster: String = "test") throws -> CertificateAuthority {
        try CertificateAuthority.create(cluster: cluster)
    }

    /// Makes the folder of a node; the certificate may be of another name, time or authority.
    func node(
        _ folder: String, _ authority: CertificateAuthority, name: String, from: Int = -3600, until: Int = 3600
    ) throws -> LinkSettings {
        let path = "\(root)/\(folder)"
        try authority.issue(node: name, validFrom: from, validUntil: until).save(in: path)
        return LinkSettings(security: .tls, portBase: 17_000, certificateDirectory: path)
    }
}

@Suite("Links over TLS")
struct LinkTlsTests {
    let certificates = Certificates()
    let net = TestNet()

    private func node(_ id: Int, _ links: LinkSettings) -> TestNode {
        var description = net.settings(id)
        description.links = links
        return TestNode(description)
    }

    @Test("Nodes with certificates of one authority talk, whatever the size", arguments: [0, 1024, 300_000, 5 << 20])
    func talks(size: Int) throws {
        let authority = try certificates.authority()
        let one = node(1, try certificates.node("one", authority, name: "node-1"))
        let two = node(2, try certificates.node("two", authority, name: "node-2"))
        let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(one.call(Code.echo, body, to: second) == .success(body))
        #expect(two.call(Code.echo, body, to: first) == .success(body))
        one.stop()
        two.stop()
    }

    /// Expects that no link comes about, and what each side says.
    private func refused(
        _ one: LinkSettings, _ two: LinkSettings, dialer: [String], acceptor: [String],
        _ place: SourceLocation = #_sourceLocation
    ) {
        let (one, two) = (node(1, one), node(2, two))
        one.reach(second)
        for (node, texts) in [(one, dialer), (two, acceptor)] {
            let isSaid = eventually {
                node.seen.withLock { seen in
                    seen.troubles.contains { trouble in texts.allSatisfy { trouble.contains($0) } }
                }
            }
            #expect(isSaid, "\(texts) in \(node.seen.withLock { $0.troubles })", sourceLocation: place)
        }
        #expect(!one.isUp(second), sourceLocation: place)
        one.stop()
        two.stop()
    }

    @Test("A certificate of another authority is refused on both sides, also one of the same name")
    func foreign() throws {
        let (ours, theirs) = (try certificates.authority(), try certificates.authority())
        let one = try certificates.node("one", ours, name: "node-1")
        let two = try certificates.node("two", theirs, name: "node-2")
        refused(
            one, two, dialer: ["node-2", net.ip(2), "not accepted", "was expected", "\"test\""],
            acceptor: ["from 127.", "was expected"])
    }

    @Test(
        "An expired certificate is refused: by the acceptor when it is the dialer's, by the dialer when the acceptor's")
    func expired() throws {
        let authority = try certificates.authority()
        let good = try certificates.node("good", authority, name: "node-2")
        let old = try certificates.node("old", authority, name: "node-1", from: -7200, until: -3600)
        refused(old, good, dialer: ["node-2", "expired"], acceptor: ["expired", "was expected"])
        let fresh = try certificates.node("fresh", authority, name: "node-1")
        let past = try certificates.node("past", authority, name: "node-2", from: -7200, until: -3600)
        refused(fresh, past, dialer: ["node-2", "expired", "was expected"], acceptor: ["expired"])
    }

    @Test("A good certificate of another node is refused on both sides")
    func wrongNode() throws {
        let authority = try certificates.authority()
        let one = try certificates.node("one", authority, name: "node-1")
        let three = try certificates.node("three", authority, name: "node-3")
        refused(
            one, three, dialer: ["saf:cluster/test/node/node-3", "node-2", "was expected"],
            acceptor: ["node-3", "was expected"])
        let two = try certificates.node("two", authority, name: "node-2")
        refused(
            three, two, dialer: ["refused", "node-3", "node-1"], acceptor: ["node-3", "node-1 is expected"])
    }

    @Test("A plain dialer and a TLS acceptor do not talk, and say why")
    func plainAgainstTls() throws {
        let authority = try certificates.authority()
        refused(
            LinkSettings(security: .none, portBase: 17_000), try certificates.node("two", authority, name: "node-2"),
            dialer: ["node-2"], acceptor: ["from 127.", "was expected"])
    }

    @Test(
        "A renewed certificate is used from the next handshake on; one that cannot be used leaves those before in use")
    func renewed() throws {
        let authority = try certificates.authority()
        let old = try certificates.node("one", authority, name: "node-1", from: -7200, until: -3600)
        let one = node(1, old)
        let two = node(2, try certificates.node("two", authority, name: "node-2"))
        one.reach(second)
        #expect(eventually { one.seen.withLock { $0.troubles.contains { $0.contains("expired") } } })
        #expect(!one.isUp(second))
        _ = try certificates.node("one", authority, name: "node-1")
        #expect(one.call(Code.echo, [1], to: second) == .success([1]))

        try File.writeAtomically("\(old.certificateDirectory)/node.key", text: "half", durable: false)
        one.on { _ in one.links.leave(second) }
        #expect(one.call(Code.echo, [2], to: second) == .success([2]))
        let troubles = one.seen.withLock { $0.troubles }
        #expect(troubles.contains { $0.contains("node.key") && $0.contains("stay in use") }, "\(troubles)")
        one.stop()
        two.stop()
    }

    @Test("Files without certificates, and names that would mean something to OpenSSL, are refused by name")
    func badFiles() throws {
        #expect(throws: LinkError.self) { try TlsContext(folder: certificates.root) }
        #expect(throws: LinkError.self) { try CertificateAuthority.create(cluster: "a,URI:b") }
        let authority = try certificates.authority()
        #expect(throws: LinkError.self) { try authority.issue(node: "") }
        try authority.save(in: "\(certificates.root)/authority")
        let again = try CertificateAuthority(cluster: "test", folder: "\(certificates.root)/authority")
        #expect(try File.stat("\(certificates.root)/authority/ca.key").mode & 0o777 == 0o600)
        let links = try certificates.node("one", again, name: "node-1")
        #expect(try File.stat("\(links.certificateDirectory)/node.key").mode & 0o777 == 0o600)
        try File.writeAtomically("\(links.certificateDirectory)/node.key", text: "x", durable: false)
        var text = ""
        do { _ = try TlsContext(folder: links.certificateDirectory) } catch { text = "\(error)" }
        #expect(text.contains("node.key"), "\(text)")
    }
}
