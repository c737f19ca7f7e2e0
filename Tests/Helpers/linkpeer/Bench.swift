import EOLoop
import EngineKit
import IOC
import IOCLinks
import OSAL
import SAFTypes

/// Round trips and one-way throughput to the other node, beside the floor: raw sockets in blocking use.
final class Bench {
    private let loop: Loop
    private let links: PeerLinks
    private let peer: NodeID
    private let floor: TcpFloor
    private var plan: [() -> Void] = []

    init(loop: Loop, links: PeerLinks, floor: TcpFloor) {
        self.loop = loop
        self.floor = floor
        self.links = links
        peer = NodeID(links.description.localNode == NodeID(1) ? 2 : 1)
    }

    func start() {
        links.onUp = { [unowned self] _, _, _ in
            links.onUp = nil
            let only = Environment.get("BENCH_SIZE").flatMap { Int($0) }
            for (size, count) in [(64, 5000), (1024, 5000), (65_536, 1000), (1 << 20, 200)]
            where only == nil || only == size {
                plan.append { self.roundTrips(size, count) }
                plan.append { self.oneWay(size, max(200, (256 << 20) / max(size, 4096))) }
            }
            next()
        }
        links.reach(peer)
    }

    private func next() {
        guard !plan.isEmpty else { return loop.stop() }
        plan.removeFirst()()
    }

    private func roundTrips(_ size: Int, _ count: Int) {
        let body = [UInt8](repeating: 1, count: size)
        var samples: [Int64] = []
        samples.reserveCapacity(count)
        func once() {
            let start = MonotonicClock.now()
            links.callLending(1, body, to: peer, timeout: .seconds(10)) { [self] result in
                guard case .success(let answer) = result, answer.count == size else {
                    say("failed: \(result)")
                    return loop.stop()
                }
                samples.append((MonotonicClock.now() - start).nanoseconds)
                if samples.count < count { return once() }
                let floors: [Int64]
                do throws(OSError) { floors = try floor.measure(size, count) } catch {
                    say("floor: \(error)")
                    return loop.stop()
                }
                say("round trip \(size): \(summary(samples)); floor \(summary(floors))")
                next()
            }
        }
        once()
    }

    private func summary(_ samples: [Int64]) -> String {
        let sorted = samples.dropFirst(samples.count / 10).sorted()
        return "p50 \(micro(sorted[sorted.count / 2])) p99 \(micro(sorted[sorted.count * 99 / 100])) us"
    }

    private func micro(_ nanoseconds: Int64) -> String { "\(nanoseconds / 1000).\(nanoseconds % 1000 / 100)" }

    private func oneWay(_ size: Int, _ count: Int) {
        let body = [UInt8](repeating: 1, count: size)
        let start = MonotonicClock.now()
        var sent = 0
        func pour() {
            while sent < count, links.send(1, body, to: peer, lane: .low) == .sent { sent += 1 }
            guard sent == count else { return }
            sent += 1
            links.onWritable = nil
            // The answer in the same lane comes after everything was taken.
            links.call(2, [], to: peer, lane: .low, timeout: .seconds(60)) { [self] result in
                let seconds = Double((MonotonicClock.now() - start).nanoseconds) / 1e9
                let megabytes = Double(size * count) / 1e6
                if case .failure(let error) = result {
                    loop.schedule(after: .milliseconds(1)) {
                        sent = count; pour()
                    }
                    if error.code != .tryAgain { say("failed: \(error)") }
                    return
                }
                say("one-way \(size): \(Int(megabytes / seconds)) MB/s, \(Int(Double(count) / seconds)) messages/s")
                next()
            }
        }
        links.onWritable = { _, _ in pour() }
        pour()
    }
}
