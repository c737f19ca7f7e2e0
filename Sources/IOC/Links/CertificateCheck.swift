import OSAL

/// What stands in a node's certificate folder; for `saf doctor`. The daemons judge by the handshake alone.
public struct CertificateCheck: Hashable, Sendable {
    /// Whom the certificate is for, as its URI says it; empty when it says nobody.
    public let identity: String
    /// Seconds until it is valid (negative: it is), and until it is no longer.
    public let secondsUntilValid: Int
    public let secondsLeft: Int
    /// `ca.pem` has signed `node.pem`.
    public let isSigned: Bool
    /// `node.key` belongs to `node.pem`.
    public let keyMatches: Bool

    /// The identity that the certificate of a node must have.
    public static func identity(cluster: String, node: String) -> String {
        TlsContext.identity(cluster: cluster, node: node)
    }

    /// - Throws: OpenSSL is not there, or a file cannot be read.
    public init(folder: String) throws(LinkError) {
        let library = try OpenSSL.shared.get()
        let more = try Functions.shared.get()
        func read(_ name: String) throws(LinkError) -> [UInt8] {
            do throws(OSError) { return try File.readAll("\(folder)/\(name)", limit: 1 << 20) } catch {
                throw LinkError("\(error)")
            }
        }
        let authority = library.certificate(pem: try read("ca.pem"))
        let certificate = library.certificate(pem: try read("node.pem"))
        let key = library.key(pem: try read("node.key"))
        defer {
            library.X509_free(authority)
            library.X509_free(certificate)
            library.EVP_PKEY_free(key)
        }
        guard let authority, let certificate, let key else {
            throw LinkError("\(folder): ca.pem, node.pem or node.key is damaged: \(library.lastReason())")
        }
        identity = library.identity(of: certificate) ?? ""
        secondsUntilValid = more.seconds(until: library.X509_getm_notBefore(certificate))
        secondsLeft = more.seconds(until: library.X509_getm_notAfter(certificate))
        // Not to be freed: it is the certificate's own.
        isSigned = more.X509_verify(certificate, more.X509_get0_pubkey(authority)) == 1
        keyMatches = more.X509_check_private_key(certificate, key) == 1
        library.ERR_clear_error()
    }

    /// What only this check needs of OpenSSL.
    private struct Functions: @unchecked Sendable {
        let ASN1_TIME_diff:
            @convention(c) (UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>, OpaquePointer?, OpaquePointer?) ->
                Int32
        let X509_verify: @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32
        let X509_get0_pubkey: @convention(c) (OpaquePointer?) -> OpaquePointer?
        let X509_check_private_key: @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32

        static let shared: Result<Functions, LinkError> = {
            do throws(OSError) { return .success(try Functions(DynamicLibrary("libcrypto.so.3"))) } catch {
                return .failure(LinkError("certificates need OpenSSL 3 (package libssl3): \(error)"))
            }
        }()

        private init(_ crypto: DynamicLibrary) throws(OSError) {
            ASN1_TIME_diff = try crypto.function("ASN1_TIME_diff")
            X509_verify = try crypto.function("X509_verify")
            X509_get0_pubkey = try crypto.function("X509_get0_pubkey")
            X509_check_private_key = try crypto.function("X509_check_private_key")
        }

        /// From now; nil stands for now in ASN1_TIME_diff(3). A time that cannot be read is long past.
        func seconds(until time: OpaquePointer?) -> Int {
            var (days, seconds) = (Int32(0), Int32(0))
            guard ASN1_TIME_diff(&days, &seconds, nil, time) == 1 else { return -86_400 * 36_500 }
            return Int(days) * 86_400 + Int(seconds)
        }
    }
}
