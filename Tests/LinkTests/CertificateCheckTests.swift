import IOCLinks
import Testing

@Suite("What stands in a certificate folder")
struct CertificateCheckTests {
    let certificates = Certificates()

    @Test("For whom, until when, by whom, and whether the key is its own")
    func check() throws {
        let authority = try certificates.authority("shop")
        let folder = try certificates.node("good", authority, name: "a", until: 7_200).certificateDirectory
        let good = try CertificateCheck(folder: folder)
        #expect(good.identity == CertificateCheck.identity(cluster: "shop", node: "a"))
        #expect(good.isSigned && good.keyMatches)
        #expect(good.secondsUntilValid <= 0 && (7_000...7_200).contains(good.secondsLeft))

        let late = try certificates.node("late", authority, name: "a", from: -7_200, until: -3_600)
        #expect(try CertificateCheck(folder: late.certificateDirectory).secondsLeft < -3_000)

        // The certificate of another authority, with the key of another node.
        let stranger = try certificates.authority("shop").issue(node: "a")
        try stranger.save(in: folder)
        try authority.issue(node: "b").save(in: certificates.root + "/b")
        for name in ["ca.pem", "node.key"] {
            try certificates.copy("b/\(name)", to: "good/\(name)")
        }
        let bad = try CertificateCheck(folder: folder)
        #expect(!bad.isSigned && !bad.keyMatches)
        #expect(throws: LinkError.self) { try CertificateCheck(folder: certificates.root + "/none") }
    }
}
