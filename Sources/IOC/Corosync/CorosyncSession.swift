import CCorosync
import EngineKit
import OSAL

/// The connections to corosync of one membership in one group.
///
/// Made on a thread of its own, used on the group's, ended on a thread of its own again: corosync may be stopped.
final class CorosyncSession: @unchecked Sendable {
    struct Failure: Error, Sendable { var reason: String }
    enum Sent { case done, busy, failed(String) }

    let library: CorosyncLibrary
    let inbox: CorosyncInbox
    private(set) var localNode: UInt32 = 0
    private(set) var nodesExpected = 0
    private(set) var descriptors: [Int32] = []
    private var cpg: UInt64?
    private var quorum: UInt64?
    private let context: Unmanaged<CorosyncInbox>

    private init() throws(Failure) {
        do throws(OSError) { library = try CorosyncLibrary.open() } catch { throw Failure(reason: "\(error)") }
        inbox = CorosyncInbox()
        context = Unmanaged.passRetained(inbox)
    }

    /// Waits as long as corosync does.
    static func join(_ group: String, while isWanted: () -> Bool) throws(Failure) -> CorosyncSession {
        let session = try CorosyncSession()
        do throws(Failure) {
            try session.connect()
            try session.enter(group, isWanted)
        } catch {
            session.finish()
            throw error
        }
        return session
    }

    /// Waits as long as corosync does. Nothing of this may be used any more.
    func finish() {
        if let cpg { _ = library.cpgFinalize(cpg) }
        if let quorum { _ = library.quorumFinalize(quorum) }
        (cpg, quorum) = (nil, nil)
        context.release()
    }

    private func connect() throws(Failure) {
        var handle: UInt64 = 0
        var model = cpg_model_v1_data_t()
        model.model = CPG_MODEL_V1
        model.cpg_deliver_fn = deliverMessage
        model.cpg_confchg_fn = deliverProcesses
        model.cpg_totem_confchg_fn = deliverRing
        model.flags = UInt32(CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF)
        let opaque = context.toOpaque()
        try check("cpg_model_initialize") {
            withUnsafeMutableBytes(of: &model) { raw in
                library.cpgInitialize(
                    &handle, CPG_MODEL_V1, raw.baseAddress?.assumingMemoryBound(to: cpg_model_data_t.self), opaque)
            }
        }
        cpg = handle
        let cpgHandle = handle
        try check("cpg_local_get") { library.cpgLocal(cpgHandle, &localNode) }
        var atomicMax: UInt32 = 0
        try check("cpg_max_atomic_msgsize_get") { library.cpgAtomicMax(cpgHandle, &atomicMax) }
        let needed = CorosyncGroup.frameBytesMax
        guard Int(atomicMax) >= needed else {
            throw Failure(reason: "corosync takes messages of \(atomicMax) bytes; \(needed) needed")
        }
        var type: UInt32 = 0
        var quorumModel = quorum_model_v1_data_t()
        quorumModel.model = QUORUM_MODEL_V1
        quorumModel.quorum_notify_fn = deliverQuorum
        try check("quorum_model_initialize") {
            withUnsafeMutableBytes(of: &quorumModel) { raw in
                library.quorumInitialize(
                    &handle, QUORUM_MODEL_V1, raw.baseAddress?.assumingMemoryBound(to: quorum_model_data_t.self), &type,
                    opaque)
            }
        }
        quorum = handle
        let quorumHandle = handle
        guard type == UInt32(QUORUM_SET) else {
            throw Failure(
                reason: "corosync runs without a quorum provider; quorum.provider: corosync_votequorum expected")
        }
        try check("quorum_trackstart") {
            library.quorumTrackStart(quorumHandle, UInt32(CS_TRACK_CURRENT | CS_TRACK_CHANGES))
        }
        var cpgDescriptor: Int32 = -1
        var quorumDescriptor: Int32 = -1
        try check("cpg_fd_get") { library.cpgDescriptor(cpgHandle, &cpgDescriptor) }
        try check("quorum_fd_get") { library.quorumDescriptor(quorumHandle, &quorumDescriptor) }
        descriptors = [cpgDescriptor, quorumDescriptor]
        nodesExpected = try countNodes()
    }

    /// The nodes that the configuration lists.
    private func countNodes() throws(Failure) -> Int {
        var handle: UInt64 = 0
        var iteration: UInt64 = 0
        try check("cmap_initialize") { library.cmapInitialize(&handle) }
        let cmap = handle
        defer { _ = library.cmapFinalize(cmap) }
        try check("cmap_iter_init") { library.cmapIterate(cmap, "nodelist.node.", &iteration) }
        var count = 0
        var name = [CChar](repeating: 0, count: Int(CMAP_KEYNAME_MAXLEN) + 1)
        while library.cmapNext(cmap, iteration, &name, nil, nil) == CS_OK {
            let key = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if key.hasSuffix(".nodeid") { count += 1 }
        }
        return count
    }

    private func enter(_ group: String, _ isWanted: () -> Bool) throws(Failure) {
        guard let cpg else { return }
        var name = cpg_name()
        let bytes = Array(group.utf8.prefix(Int(CPG_MAX_NAME_LENGTH)))
        name.length = UInt32(bytes.count)
        withUnsafeMutableBytes(of: &name.value) { $0.copyBytes(from: bytes) }
        while true {
            let code = library.cpgJoin(cpg, &name)
            if code == CS_OK { return }
            guard code == CS_ERR_TRY_AGAIN else { throw Failure(reason: "cpg_join \(group): \(describe(code))") }
            guard isWanted() else { throw Failure(reason: "cpg_join \(group): not wanted any more") }
            OSThread.sleep(.milliseconds(20))  // a ring is being formed
        }
    }

