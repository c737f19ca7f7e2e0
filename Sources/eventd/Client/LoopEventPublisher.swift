public import EOLoop
public import EventProtocol
import IOC
public import OSAL
public import SAFTypes

/// Publishes on one channel from a daemon's loop: never waits, keeps a bounded number while eventd is away.
///
/// Loop thread only.
public final class LoopEventPublisher {
    /// Events that may be on their way or waiting for eventd.
    public static let waitingMax = 512

    private let connection: LoopConnection
    private let channel: SaName
    private var waiting = 0
    /// Events given up because eventd was away for too long.
    public private(set) var dropped: UInt64 = 0

    public init(loop: Loop, channel: SaName, places: Places) {
        self.channel = channel
        connection = LoopConnection(loop: loop, to: .wellKnown(.eventd), places: places)
    }

    /// False when too many wait already; the event is dropped and counted.
    @discardableResult
    public func publish(_ event: EventMessage) -> Bool {
        guard waiting < Self.waitingMax else {
            dropped += 1
            return false
        }
        waiting += 1
        let request = EventRequest.publishNamed(channel, event)
        connection.call(request.code, request.body, lane: .low, timeout: .seconds(30)) { [weak self] result in
            guard let self else { return }
            waiting -= 1
            if case .failure = result { dropped += 1 }
        }
        return true
    }

    public func close() { connection.close() }
}
