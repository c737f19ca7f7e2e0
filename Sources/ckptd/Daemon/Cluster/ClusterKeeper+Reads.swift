import CkptEngine
import CkptProtocol
import EOLoop
import EngineKit
import IOCLinks
import OSAL
import SAFTypes

/// A request of another node's client that waits until what this node says of its replica can be trusted.
struct HeldRead {
    var head: ForwardedHead
    var request: PeerRequest
    var body: [UInt8]
}

// What is told of data must be so: see ReadLease.
extension ClusterKeeper {
    private static let heldReadsMax = 4_096
    private static let heldBytesMax = 64 << 20

    /// Promises have come, or this node's part is another one.
    func readsMayGoOn() {
        mustLookAtReads = true
        enter {}
    }

    func lookAtReads() {
        mustLookAtReads = false
        let subjects = Set(pending.values.lazy.filter(\.isReading).map(\.subject))
        for subject in subjects.sorted() { routeMayHaveChanged(subject) }
        let held = heldReads
        heldReads.removeAll()
        for read in held { read.body.withUnsafeBytes { execute(read.head, read.request, $0) } }
    }

    /// Holds another node's request until it can be answered, at most for as long as that node waits.
    func hold(_ head: ForwardedHead, _ request: PeerRequest, _ body: UnsafeRawBufferPointer) {
        let bytes = heldReads.reduce(body.count) { $0 + $1.body.count }
        guard heldReads.count < Self.heldReadsMax, bytes <= Self.heldBytesMax else { return sendElsewhere(request) }
        heldReads.append(HeldRead(head: head, request: request, body: Array(body)))
        guard heldReadsTimer == nil else { return }
        heldReadsTimer = loop.schedule(after: Self.answerMax) { [unowned self] in
            heldReadsTimer = nil
            let held = heldReads
            heldReads.removeAll()
            for read in held { sendElsewhere(read.request) }
        }
    }

    /// It is asked again: of this node, or of another that has become active.
    private func sendElsewhere(_ request: PeerRequest) { request.reply([ForwardedAnswer.Kind.elsewhere.rawValue]) }

    /// A refusal of an update says what the data is like: as long as that is not certain, it is asked again.
    func holdRefusal(_ asker: Asker) -> Bool {
        guard let executing = answers.executing, !executing.code.isReading, !lease.isTrusted(executing.id) else {
            return false
        }
        switch asker {
        case .client(let request):
            add(
                PendingRequest(
                    request: request, code: executing.code, body: Array(shell.body), origin: executing.origin,
                    work: .data(executing.id), isReading: true), later: true)
        case .peer(let request):
            hold(
                ForwardedHead(checkpoint: executing.id, origin: executing.origin, code: executing.code), request,
                shell.body)
        }
        return true
    }

    /// Who does not say that it is not the active one is not waited for by reads, either.
    func hasNoPromise(of peer: NodeID) {
        var ids = Set(heldReads.map(\.head.checkpoint))
        for request in pending.values where request.isReading {
            if case .data(let id) = request.work { ids.insert(id) }
        }
        enter { for id in ids.sorted() { answer(.noPromise(id, peer)) } }
    }
}
