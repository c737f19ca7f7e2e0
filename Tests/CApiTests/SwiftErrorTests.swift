import CkptClient
import CkptProtocol
import IOCCluster
import OSAL
import SAFTypes
import Testing

/// The same errors in the Swift API: what the headers document of a C function, its Swift counterpart throws.
///
/// `SwiftCalls` says which calls those are; the rows below which error comes when. A code of the headers without a row
/// is an error of this test, unless it is about what Swift does not have.
@Suite("Errors of the Swift API", .serialized)
struct SwiftErrorTests {
    // MARK: What can happen to every call

    @Test("Every call that needs ckptd: closed is BAD_HANDLE; killed TRY_AGAIN; stopped TIMEOUT")
    func faults() async throws {
        let stand = try CkptStand()
        let closed = try await SwiftArena(stand, "closed")
        try await closed.close()
        for call in SwiftCalls.all where call.usesOpen {
            #expect(await error(call, closed) == .badHandle, "\(call.name)")
        }
        let service = closed.service
        service.close()
        for call in SwiftCalls.all { #expect(await error(call, closed) == .badHandle, "\(call.name), service closed") }

        var arenas: [SwiftArena] = []
        for number in SwiftCalls.all.indices { arenas.append(try await SwiftArena(stand, "\(number)")) }
        guard let child = stand.running else { throw CToolError("no ckptd") }
        _ = try Process.kill(child, .stop)
        for (call, arena) in zip(SwiftCalls.all, arenas) {
            #expect(await error(call, arena) == .timeout, "\(call.name)")
        }
        stand.kill()
        for (call, arena) in zip(SwiftCalls.all, arenas) {
            // The hang-up has to have been heard: until then a call is sent, and its outcome unknown.
            try stand.wait(for: "the hang-up") {
                do throws(AisError) {
                    _ = try arena.open.statusBlocking(timeout: .milliseconds(1))
                } catch { return error == .tryAgain }
                return false
            }
            #expect(await error(call, arena) == .tryAgain, "\(call.name)")
        }
    }

    @Test("Outside of the cluster who wants to know of membership is told UNAVAILABLE at once, by every call")
    func unavailable() async throws {
        let stand = try CkptStand(started: false)
        try stand.describeCluster()
        try stand.start()
        let service = CheckpointService(places: stand.places)
        service.requiresMembership = true
        let outcomes: [AisError?] = [
            await error { _ = try await Checkpoint.open("safCkpt=x", in: service) },
            await error { try await Checkpoint.unlink("safCkpt=x", in: service) },
            await error { _ = try await Checkpoint.exists("safCkpt=x", in: service) },
        ]
        #expect(outcomes == [.unavailable, .unavailable, .unavailable])
    }

    // MARK: What each call can say

    /// Beside the rows of `SwiftRows`.
    private static let general: [AisError] = [.badHandle, .unavailable, .timeout, .tryAgain]
    /// Shown by tests of their own.
    private static let elsewhere = [
        Exemption("saCkptCheckpointWrite", .library, "corrupted()"),
        Exemption("saCkptCheckpointRead", .library, "corrupted()"), Exemption("safCkptUpdate", .library, "corrupted()"),
        Exemption("saCkptCheckpointOpen", .noSpace, "EngineTests: the store's answer"),
        Exemption("saCkptCheckpointOpenAsync", .noSpace, "EngineTests: the store's answer"),
        Exemption("saCkptCheckpointOpen", .tooBig, "a name that is too long is none: INVALID_PARAM"),
        Exemption("saCkptCheckpointOpenAsync", .tooBig, "a name that is too long is none: INVALID_PARAM"),
        Exemption("saCkptCheckpointUnlink", .invalidParam, "an SaName is a name"),
        Exemption("safCkptCheckpointCheck", .invalidParam, "an SaName is a name"),
        Exemption("safCkptCheckpointCheck", .notExist, "exists is false"),
    ]
    private static let notInSwift = [
        Exemption("saCkptInitialize", .invalidParam, "no pointers"),
        Exemption("saCkptInitialize", .version, "one version"),
        Exemption("saCkptInitialize", .noResources, "a service connects with its first call"),
        Exemption("saCkptInitialize_2", .invalidParam, "no pointers"),
        Exemption("saCkptInitialize_2", .version, "one version"),
        Exemption("saCkptSelectionObjectGet", .invalidParam, "no pointers"),
        Exemption("saCkptDispatch", .invalidParam, "no dispatching"),
        Exemption("saCkptCheckpointOpenAsync", .initialization, "no callbacks"),
        Exemption("saCkptCheckpointSynchronizeAsync", .initialization, "no callbacks"),
        Exemption("saCkptCheckpointSynchronize", .invalidParam, "a negative timeout is over: TIMEOUT or TRY_AGAIN"),
        Exemption("saCkptCheckpointStatusGet", .invalidParam, "no pointers"),
        Exemption("saCkptSectionIterationInitialize", .invalidParam, "no pointers, no other predicates"),
        Exemption("saCkptSectionIterationNext", .invalidParam, "no pointers"),
        Exemption("saCkptSectionIterationNext", .noSections, "the sequence ends"),
        Exemption("saCkptSectionIterationNext", .notExist, "as in C: several nodes"),
        Exemption("saCkptSectionIdFree", .invalidParam, "nothing to free"),
        Exemption("saCkptIOVectorElementDataFree", .invalidParam, "nothing to free"),
        Exemption("saCkptCheckpointRead", .noMemory, "Swift ends the process when it has no memory"),
        Exemption("safCkptSectionsGet", .noMemory, "Swift ends the process when it has no memory"),
        Exemption("safCkptSectionsGet", .invalidParam, "no pointers"),
        Exemption("safCkptSectionCheck", .invalidParam, "no pointers"),
        Exemption("saCkptTrack", .initialization, "no callbacks"),
        Exemption("saCkptTrackStop", .notExist, "a sequence is not stopped but let go"),
        Exemption("saCkptCheckpointTrack", .initialization, "no callbacks"),
        Exemption("saCkptCheckpointTrack", .access, "the sequence is empty"),
        Exemption("saCkptCheckpointTrackStop", .notExist, "a sequence is not stopped but let go"),
        Exemption("safCkptUpdatesStart", .invalidParam, "no callbacks"),
        Exemption("safCkptUpdatesStart", .access, "the sequence is empty"),
        Exemption("safCkptUpdatesStart", .exist, "the newest sequence of an open takes over"),
        Exemption("safCkptUpdatesStop", .notExist, "a sequence is not stopped but let go"),
        Exemption("safCkptReplicaChangesStart", .invalidParam, "no callbacks"),
        Exemption("safCkptReplicaChangesStart", .exist, "the newest sequence of an open takes over"),
        Exemption("safCkptReplicaChangesStop", .notExist, "a sequence is not stopped but let go"),
    ]

    @Test("Each documented error of each function")
    func rows() async throws {
        let stand = try CkptStand()
        let service = CheckpointService(places: stand.places)
        var shown: [String: Set<AisError>] = [:]
        for row in SwiftRows.all {
            let arena = try await SwiftRowArena(service)
            let outcome = await error { try await row.call(arena) }
            #expect(outcome == row.code, "\(row.function), \(row.code.name): \(service.lastRefusal)")
            shown[row.function, default: []].insert(row.code)
            try await arena.end()
        }
        for (function, codes) in try HeaderErrors.documented() {
            for code in codes where !Self.general.contains(code) && shown[function]?.contains(code) != true {
                let isExempt = (Self.notInSwift + Self.elsewhere).contains {
                    $0.function == function && $0.code == code
                }
                #expect(isExempt, "\(function) documents \(code.name): no row shows what Swift does")
            }
        }
    }

    @Test("Corrupted data is LIBRARY for who reads or writes it")
    func corrupted() async throws {
        let stand = try CkptStand()
        let service = CheckpointService(places: stand.places)
        let text = Array("these bytes are to be spoilt by the Swift test".utf8)
        let made = try await Checkpoint.open("safCkpt=spoilt", creating: SwiftRowArena.attributes(), in: service)
        try await made.put("s", text)
        stand.kill()
        #expect(try FaultTests().spoil(text, below: stand.places.shmDirectory) > 0)
        try stand.start()
        let calls: [SwiftRows.Body] = [
            { arena in try await arena.open.write("s", at: 0, [1]) },
            { arena in _ = try await arena.open.read("s") },
            { arena in _ = try await arena.open.write { $0.write("s", at: 0, [1]) } },
        ]
        let arena = try await SwiftRowArena(service, name: SaName("safCkpt=spoilt")!)
        for call in calls {
            #expect(await error { try await call(arena) } == .library)
        }
    }

    private func error(_ call: SwiftCalls.Call, _ arena: SwiftArena) async -> AisError? {
        await error { try await call.body(arena) }
    }

    private func error(_ body: () async throws -> Void) async -> AisError? {
        do {
            try await body()
            return nil
        } catch { return error as? AisError }
    }
}
