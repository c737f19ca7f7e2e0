import OSAL

/// A link, a certificate or a key that cannot be used, in one sentence for people.
public struct LinkError: Error, Hashable, Sendable, CustomStringConvertible {
    public let text: String
    public init(_ text: String) { self.text = text }
    public var description: String { text }
}

/// The functions of OpenSSL 3 that are used here, opened at run time: a node without TLS does not need it.
///
/// Every object is opaque to us, so there is nothing to take from its headers; the types below are those of the manual
/// pages of the same names, fixed for the libraries' version 3.
struct OpenSSL: @unchecked Sendable {
    typealias Object = OpaquePointer
    typealias Text = UnsafePointer<CChar>

    // Contexts and sessions.
    let TLS_method: @convention(c) () -> Object?
    let SSL_CTX_new: @convention(c) (Object?) -> Object?
    let SSL_CTX_free: @convention(c) (Object?) -> Void
    let SSL_CTX_ctrl: @convention(c) (Object?, Int32, Int, UnsafeMutableRawPointer?) -> Int
    let SSL_CTX_set_ciphersuites: @convention(c) (Object?, Text) -> Int32
    let SSL_CTX_set_num_tickets: @convention(c) (Object?, Int) -> Int32
    let SSL_CTX_use_certificate: @convention(c) (Object?, Object?) -> Int32
    let SSL_CTX_use_PrivateKey: @convention(c) (Object?, Object?) -> Int32
    let SSL_CTX_check_private_key: @convention(c) (Object?) -> Int32
    let SSL_CTX_get_cert_store: @convention(c) (Object?) -> Object?
    let SSL_CTX_set_verify: @convention(c) (Object?, Int32, UnsafeRawPointer?) -> Void
    let SSL_new: @convention(c) (Object?) -> Object?
    let SSL_free: @convention(c) (Object?) -> Void
    let SSL_set_bio: @convention(c) (Object?, Object?, Object?) -> Void
    let SSL_set_connect_state: @convention(c) (Object?) -> Void
    let SSL_set_accept_state: @convention(c) (Object?) -> Void
    let SSL_do_handshake: @convention(c) (Object?) -> Int32
    let SSL_read: @convention(c) (Object?, UnsafeMutableRawPointer?, Int32) -> Int32
    let SSL_write: @convention(c) (Object?, UnsafeRawPointer?, Int32) -> Int32
    let SSL_get_error: @convention(c) (Object?, Int32) -> Int32
    let SSL_get_verify_result: @convention(c) (Object?) -> Int
    let SSL_get1_peer_certificate: @convention(c) (Object?) -> Object?

    // Memory and errors.
    let BIO_s_mem: @convention(c) () -> Object?
    let BIO_new: @convention(c) (Object?) -> Object?
    let BIO_new_mem_buf: @convention(c) (UnsafeRawPointer?, Int32) -> Object?
    let BIO_free: @convention(c) (Object?) -> Int32
    let BIO_read: @convention(c) (Object?, UnsafeMutableRawPointer?, Int32) -> Int32
    let BIO_write: @convention(c) (Object?, UnsafeRawPointer?, Int32) -> Int32
    let BIO_ctrl_pending: @convention(c) (Object?) -> Int
    let BIO_meth_new: @convention(c) (Int32, Text) -> Object?
    let BIO_meth_set_read:
        @convention(c) (Object?, @convention(c) (Object?, UnsafeMutableRawPointer?, Int32) -> Int32) -> Int32
    let BIO_meth_set_write:
        @convention(c) (Object?, @convention(c) (Object?, UnsafeRawPointer?, Int32) -> Int32) -> Int32
    let BIO_meth_set_ctrl:
        @convention(c) (Object?, @convention(c) (Object?, Int32, Int, UnsafeMutableRawPointer?) -> Int) -> Int32
    let BIO_set_data: @convention(c) (Object?, UnsafeMutableRawPointer?) -> Void
    let BIO_get_data: @convention(c) (Object?) -> UnsafeMutableRawPointer?
    let BIO_set_init: @convention(c) (Object?, Int32) -> Void
    let BIO_set_flags: @convention(c) (Object?, Int32) -> Void
    let BIO_clear_flags: @convention(c) (Object?, Int32) -> Void
    let ERR_get_error: @convention(c) () -> UInt
    let ERR_clear_error: @convention(c) () -> Void
    let ERR_reason_error_string: @convention(c) (UInt) -> Text?
    let X509_verify_cert_error_string: @convention(c) (Int) -> Text?

