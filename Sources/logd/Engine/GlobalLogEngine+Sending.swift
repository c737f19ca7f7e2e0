import EngineKit
import LogProtocol
import SAFTypes

// The sender: what this node's writers log goes to the owner, and stays here until the owner has acknowledged it.

/// The state of a sender.
struct Sending: Sendable {
    enum Phase: Hashable, Sendable { case idle, asking, streaming }

    let incarnation: UInt64
    /// Accepted from writers, and acknowledged by an owner.
    var through: UInt64
    var released: UInt64
    var session: UInt64
    var phase = Phase.idle
    /// The next record to be sent.
    var next: UInt64 = 0
    var isReading = false
    var inFlight: [(last: UInt64, bytes: Int)] = []
    var inFlightBytes = 0
    var progress = Instant.start

    init(incarnation: UInt64, through: UInt64, released: UInt64, session: UInt64) {
        (self.incarnation, self.through, self.released, self.session) = (incarnation, through, released, session)
    }

    /// Something is to be answered.
    var isWaiting: Bool { phase == .asking || (phase == .streaming && released < through) }

    mutating func stop() {
        phase = .idle
        (inFlight, inFlightBytes, isReading) = ([], 0, false)
    }
}

extension GlobalLogEngine {
    /// Records that the owner has not acknowledged.
    public var unacknowledged: UInt64 { sending.through - sending.released }

    mutating func pumpSending() {
        guard let owner = ownership.owner?.node, isReachable(owner), sending.released < sending.through else { return }
        switch sending.phase {
        case .idle:
            sending.phase = .asking
            sending.session += 1
            sending.progress = now
            let ask = LogPeerMessage.ask(
                session: sending.session, incarnation: sending.incarnation, oldest: sending.released + 1)
            send(ask, to: owner)
        case .asking: break
        case .streaming:
            guard !sending.isReading, sending.next <= sending.through, sending.inFlightBytes < limits.sendingBytes
            else { return }
            sending.isReading = true
            effects.append(.readSpool(session: sending.session, from: sending.next))
        }
    }

    mutating func have(_ session: UInt64, last: UInt64) {
        guard session == sending.session, sending.phase != .idle else { return }
        sending.stop()
        sending.phase = .streaming
        // An owner that has more than was ever accepted speaks of somebody else's records.
        sending.next = max(sending.released, min(last, sending.through)) + 1
        sending.progress = now
        pumpSending()
    }

    mutating func spoolRead(_ session: UInt64, _ batch: RecordBatch?) {
        guard session == sending.session, sending.phase == .streaming, sending.isReading else { return }
        sending.isReading = false
        guard let batch, batch.first == sending.next, let owner = ownership.owner?.node else { return }
        sending.next = batch.last + 1
        sending.inFlight.append((batch.last, batch.records.count))
        sending.inFlightBytes += batch.records.count
        send(.submit(batch), to: owner)
        pumpSending()
    }

    mutating func accepted(_ incarnation: UInt64, through: UInt64) {
        guard incarnation == sending.incarnation, through > sending.released, through <= sending.through else {
            return
        }
        sending.released = through
        sending.progress = now
        let count = sending.inFlight.prefix { $0.last <= through }.count
        for batch in sending.inFlight[..<count] { sending.inFlightBytes -= batch.bytes }
        sending.inFlight.removeFirst(count)
        effects.append(.releaseSpool(through: through))
        pumpSending()
    }
}
