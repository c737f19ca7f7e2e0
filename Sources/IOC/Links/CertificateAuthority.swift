import OSAL

/// The authority of one cluster: makes the certificates by which its nodes know each other. ECDSA P-256, TLS 1.3.
///
/// Used by the command line (`saf cluster init`, `join`); the daemons read what it wrote.
public struct CertificateAuthority: Sendable {
    public let cluster: String
    public let certificatePEM: [UInt8]
    private let keyPEM: [UInt8]

    public static let certificateFile = "ca.pem"
    public static let keyFile = "ca.key"

    /// What a node needs: the authority it trusts, its own certificate and key.
    public struct NodeCertificate: Sendable {
        public let node: String
        public let authorityPEM: [UInt8]
        public let certificatePEM: [UInt8]
        public let keyPEM: [UInt8]

        /// Writes `ca.pem`, `node.pem` and `node.key`, readable by their owner only; each is replaced as a whole.
        public func save(in folder: String) throws(OSError) {
            try File.makeDirectories(folder, mode: 0o700)
            try CertificateAuthority.write("\(folder)/ca.pem", authorityPEM)
            try CertificateAuthority.write("\(folder)/node.key", keyPEM)
            try CertificateAuthority.write("\(folder)/node.pem", certificatePEM)
        }
    }

    /// Makes a new authority. Names are 1 to 64 letters, digits, `.`, `_` and `-`: they stand in certificates as text.
    public static func create(cluster: String, days: Int = 3650) throws(LinkError) -> CertificateAuthority {
        let library = try OpenSSL.shared.get()
        try check(cluster, "cluster name")
        let maker = CertificateMaker(library)
        let key = try maker.makeKey()
        defer { library.EVP_PKEY_free(key) }
        let certificate = try maker.certificate(
            subject: [("CN", "SwiftSAF authority of \(cluster)"), ("O", cluster)], key: key, from: -3600,
            until: days * 86400,
            extensions: [
                (CertificateMaker.basicConstraints, "critical,CA:TRUE,pathlen:0"),
                (CertificateMaker.keyUsage, "critical,keyCertSign,cRLSign"),
            ], issuer: nil, signer: key)
        defer { library.X509_free(certificate) }
        return CertificateAuthority(
            cluster: cluster, certificatePEM: try maker.pem(certificate: certificate), keyPEM: try maker.pem(key: key))
    }

    private init(cluster: String, certificatePEM: [UInt8], keyPEM: [UInt8]) {
        self.cluster = cluster
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
    }

    /// Reads what ``save(in:)`` wrote.
    public init(cluster: String, folder: String) throws(OSError) {
        self.cluster = cluster
        certificatePEM = try File.readAll("\(folder)/\(Self.certificateFile)", limit: 1 << 20)
        keyPEM = try File.readAll("\(folder)/\(Self.keyFile)", limit: 1 << 20)
    }

    /// Writes `ca.pem` and `ca.key`, readable by their owner only. Whoever has the key can make nodes.
    public func save(in folder: String) throws(OSError) {
        try File.makeDirectories(folder, mode: 0o700)
        try Self.write("\(folder)/\(Self.keyFile)", keyPEM)
        try Self.write("\(folder)/\(Self.certificateFile)", certificatePEM)
    }

    /// Makes key and certificate of a node.
    ///
    /// - Parameters:
    ///   - validFrom: seconds from now; a little in the past, because clocks of nodes differ.
    ///   - validUntil: seconds from now.
    public func issue(
        node: String, validFrom: Int = -3600, validUntil: Int = 3650 * 86400
    ) throws(LinkError) -> NodeCertificate {
        let library = try OpenSSL.shared.get()
        try Self.check(node, "node name")
        guard let issuer = library.certificate(pem: certificatePEM), let signer = library.key(pem: keyPEM) else {
            throw LinkError("the authority's certificate or key cannot be read: \(library.lastReason())")
        }
        defer {
            library.X509_free(issuer)
            library.EVP_PKEY_free(signer)
        }
        let maker = CertificateMaker(library)
        let key = try maker.makeKey()
        defer { library.EVP_PKEY_free(key) }
        let certificate = try maker.certificate(
            subject: [("CN", node), ("O", cluster)], key: key, from: validFrom, until: validUntil,
            extensions: [
                (CertificateMaker.basicConstraints, "critical,CA:FALSE"),
                (CertificateMaker.keyUsage, "critical,digitalSignature"),
                (CertificateMaker.extendedKeyUsage, "serverAuth,clientAuth"),
                (OpenSSL.subjectAltName, "URI:" + TlsContext.identity(cluster: cluster, node: node)),
            ], issuer: issuer, signer: signer)
        defer { library.X509_free(certificate) }
        return NodeCertificate(
            node: node, authorityPEM: certificatePEM, certificatePEM: try maker.pem(certificate: certificate),
            keyPEM: try maker.pem(key: key))
    }

