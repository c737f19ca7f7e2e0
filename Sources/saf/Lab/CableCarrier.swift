import EngineKit
import OSAL

/// Carries the frames between two devices of this network namespace, each half of the added round trip late, until one
/// of the devices is gone: what a long cable does, for kernels without netem.
public final class CableCarrier {
    private let devices: [String]
    private let first: PacketSocket
    private let second: PacketSocket
    /// From the first to the second, and back.
    private var lines: [DelayLine]
    private let report: String
    private var carried = 0
    private var lost = 0
    private var reported = ""
    private var nextReport = Instant.start

    static let reportInterval: Duration = .milliseconds(200)
    /// Frames taken from one side before the other has its turn.
    static let batch = 64

    /// - Parameter report: a file that tells how many frames were carried and lost.
    public init(_ first: String, _ second: String, delay: NetworkFaults.Delay, report: String) throws(OSError) {
        devices = [first, second]
        self.first = try PacketSocket(device: first)
        self.second = try PacketSocket(device: second)
        self.report = report
        var system = SystemRandomNumberGenerator()
        let halves = (Duration.milliseconds(delay.milliseconds) / 2, Duration.milliseconds(delay.jitter) / 2)
        lines = (0..<2).map { _ in DelayLine(delay: halves.0, jitter: halves.1, seed: system.next()) }
    }

    /// Returns when one of the devices is gone.
    public func run() throws(OSError) {
        let poller = try Poller()
        try poller.add(first.raw, interest: .read, token: 0)
        try poller.add(second.raw, interest: .read, token: 1)
        OSThread.runFirst()  // as the network would
        var buffer = [UInt8](repeating: 0, count: PacketSocket.frameBytesMax)
        var events: [PollEvent] = []
        while true {
            let now = MonotonicClock.now()
            let due = lines.compactMap(\.due).min()
            let timeout = (due.map { max(.zero, $0 - now) }).map { min($0, .seconds(1)) } ?? .seconds(1)
            try poller.wait(into: &events, timeout: timeout)
            for event in events {
                let isOpen = event.token == 0 ? take(from: first, 0, &buffer) : take(from: second, 1, &buffer)
                if !isOpen, !devices.allSatisfy(PacketSocket.exists) { return tell(at: nextReport) }
            }
            deliver(0, to: second)
            deliver(1, to: first)
            tell(at: MonotonicClock.now())
        }
    }

    /// False when the device has gone down, or away.
    private func take(from socket: PacketSocket, _ line: Int, _ buffer: inout [UInt8]) -> Bool {
        do {
            for _ in 0..<Self.batch {
                let count = try buffer.withUnsafeMutableBytes { bytes in
                    try socket.receive(into: bytes)
                }
                guard let count else { break }
                lines[line].push(buffer[0..<count], at: MonotonicClock.now())
            }
            return true
        } catch {
            return false
        }
    }

    private func deliver(_ line: Int, to socket: PacketSocket) {
        let now = MonotonicClock.now()
        while let frame = lines[line].pop(at: now) {
            // A device that is down takes nothing: a cable that is out.
            let isSent = frame.withUnsafeBytes { bytes in (try? socket.send(bytes)) ?? false }
            if isSent { carried += 1 } else { lost += 1 }
        }
    }

    private func tell(at now: Instant) {
        guard now >= nextReport else { return }
        nextReport = now + Self.reportInterval
        lost += first.takeDrops() + second.takeDrops()
        let text = "\(carried) \(lost + lines[0].lost + lines[1].lost)\n"
        guard text != reported else { return }
        reported = text
        // Nobody waits for the figures.
        try? File.writeAtomically(report, text: text, durable: false)
    }
}
