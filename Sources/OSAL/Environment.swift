internal import COSAL
internal import Glibc

/// What surrounds this process.
public enum Environment {
    /// The value of an environment variable, or nil.
    public static func get(_ name: SystemString) -> SystemString? {
        name.withCString { getenv($0) }.map { SystemString(cString: $0) }
    }

    /// Every environment variable as NAME=VALUE, in the order of the kernel.
    public static var all: [String] {
        var result: [String] = []
        var next = cosal_environment()
        while let here = next, let entry = here.pointee {
            result.append(String(cString: entry))
            next = here + 1
        }
        return result
    }

    /// Sets a variable for this process and its children. Only while a single thread runs: getenv(3) is not locked.
    public static func set(_ name: String, _ value: String) { setenv(name, value, 1) }

    /// The host's name up to the first dot.
    public static func hostName() -> SystemString {
        var name = utsname()
        guard uname(&name) == 0 else { return "localhost" }
        return withUnsafeBytes(of: &name.nodename) { bytes in
            let full = bytes.prefix { $0 != 0 }
            let short = full.drop { $0 == 0x2e }.prefix { $0 != 0x2e }
            return short.isEmpty ? "localhost" : SystemString(decoding: short, as: UTF8.self)
        }
    }

    public static var processID: Int32 { getpid() }
    public static var parentProcessID: Int32 { getppid() }
    /// The kernel's number of the calling thread. Source: gettid(2).
    public static var threadID: Int32 { cosal_gettid() }
    public static var userID: UInt32 { geteuid() }
    public static var groupID: UInt32 { getegid() }

    /// CPUs this process may run on, at least 1.
    public static let cpuCount = max(1, Int(cosal_cpu_count()))

    /// The path of this program's file, or nil when /proc is not there.
    public static var executablePath: SystemString? { try? File.readLink("/proc/self/exe") }

    /// The directory this process works in.
    public static var workingDirectory: SystemString { (try? File.readLink("/proc/self/cwd")) ?? "/" }

    /// Ends this process, with the handlers of atexit(3).
    public static func exit(_ code: Int32) -> Never { Glibc.exit(code) }

    /// Ends this process without running anything more.
    public static func exitImmediately(_ code: Int32) -> Never { _exit(code) }

    /// A user as the system knows him.
    public struct Account: Hashable, Sendable {
        public var name: String
        public var userID: UInt32
        /// The primary group.
        public var groupID: UInt32
        /// All groups, the primary one included.
        public var groups: [UInt32]
        public var home: String
    }

    /// A user, by name or decimal number; nil when unknown. A number without an entry is an account without a name.
    /// Source: getpwnam_r(3), getgrouplist(3).
    public static func account(named name: String) -> Account? {
        let number = UInt32(name)
        let known = entry { entry, base, count, found in
            if let number { return getpwuid_r(number, entry, base, count, found) }
            return getpwnam_r(name, entry, base, count, found)
        }
        if let known { return known }
        return number.map { Account(name: "", userID: $0, groupID: $0, groups: [$0], home: "/") }
    }

    /// The number of a group, by name or decimal number; nil when unknown. Source: getgrnam_r(3).
    public static func groupID(named name: String) -> UInt32? {
        if let number = UInt32(name) { return number }
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64 * 1024) { buffer in
            guard let base = buffer.baseAddress, getgrnam_r(name, &entry, base, buffer.count, &found) == 0, found != nil
            else { return nil }
            return entry.gr_gid
        }
    }

    private static func entry(
        _ find: (
            UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
            UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
        ) -> Int32
    ) -> Account? {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64 * 1024) { buffer in
            guard let base = buffer.baseAddress, find(&entry, base, buffer.count, &found) == 0, found != nil else {
                return nil
            }
            return Account(
                name: String(cString: entry.pw_name), userID: entry.pw_uid, groupID: entry.pw_gid,
                groups: groups(of: entry.pw_name, entry.pw_gid), home: String(cString: entry.pw_dir))
        }
    }

    private static func groups(of name: UnsafePointer<CChar>, _ primary: UInt32) -> [UInt32] {
        var count: Int32 = 64
        while true {
            var groups = [gid_t](repeating: 0, count: Int(count))
            let wanted = count
            if getgrouplist(name, primary, &groups, &count) >= 0 { return Array(groups.prefix(Int(count))) }
            // It said how many there are; a list that keeps growing is cut where no system has more.
            guard count > wanted, count <= 65_536 else { return [primary] }
        }
    }

    /// `count` bytes that nobody can guess, from the kernel. For keys and identifiers, never inside an engine.
    public static func randomBytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}

/// Tells the CPU that this is a spin loop.
public func pause() { cosal_pause() }

/// Lets the threads run that wait for this processor; back at once (0.4 µs) when none does. Source: sched_yield(2).
public func giveWay() { sched_yield() }

/// CRC-32C (Castagnoli) of `bytes`, continuing from `seed` (0 to start). SSE4.2 where the CPU has it.
public func crc32c(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    cosal_crc32c(bytes.baseAddress, bytes.count, seed)
}

/// The same without special instructions; slow.
func crc32cPortable(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    cosal_crc32c_portable(bytes.baseAddress, bytes.count, seed)
}

/// Bytes of a block of ``copyBlocks(to:from:count:first:checksums:)``.
public let checkedBlockBytes = Int(COSAL_BLOCK_BYTES)

/// Copies blocks of 512 bytes and gives the CRC-32C of each as it was copied, seeded with its index from `first` on.
///
/// The source may change meanwhile: the checksums are those of the copy. Several blocks at once, so it costs little
/// more than the copy.
public func copyBlocks(
    to target: UnsafeMutableRawPointer, from source: UnsafeRawPointer, count: Int, first: UInt32,
    checksums: UnsafeMutablePointer<UInt32>
) {
    cosal_copy_blocks(target, source, count, first, checksums)
}