    // Keys and certificates.
    let PEM_read_bio_X509: @convention(c) (Object?, UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?) -> Object?
    let PEM_read_bio_PrivateKey:
        @convention(c) (Object?, UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?) -> Object?
    let PEM_write_bio_X509: @convention(c) (Object?, Object?) -> Int32
    let PEM_write_bio_PrivateKey:
        @convention(c) (
            Object?, Object?, UnsafeRawPointer?, UnsafeRawPointer?, Int32, UnsafeRawPointer?, UnsafeRawPointer?
        ) -> Int32
    let EVP_PKEY_CTX_new_from_name: @convention(c) (UnsafeRawPointer?, Text, Text?) -> Object?
    let EVP_PKEY_CTX_free: @convention(c) (Object?) -> Void
    let EVP_PKEY_keygen_init: @convention(c) (Object?) -> Int32
    let EVP_PKEY_CTX_set_group_name: @convention(c) (Object?, Text) -> Int32
    let EVP_PKEY_generate: @convention(c) (Object?, UnsafeMutablePointer<Object?>) -> Int32
    let EVP_PKEY_free: @convention(c) (Object?) -> Void
    let EVP_sha256: @convention(c) () -> Object?
    let RAND_bytes: @convention(c) (UnsafeMutableRawPointer?, Int32) -> Int32
    let X509_STORE_add_cert: @convention(c) (Object?, Object?) -> Int32
    let X509_new: @convention(c) () -> Object?
    let X509_free: @convention(c) (Object?) -> Void
    let X509_set_version: @convention(c) (Object?, Int) -> Int32
    let X509_get_serialNumber: @convention(c) (Object?) -> Object?
    let ASN1_INTEGER_set_uint64: @convention(c) (Object?, UInt64) -> Int32
    let X509_getm_notBefore: @convention(c) (Object?) -> Object?
    let X509_getm_notAfter: @convention(c) (Object?) -> Object?
    let X509_gmtime_adj: @convention(c) (Object?, Int) -> Object?
    let X509_get_subject_name: @convention(c) (Object?) -> Object?
    let X509_set_issuer_name: @convention(c) (Object?, Object?) -> Int32
    let X509_NAME_add_entry_by_txt: @convention(c) (Object?, Text, Int32, Text, Int32, Int32, Int32) -> Int32
    let X509_set_pubkey: @convention(c) (Object?, Object?) -> Int32
    let X509_sign: @convention(c) (Object?, Object?, Object?) -> Int32
    let X509V3_EXT_conf_nid: @convention(c) (UnsafeRawPointer?, UnsafeRawPointer?, Int32, Text) -> Object?
    let X509_add_ext: @convention(c) (Object?, Object?, Int32) -> Int32
    let X509_EXTENSION_free: @convention(c) (Object?) -> Void
    let X509_get_ext_d2i: @convention(c) (Object?, Int32, UnsafeRawPointer?, UnsafeRawPointer?) -> Object?
    let OPENSSL_sk_num: @convention(c) (Object?) -> Int32
    let OPENSSL_sk_value: @convention(c) (Object?, Int32) -> Object?
    let GENERAL_NAME_output: @convention(c) (Object?, Object?) -> Int32
    let GENERAL_NAMES_free: @convention(c) (Object?) -> Void

    /// Opened once, when TLS is first needed.
    static let shared: Result<OpenSSL, LinkError> = {
        do throws(OSError) {
            return .success(
                try OpenSSL(ssl: DynamicLibrary("libssl.so.3"), crypto: DynamicLibrary("libcrypto.so.3")))
        } catch {
            return .failure(LinkError("link security tls needs OpenSSL 3 (package libssl3): \(error)"))
        }
    }()