    /// Names go into certificates as text that OpenSSL parses: nothing in them may mean something to it.
    private static func check(_ name: String, _ what: String) throws(LinkError) {
        let isAllowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard isAllowed, (1...64).contains(name.utf8.count) else {
            throw LinkError("\(what) \"\(name)\"; 1 to 64 letters, digits, '.', '_' or '-' expected")
        }
    }

    fileprivate static func write(_ path: String, _ bytes: [UInt8]) throws(OSError) {
        try File.writeAtomically(path, bytes, durable: true, mode: 0o600)
    }
}

/// Keys and certificates, as OpenSSL makes them. Whoever gets an object frees it.
private struct CertificateMaker {
    static let keyUsage: Int32 = 83
    static let basicConstraints: Int32 = 87
    static let extendedKeyUsage: Int32 = 126

    private let library: OpenSSL

    init(_ library: OpenSSL) { self.library = library }

    func makeKey() throws(LinkError) -> OpaquePointer {
        let context = library.EVP_PKEY_CTX_new_from_name(nil, "EC", nil)
        defer { library.EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard library.EVP_PKEY_keygen_init(context) == 1,
            library.EVP_PKEY_CTX_set_group_name(context, "P-256") == 1,
            library.EVP_PKEY_generate(context, &key) == 1, let key
        else { throw LinkError("no key can be made: \(library.lastReason())") }
        return key
    }

    func certificate(
        subject: [(field: String, value: String)], key: OpaquePointer, from: Int, until: Int,
        extensions: [(number: Int32, value: String)], issuer: OpaquePointer?, signer: OpaquePointer
    ) throws(LinkError) -> OpaquePointer {
        guard let certificate = library.X509_new() else { throw LinkError("out of memory for a certificate") }
        var serial: UInt64 = 0
        var isGood = library.RAND_bytes(&serial, 8) == 1
        serial = serial >> 1 | 1
        isGood = isGood && library.X509_set_version(certificate, 2) == 1
        isGood = isGood && library.ASN1_INTEGER_set_uint64(library.X509_get_serialNumber(certificate), serial) == 1
        isGood = isGood && library.X509_gmtime_adj(library.X509_getm_notBefore(certificate), from) != nil
        isGood = isGood && library.X509_gmtime_adj(library.X509_getm_notAfter(certificate), until) != nil
        isGood = isGood && library.X509_set_pubkey(certificate, key) == 1
        let name = library.X509_get_subject_name(certificate)
        for (field, value) in subject {
            // 0x1000: MBSTRING_UTF8.
            isGood = isGood && library.X509_NAME_add_entry_by_txt(name, field, 0x1000, value, -1, -1, 0) == 1
        }
        isGood =
            isGood
            && library.X509_set_issuer_name(
                certificate, library.X509_get_subject_name(issuer ?? certificate)) == 1
        for (number, value) in extensions {
            let made = library.X509V3_EXT_conf_nid(nil, nil, number, value)
            isGood = isGood && made != nil && library.X509_add_ext(certificate, made, -1) == 1
            library.X509_EXTENSION_free(made)
        }
        guard isGood, library.X509_sign(certificate, signer, library.EVP_sha256()) > 0 else {
            library.X509_free(certificate)
            throw LinkError("no certificate can be made: \(library.lastReason())")
        }
        return certificate
    }

    func pem(certificate: OpaquePointer) throws(LinkError) -> [UInt8] {
        try pem { library.PEM_write_bio_X509($0, certificate) }
    }

    func pem(key: OpaquePointer) throws(LinkError) -> [UInt8] {
        try pem { library.PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) }
    }

    private func pem(_ write: (OpaquePointer?) -> Int32) throws(LinkError) -> [UInt8] {
        let memory = library.BIO_new(library.BIO_s_mem())
        defer { _ = library.BIO_free(memory) }
        guard write(memory) == 1 else { throw LinkError("no PEM can be written: \(library.lastReason())") }
        return library.drain(memory)
    }
}
