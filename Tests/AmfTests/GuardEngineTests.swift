import EngineKit
import Testing

@testable import AmfEngine

@Suite("Guard engine")
struct GuardEngineTests {
    private func running(since start: Instant = .start) -> GuardEngine {
        var engine = GuardEngine(stopDeadline: .seconds(30))
        #expect(engine.handle(.begin, at: start) == [.spawn])
        #expect(engine.handle(.spawned, at: start) == [])
        return engine
    }

    @Test("A request to read the model again is passed on while amfd runs, and is nobody's before and after")
    func reload() {
        var engine = GuardEngine(stopDeadline: .seconds(30))
        #expect(engine.handle(.reloadRequested, at: .start) == [])
        engine = running()
        #expect(engine.handle(.reloadRequested, at: .start) == [.reload])
        #expect(engine.handle(.stopRequested, at: .start) == [.terminate, .startTimer(.seconds(30))])
        #expect(engine.handle(.reloadRequested, at: .start) == [])
    }

    @Test("A killed amfd is started again at once")
    func respawn() {
        var engine = running()
        let effects = engine.handle(.died(.signaled(9)), at: .start + .seconds(60))
        #expect(effects == [.say("amfd was killed by signal 9 after 60.0 s; starting it again"), .spawn])
        #expect(engine.state == .starting)
    }

    @Test("An amfd that dies at once, again and again, is started after growing delays, and a long life resets them")
    func backOff() {
        var engine = running()
        var now = Instant.start
        var delays: [Duration] = []
        for _ in 0..<10 {
            for effect in engine.handle(.died(.exited(1)), at: now) {
                if case .startTimer(let delay) = effect { delays.append(delay) }
            }
            if engine.state == .waiting { #expect(engine.handle(.timer, at: now) == [.spawn]) }
            _ = engine.handle(.spawned, at: now)
        }
        #expect(delays == delays.sorted())
        #expect(delays.last == .seconds(5))
        now = now + .seconds(2)
        #expect(engine.handle(.died(nil), at: now).contains(.spawn))
        #expect(engine.quickDeaths == 0)
    }

    @Test("An orderly end of amfd ends the guard, and so does a permanent refusal")
    func orderlyEnd() {
        var first = running()
        #expect(first.handle(.died(.exited(0)), at: .start) == [.exit(0)])
        var second = running()
        #expect(second.handle(.died(.exited(GuardEngine.permanentExitCode)), at: .start) == [.exit(100)])
        var adopted = GuardEngine(stopDeadline: .seconds(30))
        #expect(adopted.handle(.adopted, at: .start) == [])
        #expect(adopted.handle(.died(.orderly), at: .start) == [.exit(0)])
    }

    @Test("A stop is forwarded; after the deadline amfd is killed and its components swept away")
    func stop() {
        var engine = running()
        #expect(engine.handle(.stopRequested, at: .start) == [.terminate, .startTimer(.seconds(30))])
        #expect(engine.handle(.stopRequested, at: .start) == [])
        let late = engine.handle(.timer, at: .start + .seconds(30))
        #expect(late.last == .kill)
        #expect(engine.handle(.died(.signaled(9)), at: .start) == [.sweep, .exit(1)])
        #expect(engine.handle(.died(nil), at: .start) == [])
    }

    @Test("A stop while waiting for the back-off leaves nothing behind")
    func stopWhileWaiting() {
        var engine = running()
        while engine.state != .waiting {
            _ = engine.handle(.died(.exited(1)), at: .start)
            _ = engine.state == .starting ? engine.handle(.spawned, at: .start) : []
        }
        #expect(engine.handle(.stopRequested, at: .start) == [.cancelTimer, .sweep, .exit(0)])
    }

    @Test("A binary that cannot be started is said so, and tried again")
    func spawnFails() {
        var engine = GuardEngine(stopDeadline: .seconds(30))
        _ = engine.handle(.begin, at: .start)
        var said: [String] = []
        for _ in 0..<3 {
            for effect in engine.handle(.spawnFailed("no such file"), at: .start) {
                if case .say(let text) = effect { said.append(text) }
            }
            if engine.state == .waiting { _ = engine.handle(.timer, at: .start) }
        }
        #expect(said.count == 3)
        #expect(said.allSatisfy { $0.hasPrefix("cannot start amfd: no such file") })
    }

    @Test("No order of events starts two amfds or acts after the end", arguments: 0..<200 as Range<UInt64>)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var engine = GuardEngine(stopDeadline: .seconds(1))
        var now = Instant.start
        var isAlive = false
        for _ in 0..<200 {
            now = now + .milliseconds(Int64.random(in: 0...1_500, using: &random))
            let all: [GuardEngine.Event] =
                isAlive
                ? [.died(.exited(1)), .died(.signaled(9)), .died(nil), .died(.exited(0)), .stopRequested, .timer]
                : [.begin, .timer, .stopRequested, .spawnFailed("x")]
            let wasEnded = engine.state == .ended
            let event = all[Int.random(in: 0..<all.count, using: &random)]
            if case .died = event { isAlive = false }
            let effects = engine.handle(event, at: now)
            if wasEnded { #expect(effects.isEmpty, "seed \(seed)") }
            for effect in effects where effect == .spawn {
                #expect(!isAlive, "seed \(seed): spawned while one lives")
                isAlive = true
                _ = engine.handle(.spawned, at: now)
            }
        }
    }
}