    private init(ssl: DynamicLibrary, crypto: DynamicLibrary) throws(OSError) {
        TLS_method = try ssl.function("TLS_method")
        SSL_CTX_new = try ssl.function("SSL_CTX_new")
        SSL_CTX_free = try ssl.function("SSL_CTX_free")
        SSL_CTX_ctrl = try ssl.function("SSL_CTX_ctrl")
        SSL_CTX_set_ciphersuites = try ssl.function("SSL_CTX_set_ciphersuites")
        SSL_CTX_set_num_tickets = try ssl.function("SSL_CTX_set_num_tickets")
        SSL_CTX_use_certificate = try ssl.function("SSL_CTX_use_certificate")
        SSL_CTX_use_PrivateKey = try ssl.function("SSL_CTX_use_PrivateKey")
        SSL_CTX_check_private_key = try ssl.function("SSL_CTX_check_private_key")
        SSL_CTX_get_cert_store = try ssl.function("SSL_CTX_get_cert_store")
        SSL_CTX_set_verify = try ssl.function("SSL_CTX_set_verify")
        SSL_new = try ssl.function("SSL_new")
        SSL_free = try ssl.function("SSL_free")
        SSL_set_bio = try ssl.function("SSL_set_bio")
        SSL_set_connect_state = try ssl.function("SSL_set_connect_state")
        SSL_set_accept_state = try ssl.function("SSL_set_accept_state")
        SSL_do_handshake = try ssl.function("SSL_do_handshake")
        SSL_read = try ssl.function("SSL_read")
        SSL_write = try ssl.function("SSL_write")
        SSL_get_error = try ssl.function("SSL_get_error")
        SSL_get_verify_result = try ssl.function("SSL_get_verify_result")
        SSL_get1_peer_certificate = try ssl.function("SSL_get1_peer_certificate")
        BIO_s_mem = try crypto.function("BIO_s_mem")
        BIO_new = try crypto.function("BIO_new")
        BIO_new_mem_buf = try crypto.function("BIO_new_mem_buf")
        BIO_free = try crypto.function("BIO_free")
        BIO_read = try crypto.function("BIO_read")
        BIO_write = try crypto.function("BIO_write")
        BIO_ctrl_pending = try crypto.function("BIO_ctrl_pending")
        BIO_meth_new = try crypto.function("BIO_meth_new")
        BIO_meth_set_read = try crypto.function("BIO_meth_set_read")
        BIO_meth_set_write = try crypto.function("BIO_meth_set_write")
        BIO_meth_set_ctrl = try crypto.function("BIO_meth_set_ctrl")
        BIO_set_data = try crypto.function("BIO_set_data")
        BIO_get_data = try crypto.function("BIO_get_data")
        BIO_set_init = try crypto.function("BIO_set_init")
        BIO_set_flags = try crypto.function("BIO_set_flags")
        BIO_clear_flags = try crypto.function("BIO_clear_flags")
        ERR_get_error = try crypto.function("ERR_get_error")
        ERR_clear_error = try crypto.function("ERR_clear_error")
        ERR_reason_error_string = try crypto.function("ERR_reason_error_string")
        X509_verify_cert_error_string = try crypto.function("X509_verify_cert_error_string")
        PEM_read_bio_X509 = try crypto.function("PEM_read_bio_X509")
        PEM_read_bio_PrivateKey = try crypto.function("PEM_read_bio_PrivateKey")
        PEM_write_bio_X509 = try crypto.function("PEM_write_bio_X509")
        PEM_write_bio_PrivateKey = try crypto.function("PEM_write_bio_PrivateKey")
        EVP_PKEY_CTX_new_from_name = try crypto.function("EVP_PKEY_CTX_new_from_name")
        EVP_PKEY_CTX_free = try crypto.function("EVP_PKEY_CTX_free")
        EVP_PKEY_keygen_init = try crypto.function("EVP_PKEY_keygen_init")
        EVP_PKEY_CTX_set_group_name = try crypto.function("EVP_PKEY_CTX_set_group_name")
        EVP_PKEY_generate = try crypto.function("EVP_PKEY_generate")
        EVP_PKEY_free = try crypto.function("EVP_PKEY_free")
        EVP_sha256 = try crypto.function("EVP_sha256")
        RAND_bytes = try crypto.function("RAND_bytes")
        X509_STORE_add_cert = try crypto.function("X509_STORE_add_cert")
        X509_new = try crypto.function("X509_new")
        X509_free = try crypto.function("X509_free")
        X509_set_version = try crypto.function("X509_set_version")
        X509_get_serialNumber = try crypto.function("X509_get_serialNumber")
        ASN1_INTEGER_set_uint64 = try crypto.function("ASN1_INTEGER_set_uint64")
        X509_getm_notBefore = try crypto.function("X509_getm_notBefore")
        X509_getm_notAfter = try crypto.function("X509_getm_notAfter")
        X509_gmtime_adj = try crypto.function("X509_gmtime_adj")
        X509_get_subject_name = try crypto.function("X509_get_subject_name")
        X509_set_issuer_name = try crypto.function("X509_set_issuer_name")
        X509_NAME_add_entry_by_txt = try crypto.function("X509_NAME_add_entry_by_txt")
        X509_set_pubkey = try crypto.function("X509_set_pubkey")
        X509_sign = try crypto.function("X509_sign")
        X509V3_EXT_conf_nid = try crypto.function("X509V3_EXT_conf_nid")
        X509_add_ext = try crypto.function("X509_add_ext")
        X509_EXTENSION_free = try crypto.function("X509_EXTENSION_free")
        X509_get_ext_d2i = try crypto.function("X509_get_ext_d2i")
        OPENSSL_sk_num = try crypto.function("OPENSSL_sk_num")
        OPENSSL_sk_value = try crypto.function("OPENSSL_sk_value")
        GENERAL_NAME_output = try crypto.function("GENERAL_NAME_print")
        GENERAL_NAMES_free = try crypto.function("GENERAL_NAMES_free")
    }
}

