internal import CGDBM
internal import OSAL

/// The functions of libgdbm that are used, opened at run time.
///
/// Its answer to a failed write is exit(3), whatever the caller wants; so it writes to memory only, and reads only what
/// is known to be whole.
struct GdbmLibrary: Sendable {
    typealias OpenDescriptor =
        @convention(c) (
            Int32, UnsafePointer<CChar>?, Int32, Int32, (@convention(c) (UnsafePointer<CChar>?) -> Void)?
        ) -> GDBM_FILE?
    typealias OfFile = @convention(c) (GDBM_FILE?) -> Int32
    typealias Store = @convention(c) (GDBM_FILE?, datum, datum, Int32) -> Int32
    typealias Fetch = @convention(c) (GDBM_FILE?, datum) -> datum
    typealias First = @convention(c) (GDBM_FILE?) -> datum
    typealias LastError = @convention(c) (GDBM_FILE?) -> gdbm_error
    typealias LastNumber = @convention(c) () -> UnsafeMutablePointer<Int32>?
    typealias Words = @convention(c) (gdbm_error) -> UnsafePointer<CChar>?
    typealias Free = @convention(c) (UnsafeMutableRawPointer?) -> Void

    let open: OpenDescriptor
    let close, synchronize: OfFile
    let store: Store
    let fetch, next: Fetch
    let first: First
    let lastError: LastError
    let lastNumber: LastNumber
    let words: Words
    /// What it returns is its caller's. free(3).
    let free: Free

    private static let kept = Lock<GdbmLibrary?>(nil)

    /// - Throws: `.missing`.
    static func open() throws(DatabaseError) -> GdbmLibrary {
        if let opened = kept.withLock({ $0 }) { return opened }
        do throws(OSError) {
            let library = try GdbmLibrary(DynamicLibrary("libgdbm.so.6"), system: DynamicLibrary("libc.so.6"))
            kept.withLock { $0 = library }
            return library
        } catch {
            throw .missing(error, engine: "GNU dbm (libgdbm6)")
        }
    }

    private init(_ library: DynamicLibrary, system: DynamicLibrary) throws(OSError) {
        free = try system.function("free")
        open = try library.function("gdbm_fd_open")
        close = try library.function("gdbm_close")
        synchronize = try library.function("gdbm_sync")
        store = try library.function("gdbm_store")
        fetch = try library.function("gdbm_fetch")
        next = try library.function("gdbm_nextkey")
        first = try library.function("gdbm_firstkey")
        lastError = try library.function("gdbm_last_errno")
        lastNumber = try library.function("gdbm_errno_location")
        words = try library.function("gdbm_strerror")
    }
}