    // MARK: On the group's thread

    /// Takes at most one event of CPG; false when there was none.
    func takeOne() throws(Failure) -> Bool {
        guard let cpg else { return false }
        let code = library.cpgDispatch(cpg, CS_DISPATCH_ONE_NONBLOCKING)
        if code == CS_ERR_TRY_AGAIN { return false }
        guard code == CS_OK else { throw Failure(reason: "cpg_dispatch: \(describe(code))") }
        return !inbox.events.isEmpty
    }

    func takeQuorum() throws(Failure) {
        guard let quorum else { return }
        let code = library.quorumDispatch(quorum, CS_DISPATCH_ALL)
        guard code == CS_OK || code == CS_ERR_TRY_AGAIN else {
            throw Failure(reason: "quorum_dispatch: \(describe(code))")
        }
    }

    func multicast(_ head: [UInt8], _ body: [UInt8]) -> Sent {
        guard let cpg else { return .failed("not connected") }
        let code = head.withUnsafeBytes { head in
            body.withUnsafeBytes { body in
                let parts = (
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress), iov_len: head.count),
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count)
                )
                return withUnsafeBytes(of: parts) { raw in
                    library.cpgMulticast(
                        cpg, CPG_TYPE_AGREED, raw.baseAddress?.assumingMemoryBound(to: iovec.self),
                        body.isEmpty ? 1 : 2)
                }
            }
        }
        switch code {
        case CS_OK: return .done
        case CS_ERR_TRY_AGAIN: return .busy
        default: return .failed("cpg_mcast_joined: \(describe(code))")
        }
    }

    private func check(_ call: String, _ body: () -> cs_error_t) throws(Failure) {
        let code = body()
        guard code == CS_OK else { throw Failure(reason: "\(call): \(describe(code))") }
    }
}

/// What an error of corosync's libraries means here. Source: corotypes.h.
func describe(_ code: cs_error_t) -> String {
    switch code {
    case CS_ERR_LIBRARY: "corosync does not run, or has stopped (CS_ERR_LIBRARY)"
    case CS_ERR_TRY_AGAIN: "corosync is not ready yet (CS_ERR_TRY_AGAIN)"
    case CS_ERR_BAD_HANDLE: "the connection is gone (CS_ERR_BAD_HANDLE)"
    case CS_ERR_EXIST: "this process is in the group already (CS_ERR_EXIST)"
    case CS_ERR_ACCESS, CS_ERR_SECURITY: "corosync refuses this user; root or a uidgid entry expected (CS_ERR_ACCESS)"
    default: "error \(code.rawValue) of corosync"
    }
}

// MARK: Callbacks: no captures; the inbox is the context of the handle.

private func inbox(cpg handle: UInt64) -> CorosyncInbox? {
    var context: UnsafeMutableRawPointer?
    guard let library = CorosyncLibrary.opened, library.cpgContext(handle, &context) == CS_OK else { return nil }
    return CorosyncInbox.of(context)
}

private func inbox(quorum handle: UInt64) -> CorosyncInbox? {
    var context: UnsafeRawPointer?
    guard let library = CorosyncLibrary.opened, library.quorumContext(handle, &context) == CS_OK else { return nil }
    return CorosyncInbox.of(context)
}

private func deliverMessage(
    _ handle: UInt64, _ group: UnsafePointer<cpg_name>?, _ node: UInt32, _ pid: UInt32,
    _ bytes: UnsafeMutableRawPointer?, _ count: Int
) {
    let message = Array(UnsafeRawBufferPointer(start: bytes, count: count))
    inbox(cpg: handle)?.events.append(.message(RingProcess(node: node, pid: pid), message))
}

private func deliverProcesses(
    _ handle: UInt64, _ group: UnsafePointer<cpg_name>?, _ members: UnsafePointer<cpg_address>?, _ memberCount: Int,
    _ left: UnsafePointer<cpg_address>?, _ leftCount: Int, _ joined: UnsafePointer<cpg_address>?, _ joinedCount: Int
) {
    let processes = UnsafeBufferPointer(start: members, count: memberCount).map {
        RingProcess(node: $0.nodeid, pid: $0.pid)
    }
    let reasons =
        UnsafeBufferPointer(start: left, count: leftCount).map(\.reason)
        + UnsafeBufferPointer(start: joined, count: joinedCount).map(\.reason)
    let isNewRing = reasons.contains { $0 == CPG_REASON_NODEUP.rawValue || $0 == CPG_REASON_NODEDOWN.rawValue }
    inbox(cpg: handle)?.events.append(.processes(processes, isNewRing: isNewRing))
}

private func deliverRing(
    _ handle: UInt64, _ ring: cpg_ring_id, _ memberCount: UInt32, _ members: UnsafePointer<UInt32>?
) {
    let nodes = Array(UnsafeBufferPointer(start: members, count: Int(memberCount)))
    inbox(cpg: handle)?.events.append(.ring(RingID(node: ring.nodeid, sequence: ring.seq), nodes: nodes))
}

private func deliverQuorum(
    _ handle: UInt64, _ isQuorate: UInt32, _ ring: quorum_ring_id, _ memberCount: UInt32,
    _ members: UnsafePointer<UInt32>?
) {
    let ring = RingID(node: ring.nodeid, sequence: ring.seq)
    inbox(quorum: handle)?.events.append(.quorum(ring, isQuorate: isQuorate != 0))
}
