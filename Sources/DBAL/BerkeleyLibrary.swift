internal import CBerkeleyDB
internal import OSAL

/// The functions of libdb that are looked up by name; all others are members of the handles these make.
struct BerkeleyLibrary: Sendable {
    typealias MakeEnvironment = @convention(c) (UnsafeMutablePointer<UnsafeMutablePointer<DB_ENV>?>?, UInt32) -> Int32
    typealias MakeDatabase =
        @convention(c) (
            UnsafeMutablePointer<UnsafeMutablePointer<DB>?>?, UnsafeMutablePointer<DB_ENV>?, UInt32
        ) -> Int32
    typealias Words = @convention(c) (Int32) -> UnsafeMutablePointer<CChar>?

    let makeEnvironment: MakeEnvironment
    let makeDatabase: MakeDatabase
    let words: Words

    private static let kept = Lock<BerkeleyLibrary?>(nil)

    /// - Throws: `.missing`.
    static func open() throws(DatabaseError) -> BerkeleyLibrary {
        if let opened = kept.withLock({ $0 }) { return opened }
        do throws(OSError) {
            // The layout of the handles belongs to this version; the name has it.
            let library = try BerkeleyLibrary(DynamicLibrary("libdb-5.3.so"))
            kept.withLock { $0 = library }
            return library
        } catch {
            throw .missing(error, engine: "Berkeley DB (libdb5.3)")
        }
    }

    private init(_ library: DynamicLibrary) throws(OSError) {
        makeEnvironment = try library.function("db_env_create")
        makeDatabase = try library.function("db_create")
        words = try library.function("db_strerror")
    }
}

/// What libdb said last about a handle, besides its number.
final class BerkeleyWords {
    var last = ""
    /// A page that is not as it was written: libdb says so in words alone.
    var isDamage: Bool { last.contains("checksum") || last.contains("pgin failed") }

    static let note: @convention(c) (UnsafePointer<DB_ENV>?, UnsafePointer<CChar>?, UnsafePointer<CChar>?) -> Void = {
        environment, _, message in
        guard let context = environment?.pointee.app_private, let message else { return }
        Unmanaged<BerkeleyWords>.fromOpaque(context).takeUnretainedValue().last = String(cString: message)
    }
}
