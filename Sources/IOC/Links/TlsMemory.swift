/// The memory a TLS session reads ciphertext from and writes it to, as an OpenSSL BIO of our own: OpenSSL's memory BIO
/// clears and copies every byte once more in each direction.
final class TlsMemory {
    /// Ciphertext read from the socket at a time.
    static let inputBytes = 128 << 10

    /// Belongs to the session it is given to, which must end before this object.
    let bio: OpaquePointer
    /// Ciphertext that came; `inputStart` to `inputEnd` is not decrypted yet.
    private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: TlsMemory.inputBytes, alignment: 64)
    private var inputStart = 0
    private var inputEnd = 0
    /// Ciphertext to send: `outputStart` to `outputEnd`.
    private var output = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var outputStart = 0
    private var outputEnd = 0

    init() throws(LinkError) {
        let library = try Library.shared.get()
        guard let bio = library.makeBio() else { throw LinkError("out of memory for TLS") }
        self.bio = bio
        library.openSSL.BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        library.openSSL.BIO_set_init(bio, 1)
    }

    deinit {
        input.deallocate()
        output.deallocate()
    }

    // MARK: The socket's side

    /// Where the next ciphertext goes; only once what came before is decrypted.
    var space: UnsafeMutableRawBufferPointer { input }

    func filled(_ count: Int) { (inputStart, inputEnd) = (0, count) }

    var outgoing: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: output[outputStart..<outputEnd])
    }

    func sent(_ count: Int) {
        outputStart += count
        if outputStart == outputEnd { (outputStart, outputEnd) = (0, 0) }
    }

    // MARK: OpenSSL's side

    /// 0 when nothing is there.
    fileprivate func read(into target: UnsafeMutableRawPointer, count: Int) -> Int {
        let count = min(count, inputEnd - inputStart)
        guard count > 0, let base = input.baseAddress else { return 0 }
        target.copyMemory(from: base + inputStart, byteCount: count)
        inputStart += count
        return count
    }

    fileprivate func write(_ source: UnsafeRawPointer, count: Int) {
        if outputEnd + count > output.count { grow(by: count) }
        guard let base = output.baseAddress else { return }
        (base + outputEnd).copyMemory(from: source, byteCount: count)
        outputEnd += count
    }

    private func grow(by count: Int) {
        let size = max(4096, 2 * output.count, outputEnd + count)
        let fresh = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        fresh.copyMemory(from: UnsafeRawBufferPointer(rebasing: output[0..<outputEnd]))
        output.deallocate()
        output = fresh
    }

    // MARK: The BIO

    /// What the callbacks need; they can capture nothing.
    private struct Library: @unchecked Sendable {
        let openSSL: OpenSSL
        private let method: OpaquePointer

        static let shared: Result<Library, LinkError> = {
            do throws(LinkError) { return .success(try Library(OpenSSL.shared.get())) } catch { return .failure(error) }
        }()
        static let data = (try? OpenSSL.shared.get())?.BIO_get_data
        static let setFlags = (try? OpenSSL.shared.get())?.BIO_set_flags
        static let clearFlags = (try? OpenSSL.shared.get())?.BIO_clear_flags

        private init(_ openSSL: OpenSSL) throws(LinkError) {
            self.openSSL = openSSL
            guard let method = openSSL.BIO_meth_new(TlsMemory.sourceAndSink, "saf") else {
                throw LinkError("out of memory for TLS")
            }
            self.method = method
            _ = openSSL.BIO_meth_set_read(method) { TlsMemory.read($0, $1, $2) }
            _ = openSSL.BIO_meth_set_write(method) { TlsMemory.write($0, $1, $2) }
            _ = openSSL.BIO_meth_set_ctrl(method) { _, command, _, _ in command == TlsMemory.flush ? 1 : 0 }
        }

        func makeBio() -> OpaquePointer? { openSSL.BIO_new(method) }
    }

    // BIO_TYPE_SOURCE_SINK with a number nobody else uses; BIO_CTRL_FLUSH; BIO_FLAGS_READ and SHOULD_RETRY.
    // Source: openssl/bio.h, fixed for version 3.
    private static let sourceAndSink: Int32 = 0x0400 | 127
    private static let flush: Int32 = 11
    private static let retryRead: Int32 = 1 | 8

    private static func memory(of bio: OpaquePointer?) -> TlsMemory? {
        Library.data?(bio).map { Unmanaged<TlsMemory>.fromOpaque($0).takeUnretainedValue() }
    }

    private static func read(_ bio: OpaquePointer?, _ target: UnsafeMutableRawPointer?, _ count: Int32) -> Int32 {
        guard let target, let memory = memory(of: bio) else { return -1 }
        let count = memory.read(into: target, count: Int(count))
        Library.clearFlags?(bio, retryRead)
        if count > 0 { return Int32(count) }
        Library.setFlags?(bio, retryRead)
        return -1
    }

    private static func write(_ bio: OpaquePointer?, _ source: UnsafeRawPointer?, _ count: Int32) -> Int32 {
        guard let source, let memory = memory(of: bio) else { return -1 }
        memory.write(source, count: Int(count))
        return count
    }
}
