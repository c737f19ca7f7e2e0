import EngineKit
import Testing

@testable import OSAL

@Suite struct BasicsTests {
    @Test("An error names the call, the thing and the reason")
    func errors() throws {
        do {
            _ = try File.open("/nonexistent/file")
            Issue.record("opened")
        } catch {
            #expect(error.description == "open /nonexistent/file: No such file or directory")
            #expect(error.isNotFound && !error.isWouldBlock)
            #expect(error == OSError(code: error.code, call: "open", subject: "/nonexistent/file"))
        }
    }

    @Test("A descriptor is closed with its owner, and not when it was released")
    func ownership() throws {
        let kept = try File.open("/dev/null").release()
        let again = try File.open("/dev/null")
        #expect(again.raw != kept)
        IO.close(kept)
        let pipe = try makePipe(nonBlocking: true)
        let reader = pipe.first
        do {
            let writer = pipe.second
            let copy = try writer.duplicate()
            let count = try bytes("x").withUnsafeBytes { try copy.write($0) }
            #expect(count == 1)
        }
        var buffer = [UInt8](repeating: 0, count: 8)
        let first = try buffer.withUnsafeMutableBytes { try reader.read(into: $0) }
        let end = try buffer.withUnsafeMutableBytes { try reader.read(into: $0) }
        #expect(first == 1 && end == 0, "both writers are closed, so the pipe ends")
    }

    @Test("Reading what is not there yet is nil, not an error")
    func wouldBlock() throws {
        let pipe = try makePipe(nonBlocking: true)
        var buffer = [UInt8](repeating: 0, count: 8)
        let count = try buffer.withUnsafeMutableBytes { try IO.read(pipe.first.raw, into: $0) }
        #expect(count == nil)
        let big = [UInt8](repeating: 1, count: 1 << 20)
        let written = try big.withUnsafeBytes { try IO.write(pipe.second.raw, $0) }
        let more = try big.withUnsafeBytes { try IO.write(pipe.second.raw, $0) }
        #expect(written.map { $0 < big.count } == true && more == nil)
    }

    @Test("The monotonic clock does not go back, and the wall clock is of this century")
    func clocks() {
        var last = MonotonicClock.now()
        for _ in 0..<1000 {
            let now = MonotonicClock.now()
            #expect(now >= last)
            last = now
        }
        let calendar = MonotonicClock.calendar(wallNanoseconds: 1_700_000_000_123_456_789, utc: true)
        #expect(
            calendar
                == CalendarTime(
                    year: 2023, month: 11, day: 14, hour: 22, minute: 13, second: 20, nanosecond: 123_456_789,
                    weekday: 2,
                    secondsEastOfUTC: 0))
        let before = MonotonicClock.calendar(wallNanoseconds: -1, utc: true)
        #expect(before.year == 1969 && before.second == 59 && before.nanosecond == 999_999_999)
        #expect(MonotonicClock.calendar(wallNanoseconds: MonotonicClock.wallNanoseconds()).year > 2000)
    }

    @Test("CRC-32C gives the check value of RFC 3720, in one piece or several, with and without the instruction")
    func crc() {
        let digits = bytes("123456789")
        #expect(digits.withUnsafeBytes { crc32c($0) } == 0xE306_9283)
        #expect(digits.withUnsafeBytes { crc32cPortable($0) } == 0xE306_9283)
        #expect([UInt8](repeating: 0, count: 32).withUnsafeBytes { crc32c($0) } == 0x8A91_36AA)
        var random = SeededRandom(seed: 1)
        for length in 0..<200 {
            let data = (0..<length).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            let whole = data.withUnsafeBytes { crc32c($0) }
            let cut = length / 3
            let parts = data.withUnsafeBytes {
                crc32c(.init(rebasing: $0[cut...]), seed: crc32c(.init(rebasing: $0[..<cut])))
            }
            #expect(whole == parts && whole == data.withUnsafeBytes { crc32cPortable($0) }, "length \(length)")
        }
    }

    @Test("Places: the override wins, then the system's directories for root and one's own for others")
    func places() {
        let root = Places.from({ $0 == "SAF_LOG_DIR" ? "/logs/" : nil }, userID: 0, hostName: "h")
        #expect(root.runDirectory == "/run/swiftsaf" && root.shmDirectory == "/dev/shm/swiftsaf")
        #expect(root.stateDirectory == "/var/lib/swiftsaf" && root.configDirectory == "/etc/swiftsaf")
        #expect(root.logDirectory == "/logs" && root.nodeName == "h")
        let variables = ["HOME": "/home/u", "SAF_NODE_NAME": "node-3", "SAF_RUN_DIR": ""]
        let user = Places.from({ variables[$0] }, userID: 1000, hostName: "h")
        #expect(user.runDirectory == "/tmp/swiftsaf-1000" && user.shmDirectory == "/dev/shm/swiftsaf-1000")
        #expect(user.stateDirectory == "/home/u/.local/state/swiftsaf")
        #expect(user.logDirectory == "/home/u/.local/state/swiftsaf/log")
        #expect(user.configDirectory == "/home/u/.config/swiftsaf" && user.nodeName == "node-3")
        #expect(
            Places.from(
                { name in
                    user.environment.first { $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.count + 1)) }
                },
                userID: 0, hostName: "x") == user)
    }

    @Test("The environment is what the system says")
    func environment() throws {
        #expect(Environment.cpuCount >= 1)
        #expect(!Environment.hostName().isEmpty && !Environment.hostName().contains("."))
        #expect(Environment.all.contains { $0.hasPrefix("PATH=") })
        #expect(Environment.get("PATH") != nil && Environment.get("NO_SUCH_VARIABLE_HERE") == nil)
        #expect(Environment.account(named: "root")?.userID == 0 && Environment.groupID(named: "root") == 0)
        #expect(Environment.account(named: "1234")?.userID == 1234 && Environment.account(named: "no-such-user") == nil)
        #expect(Environment.processID == Process.information(of: Environment.processID)?.pid)
        let pipe = try makePipe()
        #expect(!isTerminal(pipe.first.raw) && terminalWidth(pipe.first.raw) == nil)
    }
}

@Suite struct ThreadTests {
    @Test("Threads run, are joined, and carry their name")
    func threads() throws {
        let monitor = Monitor<[Int32]>([])
        let threads = try (0..<4).map { index in
            try OSThread.spawn(name: "worker-\(index)") { monitor.update { $0.append(OSThread.currentID) } }
        }
        for thread in threads { thread.join() }
        threads[0].join()  // once more is nothing
        let count = monitor.wait(until: soon) { $0.count == 4 ? Set($0).count : nil }
        #expect(count == 4)
    }

    @Test("A monitor's waiter is woken by an update, and gives up at its deadline")
    func monitor() throws {
        let monitor = Monitor(0)
        let waiter = try OSThread.spawn(name: "waiter") {
            _ = monitor.wait(until: soon) { $0 == 1 ? true : nil }
            monitor.update { $0 = 2 }
        }
        monitor.update { $0 = 1 }
        #expect(monitor.wait(until: soon) { $0 == 2 ? $0 : nil } == 2)
        waiter.join()
        #expect(monitor.wait(until: MonotonicClock.now() + .milliseconds(5)) { $0 == 3 ? $0 : nil } == nil)
    }
}
