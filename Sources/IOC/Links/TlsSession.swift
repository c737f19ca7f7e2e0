import OSAL

/// The certificates of this node and the authority it trusts, ready for sessions.
final class TlsContext {
    /// Whom a certificate is for, as its URI says it.
    static func identity(cluster: String, node: String) -> String { "saf:cluster/\(cluster)/node/\(node)" }

    let library: OpenSSL
    fileprivate let context: OpaquePointer

    /// Reads `ca.pem`, `node.pem` and `node.key` of the folder.
    init(folder: String) throws(LinkError) {
        library = try OpenSSL.shared.get()
        let authority = try Self.read("\(folder)/ca.pem")
        let certificate = try Self.read("\(folder)/node.pem")
        let key = try Self.read("\(folder)/node.key")
        guard let context = library.SSL_CTX_new(library.TLS_method()) else {
            throw LinkError("TLS cannot be set up: \(library.lastReason())")
        }
        self.context = context
        try set("TLS 1.3 only", library.SSL_CTX_ctrl(context, Self.setMinimum, Self.tls13, nil))
        try set("TLS 1.3 only", library.SSL_CTX_ctrl(context, Self.setMaximum, Self.tls13, nil))
        _ = library.SSL_CTX_ctrl(context, Self.setCacheMode, 0, nil)
        try set("no tickets", Int(library.SSL_CTX_set_num_tickets(context, 0)))
        try set("cipher suites", Int(library.SSL_CTX_set_ciphersuites(context, Self.suites)))
        library.SSL_CTX_set_verify(context, Self.verifyPeer, nil)
        try trust(authority, "\(folder)/ca.pem")
        try present(certificate, key, folder)
    }

    deinit { library.SSL_CTX_free(context) }

    // SSL_CTRL_SET_MIN_PROTO_VERSION, _MAX_, SSL_CTRL_SET_SESS_CACHE_MODE; TLS1_3_VERSION; VERIFY_PEER and
    // FAIL_IF_NO_PEER_CERT. Source: openssl/ssl.h, fixed for version 3.
    private static let setMinimum: Int32 = 123
    private static let setMaximum: Int32 = 124
    private static let setCacheMode: Int32 = 44
    private static let tls13 = 0x0304
    private static let verifyPeer: Int32 = 3
    private static let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

    private static func read(_ path: String) throws(LinkError) -> [UInt8] {
        do throws(OSError) {
            return try File.readAll(path, limit: 1 << 20)
        } catch {
            throw LinkError("link security tls: \(error); saf cluster init and join make the certificates")
        }
    }

    private func set(_ what: String, _ result: Int) throws(LinkError) {
        if result != 1 { throw LinkError("TLS cannot be set up (\(what)): \(library.lastReason())") }
    }

    private func trust(_ pem: [UInt8], _ path: String) throws(LinkError) {
        guard let authority = library.certificate(pem: pem) else {
            throw LinkError("\(path): no certificate: \(library.lastReason())")
        }
        defer { library.X509_free(authority) }
        try set(path, Int(library.X509_STORE_add_cert(library.SSL_CTX_get_cert_store(context), authority)))
    }

    private func present(_ pem: [UInt8], _ keyPem: [UInt8], _ folder: String) throws(LinkError) {
        guard let certificate = library.certificate(pem: pem) else {
            throw LinkError("\(folder)/node.pem: no certificate: \(library.lastReason())")
        }
        defer { library.X509_free(certificate) }
        guard let key = library.key(pem: keyPem) else {
            throw LinkError("\(folder)/node.key: no private key: \(library.lastReason())")
        }
        defer { library.EVP_PKEY_free(key) }
        try set("\(folder)/node.pem", Int(library.SSL_CTX_use_certificate(context, certificate)))
        try set("\(folder)/node.key", Int(library.SSL_CTX_use_PrivateKey(context, key)))
        try set("\(folder)/node.key fits node.pem", Int(library.SSL_CTX_check_private_key(context)))
    }
}

/// One TLS connection, without a socket: ciphertext in and out of memory, plaintext on the other side.
final class TlsSession {
    enum Outcome: Equatable {
        case moved(Int)
        case blocked
        case failed(String)
    }

    private let context: TlsContext
    private let library: OpenSSL
    private let session: OpaquePointer
    /// The ciphertext of both directions.
    let memory: TlsMemory
    private(set) var isEstablished = false
    /// There may be plaintext that was not read.
    private(set) var hasInput = false
    /// Whom the other side's certificate is for; set with `isEstablished`.
    private(set) var peerIdentity: String?

    init(_ context: TlsContext, isServer: Bool) throws(LinkError) {
        self.context = context
        library = context.library
        guard let session = library.SSL_new(context.context) else {
            throw LinkError("out of memory for TLS: \(library.lastReason())")
        }
        self.session = session
        do throws(LinkError) { memory = try TlsMemory() } catch {
            library.SSL_free(session)
            throw error
        }
        library.SSL_set_bio(session, memory.bio, memory.bio)
        if isServer { library.SSL_set_accept_state(session) } else { library.SSL_set_connect_state(session) }
    }

    deinit { library.SSL_free(session) }

    /// Ciphertext came into the memory's space; only to be called when there was no input left.
    func received(_ count: Int) {
        memory.filled(count)
        hasInput = true
    }

    /// Goes on with the handshake as far as it can.
    func handshake() -> Outcome {
        library.ERR_clear_error()
        let result = library.SSL_do_handshake(session)
        guard result == 1 else { return failure(result) }
        isEstablished = true
        let certificate = library.SSL_get1_peer_certificate(session)
        peerIdentity = library.identity(of: certificate)
        library.X509_free(certificate)
        return .moved(0)
    }

    /// Plaintext of one record.
    func read(into base: UnsafeMutableRawPointer?, count: Int) -> Outcome {
        let result = library.SSL_read(session, base, Int32(clamping: count))
        if result > 0 { return .moved(Int(result)) }
        return failure(result)
    }

    /// Takes all of the plaintext; false when the session is broken.
    func write(_ base: UnsafeRawPointer?, count: Int) -> Bool {
        count == 0 || library.SSL_write(session, base, Int32(clamping: count)) == Int32(clamping: count)
    }

    private func failure(_ result: Int32) -> Outcome {
        switch library.SSL_get_error(session, result) {
        case 2, 3:  // SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE
            library.ERR_clear_error()
            hasInput = false
            return .blocked
        case 6: return .failed("the other side has ended the TLS session")  // SSL_ERROR_ZERO_RETURN
        default:
            let verdict = library.SSL_get_verify_result(session)
            let reason = library.lastReason()
            if verdict != 0, let text = library.X509_verify_cert_error_string(verdict) {
                return .failed("its certificate is not accepted: \(String(cString: text))")
            }
            if reason.contains("alert") { return .failed("it does not accept our certificate or TLS: \(reason)") }
            return .failed("TLS: \(reason)")
        }
    }
}