extension OpenSSL {
    /// Why the last call failed, and forgets it.
    func lastReason() -> String {
        var text = ""
        while case let code = ERR_get_error(), code != 0 {
            if let reason = ERR_reason_error_string(code) { text = String(cString: reason) }
        }
        return text.isEmpty ? "no reason given" : text
    }

    /// Everything a memory BIO holds.
    func drain(_ memory: Object?) -> [UInt8] {
        let count = BIO_ctrl_pending(memory)
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = max(0, Int(BIO_read(memory, buffer.baseAddress, Int32(buffer.count))))
        }
    }

    func certificate(pem: [UInt8]) -> Object? {
        pem.withUnsafeBytes { bytes in
            let memory = BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count))
            defer { _ = BIO_free(memory) }
            return PEM_read_bio_X509(memory, nil, nil, nil)
        }
    }

    func key(pem: [UInt8]) -> Object? {
        pem.withUnsafeBytes { bytes in
            let memory = BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count))
            defer { _ = BIO_free(memory) }
            return PEM_read_bio_PrivateKey(memory, nil, nil, nil)
        }
    }

    static let subjectAltName: Int32 = 85

    /// The URI of a node certificate; nil when it has none or several.
    func identity(of certificate: Object?) -> String? {
        guard let names = X509_get_ext_d2i(certificate, Self.subjectAltName, nil, nil) else { return nil }
        defer { GENERAL_NAMES_free(names) }
        guard OPENSSL_sk_num(names) == 1 else { return nil }
        let memory = BIO_new(BIO_s_mem())
        defer { _ = BIO_free(memory) }
        guard GENERAL_NAME_output(memory, OPENSSL_sk_value(names, 0)) == 1 else { return nil }
        let text = String(decoding: drain(memory), as: UTF8.self)
        return text.hasPrefix("URI:") ? String(text.dropFirst(4)) : nil
    }
}
