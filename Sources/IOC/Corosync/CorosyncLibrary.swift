import CCorosync
import OSAL

/// The functions of libcpg, libquorum and libcmap that are used, opened at run time.
///
/// Which of them wait for corosync, and so for ever while it is stopped (seen with 3.1.7): initialize, finalize, join,
/// local_get, trackstart, cmap's. They are called on a thread of their own. dispatch and mcast_joined do not wait, the
/// latter as long as no more than some 270 messages lie unread in its socket.
struct CorosyncLibrary: Sendable {
    typealias Handle = UInt64
    typealias ModelInitialize =
        @convention(c) (
            UnsafeMutablePointer<Handle>?, cpg_model_t, UnsafeMutablePointer<cpg_model_data_t>?,
            UnsafeMutableRawPointer?
        ) -> cs_error_t
    typealias QuorumInitialize =
        @convention(c) (
            UnsafeMutablePointer<Handle>?, quorum_model_t, UnsafeMutablePointer<quorum_model_data_t>?,
            UnsafeMutablePointer<UInt32>?, UnsafeMutableRawPointer?
        ) -> cs_error_t
    typealias OfHandle = @convention(c) (Handle) -> cs_error_t
    typealias OfName = @convention(c) (Handle, UnsafePointer<cpg_name>?) -> cs_error_t
    typealias Dispatch = @convention(c) (Handle, cs_dispatch_flags_t) -> cs_error_t
    typealias Multicast = @convention(c) (Handle, cpg_guarantee_t, UnsafePointer<iovec>?, UInt32) -> cs_error_t
    typealias GetDescriptor = @convention(c) (Handle, UnsafeMutablePointer<Int32>?) -> cs_error_t
    typealias GetNumber = @convention(c) (Handle, UnsafeMutablePointer<UInt32>?) -> cs_error_t
    typealias GetContext = @convention(c) (Handle, UnsafeMutablePointer<UnsafeMutableRawPointer?>?) -> cs_error_t
    typealias GetConstContext = @convention(c) (Handle, UnsafeMutablePointer<UnsafeRawPointer?>?) -> cs_error_t
    typealias TrackStart = @convention(c) (Handle, UInt32) -> cs_error_t
    typealias CmapInitialize = @convention(c) (UnsafeMutablePointer<Handle>?) -> cs_error_t
    typealias CmapInitializeMap = @convention(c) (UnsafeMutablePointer<Handle>?, cmap_map_t) -> cs_error_t
    typealias CmapGetByte =
        @convention(c) (Handle, UnsafePointer<CChar>?, UnsafeMutablePointer<UInt8>?) -> cs_error_t
    typealias CmapIterate = @convention(c) (Handle, UnsafePointer<CChar>?, UnsafeMutablePointer<Handle>?) -> cs_error_t
    typealias CmapNext =
        @convention(c) (
            Handle, Handle, UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<Int>?,
            UnsafeMutablePointer<cmap_value_types_t>?
        ) -> cs_error_t

    let cpgInitialize: ModelInitialize
    let cpgFinalize, quorumFinalize, cmapFinalize: OfHandle
    let cpgJoin: OfName
    let cpgDispatch, quorumDispatch: Dispatch
    let cpgMulticast: Multicast
    let cpgDescriptor, quorumDescriptor: GetDescriptor
    let cpgLocal, cpgAtomicMax: GetNumber
    let cpgContext: GetContext
    let quorumInitialize: QuorumInitialize
    let quorumContext: GetConstContext
    let quorumTrackStart: TrackStart
    let cmapInitialize: CmapInitialize
    let cmapInitializeMap: CmapInitializeMap
    let cmapGetByte: CmapGetByte
    let cmapIterate: CmapIterate
    let cmapNext: CmapNext

    private static let kept = Lock<CorosyncLibrary?>(nil)

    /// For the callbacks, which can carry nothing with them.
    static var opened: CorosyncLibrary? { kept.withLock { $0 } }

    static func open() throws(OSError) -> CorosyncLibrary {
        if let opened { return opened }
        let library = try CorosyncLibrary()
        kept.withLock { $0 = library }
        return library
    }

    private init() throws(OSError) {
        let cpg = try DynamicLibrary("libcpg.so.4")
        cpgInitialize = try cpg.function("cpg_model_initialize")
        cpgFinalize = try cpg.function("cpg_finalize")
        cpgJoin = try cpg.function("cpg_join")
        cpgDispatch = try cpg.function("cpg_dispatch")
        cpgMulticast = try cpg.function("cpg_mcast_joined")
        cpgDescriptor = try cpg.function("cpg_fd_get")
        cpgLocal = try cpg.function("cpg_local_get")
        cpgAtomicMax = try cpg.function("cpg_max_atomic_msgsize_get")
        cpgContext = try cpg.function("cpg_context_get")
        let quorum = try DynamicLibrary("libquorum.so.5")
        quorumInitialize = try quorum.function("quorum_model_initialize")
        quorumFinalize = try quorum.function("quorum_finalize")
        quorumDispatch = try quorum.function("quorum_dispatch")
        quorumDescriptor = try quorum.function("quorum_fd_get")
        quorumContext = try quorum.function("quorum_context_get")
        quorumTrackStart = try quorum.function("quorum_trackstart")
        let cmap = try DynamicLibrary("libcmap.so.4")
        cmapInitialize = try cmap.function("cmap_initialize")
        cmapInitializeMap = try cmap.function("cmap_initialize_map")
        cmapGetByte = try cmap.function("cmap_get_uint8")
        cmapFinalize = try cmap.function("cmap_finalize")
        cmapIterate = try cmap.function("cmap_iter_init")
        cmapNext = try cmap.function("cmap_iter_next")
    }
}

/// What the callbacks of one connection leave for the group: filled and emptied on the group's thread.
final class CorosyncInbox {
    var events: [RingOrder.Event] = []

    static func of(_ context: UnsafeRawPointer?) -> CorosyncInbox? {
        context.map { Unmanaged<CorosyncInbox>.fromOpaque($0).takeUnretainedValue() }
    }
}
