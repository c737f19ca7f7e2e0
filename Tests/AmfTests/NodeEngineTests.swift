import AmfProtocol
import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

@Suite("Node engine")
struct NodeEngineTests {
    private let name = SaName("safComp=C1,safSu=SU1,safSg=G,safApp=A")!
    private let now = Instant(nanoseconds: 1_000_000_000)

    private func engine(_ change: (inout ComponentModel) -> Void = { _ in }) -> NodeEngine {
        var model = Models.twoN(units: 1)
        change(&model.applications[0].serviceGroups[0].serviceUnits[0].components[0])
        var engine = NodeEngine(node: NodeID(1), incarnation: 3)
        _ = engine.handle(.model(model), at: now)
        return engine
    }

    private func ready(_ engine: inout NodeEngine, pid: Int32 = 42) {
        _ = engine.handle(.order(.instantiate(name, 1, environment: [])), at: now)
        _ = engine.handle(.spawned(name, 1, pid: pid, startedAt: 9), at: now)
        _ = engine.handle(.request(.register(Registration(component: name, pid: pid)), ticket: 1, pid: pid), at: now)
    }

    private func set(_ invocation: UInt64, _ haState: HAState = .active) -> NodeOrder {
        .csiSet(
            CSISetOrder(
                invocation: InvocationID(invocation), component: name, instance: 1, haState: haState,
                descriptor: CSIDescriptor(.addOne, csi: SaName("safCsi=W,safSi=S,safApp=A")!)))
    }

    private func timers(_ effects: [NodeEffect]) -> [NodeTimer] {
        effects.compactMap { if case .startTimer(let timer, _) = $0 { timer } else { nil } }
    }

    @Test("Spawned, registered, instantiated")
    func start() {
        var engine = engine()
        let asked = engine.handle(.order(.instantiate(name, 1, environment: [])), at: now)
        #expect(asked.count == 1)
        guard case .spawn(name, 1, _, _) = asked[0] else {
            Issue.record("\(asked)")
            return
        }
        let spawned = engine.handle(.spawned(name, 1, pid: 42, startedAt: 9), at: now)
        #expect(timers(spawned).map(\.kind) == [.life])
        let registered = engine.handle(
            .request(.register(Registration(component: name, pid: 42)), ticket: 1, pid: 42), at: now)
        #expect(
            registered == [
                .reply(1, .registered(name, 1)), .cancelTimer(timers(spawned)[0]),
                .report(.instantiated(name, 1, pid: 42, startedAt: 9)),
            ])
    }

    @Test("What is told of a component that is to be another life: who lives, and the last that was ordered")
    func living() {
        var engine = engine()
        #expect(engine.living == [])
        ready(&engine)
        let alive = LivingComponent(component: name, instance: 1, pid: 42, startedAt: 9)
        #expect(engine.living == [alive])
        _ = engine.handle(.order(.instantiate(name, 3, environment: [])), at: now)  // kills the first before
        #expect(
            engine.living == [LivingComponent(component: name, instance: 1, pid: 42, startedAt: 9, lastInstance: 3)])
        _ = engine.handle(.order(.cleanup(name, 3)), at: now)
        _ = engine.handle(.exited(name, 1, reason: "signal 9"), at: now)
        #expect(engine.living == [LivingComponent(component: name, instance: 1, pid: 0, startedAt: 0, lastInstance: 3)])
    }

    @Test("A released life lock is reported first; the exit that follows is no second death")
    func death() {
        var engine = engine()
        ready(&engine)
        let died = engine.handle(.lifeLockReleased(name, 1), at: now)
        #expect(
            died.first == .report(.failed(name, 1, recovery: .noRecommendation, isDead: true, cause: .died)))
        #expect(engine.handle(.connectionLost(name, 1), at: now).isEmpty)
        #expect(
            engine.handle(.exited(name, 1, reason: "signal 9"), at: now) == [
                .report(.exited(name, 1, reason: "signal 9 after 0 s")),
                .note(.ended(name, pid: 42, reason: "signal 9 after 0 s")),
            ])
        #expect(engine.handle(.order(.cleanup(name, 1)), at: now) == [.report(.uninstantiated(name, 1))])
    }

    @Test("A clean-up ordered between lock and exit kills the group and waits for the exit")
    func cleanupWhileDying() {
        var engine = engine()
        ready(&engine)
        _ = engine.handle(.lifeLockReleased(name, 1), at: now)
        let ordered = engine.handle(.order(.cleanup(name, 1)), at: now)
        #expect(ordered.first == .kill(name, 1))
        #expect(engine.handle(.exited(name, 1, reason: "signal 9"), at: now).last == .report(.uninstantiated(name, 1)))
    }

    @Test("What ended while amfd was away is cleaned up, not only reported")
    func endedUnseen() {
        var engine = engine { $0.cleanupCommand = "/bin/clean" }
        #expect(engine.handle(.ended(name, 4), at: now).isEmpty)
        let effects = engine.handle(.order(.cleanup(name, 4)), at: now)
        #expect(effects.contains { if case .runCleanup(name, 4, _) = $0 { true } else { false } })
        let done = engine.handle(.cleanedUp(name, 4, succeeded: true, reason: ""), at: now)
        #expect(done.contains(.report(.uninstantiated(name, 4))))
    }

    @Test("What was being started when amfd died with it is started when it is asked for again")
    func startedAgain() {
        var engine = engine { $0.cleanupCommand = "/bin/clean" }
        _ = engine.handle(.ended(name, 4), at: now)
        let environment = [EnvironmentVariable("A", "b")]
        let effects = engine.handle(.order(.instantiate(name, 4, environment: environment)), at: now)
        #expect(effects.contains { if case .runCleanup(name, 4, _) = $0 { true } else { false } }, "\(effects)")
        let done = engine.handle(.cleanedUp(name, 4, succeeded: true, reason: ""), at: now)
        #expect(
            done.contains { if case .spawn(name, 4, _, environment) = $0 { true } else { false } }, "\(done)")
    }

    @Test("A missing program is tried again, then given up with its reason")
    func missingProgram() {
        var engine = engine()
        _ = engine.handle(.order(.instantiate(name, 1, environment: [])), at: now)
        let first = engine.handle(.spawnFailed(name, 1, reason: "/bin/C1: no such file"), at: now)
        #expect(first.count { if case .spawn = $0 { true } else { false } } == 1)
        let second = engine.handle(.spawnFailed(name, 1, reason: "/bin/C1: no such file"), at: now)
        #expect(second.contains(.report(.instantiationFailed(name, 1, reason: "/bin/C1: no such file"))))
        #expect(engine.lifeState(of: name) == .instantiationFailed)
    }

    @Test("With delayed attempts the delay is reported once and waited for")
    func delayedAttempts() {
        var engine = engine { component in
            component.instantiateWithoutDelayMax = 1
            component.instantiateWithDelayMax = .max
        }
        _ = engine.handle(.order(.instantiate(name, 1, environment: [])), at: now)
        let first = engine.handle(.spawnFailed(name, 1, reason: "full"), at: now)
        #expect(first.contains(.report(.instantiationDelayed(name, 1, reason: "full"))))
        let again = engine.handle(.timer(timers(first)[0]), at: now)
        #expect(again.count { if case .spawn = $0 { true } else { false } } == 1)
        let second = engine.handle(.spawnFailed(name, 1, reason: "full"), at: now)
        #expect(!second.contains(.report(.instantiationDelayed(name, 1, reason: "full"))))
        #expect(engine.lifeState(of: name) == .delaying)
    }

    @Test("A component that never registers is killed and tried again")
    func neverRegisters() {
        var engine = engine()
        _ = engine.handle(.order(.instantiate(name, 1, environment: [])), at: now)
        let spawned = engine.handle(.spawned(name, 1, pid: 42, startedAt: 9), at: now)
        let late = engine.handle(.timer(timers(spawned)[0]), at: now)
        #expect(late.contains(.kill(name, 1)))
        #expect(late.contains(.note(.instantiateTimeout(name, attempt: 1))))
        let gone = engine.handle(.exited(name, 1, reason: "signal 9"), at: now)
        #expect(gone.count { if case .spawn = $0 { true } else { false } } == 1)
    }

    @Test("An answer is reported before anything else; the same order again is answered again")
    func answer() {
        var engine = engine()
        ready(&engine)
        let asked = engine.handle(.order(set(7)), at: now)
        #expect(timers(asked).map(\.kind) == [.invocation])
        #expect(engine.handle(.order(set(7)), at: now).count == 1, "pushed again, the timer runs on")
        let answered = engine.handle(
            .request(.response(InvocationAnswer(InvocationID(7))), ticket: 2, pid: 42), at: now)
        #expect(
            answered == [
                .reply(2, .done), .report(.answered(name, 1, InvocationID(7))), .cancelTimer(timers(asked)[0]),
            ])
        #expect(engine.handle(.order(set(7)), at: now) == [.report(.answered(name, 1, InvocationID(7)))])
    }

    @Test("A late answer is refused and changes nothing")
    func lateAnswer() {
        var engine = engine()
        ready(&engine)
        let asked = engine.handle(.order(set(7)), at: now)
        let late = engine.handle(.timer(timers(asked)[0]), at: now)
        #expect(
            late.first
                == .report(.failed(name, 1, recovery: .noRecommendation, isDead: false, cause: .csiSetTimeout)))
        _ = engine.handle(.order(.cleanup(name, 1)), at: now)
        let answered = engine.handle(
            .request(.response(InvocationAnswer(InvocationID(7))), ticket: 2, pid: 42), at: now)
        #expect(answered.contains(.note(.lateAnswer(name, InvocationID(7)))))
        guard case .reply(2, .failed(.notExist, _)) = answered[0] else {
            Issue.record("\(answered)")
            return
        }
    }

    @Test("AMF-invoked health check: asked each period, one at a time, failed when not answered")
    func healthcheck() {
        var engine = engine()
        ready(&engine)
        let started = engine.handle(
            .request(
                .healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .componentRestart), ticket: 3,
                pid: 42), at: now)
        let asked = engine.handle(.timer(timers(started)[0]), at: now)
        guard
            case .push(.healthcheck(let invocation, name, key: "h"))? = asked.first(where: {
                if case .push = $0 { true } else { false }
            })
        else {
            Issue.record("\(asked)")
            return
        }
        let again = engine.handle(.timer(timers(asked)[0]), at: now)
        #expect(!again.contains { if case .push = $0 { true } else { false } }, "never two outstanding")
        _ = engine.handle(.request(.response(InvocationAnswer(invocation)), ticket: 4, pid: 42), at: now)
        let next = engine.handle(.timer(timers(again)[0]), at: now)
        let late = engine.handle(.timer(timers(next)[1]), at: now)
        #expect(
            late.contains(
                .report(
                    .failed(name, 1, recovery: .componentRestart, isDead: false, cause: .healthcheckTimeout))))
    }

    @Test("A health check that a lost connection swallowed is asked again, with its whole time")
    func healthcheckAcrossReconnection() throws {
        var engine = engine()
        ready(&engine)
        let started = engine.handle(
            .request(
                .healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .componentRestart), ticket: 3,
                pid: 42), at: now)
        let asked = engine.handle(.timer(timers(started)[0]), at: now)
        let question = try #require(asked.first { if case .push = $0 { true } else { false } })
        let late = try #require(timers(asked).first { $0.kind == .healthcheckAnswer("h") })
        _ = engine.handle(.connectionLost(name, 1), at: now)
        let back = engine.handle(
            .request(.register(Registration(component: name, pid: 42)), ticket: 5, pid: 42), at: now)
        #expect(back.contains(question))
        #expect(timers(back).map(\.kind) == [.healthcheckAnswer("h")])
        #expect(engine.handle(.timer(late), at: now).isEmpty, "the old time limit is over")
    }

    @Test("Health checks of one period that AMF invokes are asked at the same instants, never later than configured")
    func sharedInstants() {
        var due: [Instant] = []
        for shift in [0, 3, 40] as [Int64] {
            var engine = engine()
            ready(&engine)
            var time = Instant(nanoseconds: 10_000_000_000) + .milliseconds(shift)
            var effects = engine.handle(
                .request(
                    .healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .componentRestart), ticket: 3,
                    pid: 42), at: time)
            for _ in 0..<3 {
                guard case .startTimer(let timer, let delay)? = effects.first(where: { $0.isPeriodTimer }) else {
                    Issue.record("\(effects)")
                    return
                }
                #expect(delay <= .seconds(1) && delay >= .milliseconds(870))
                time = time + delay
                due.append(time)
                effects = engine.handle(.timer(timer), at: time)
            }
        }
        #expect(Set(due).count == 3, "\(due)")
    }

    @Test("Component-invoked health check: a missed confirmation is an error")
    func componentInvoked() {
        var engine = engine()
        ready(&engine)
        let started = engine.handle(
            .request(
                .healthcheckStart(component: name, key: "h", .componentInvoked, recovery: .componentFailover),
                ticket: 3, pid: 42), at: now)
        let confirmed = engine.handle(
            .request(.healthcheckConfirm(component: name, key: "h", nil), ticket: 4, pid: 42), at: now)
        #expect(engine.handle(.timer(timers(started)[0]), at: now).isEmpty, "the replaced timer is stale")
        let missed = engine.handle(.timer(timers(confirmed)[0]), at: now)
        #expect(
            missed.contains(
                .report(
                    .failed(name, 1, recovery: .componentFailover, isDead: false, cause: .healthcheckMissed))))
    }

    @Test("Health check errors: unknown key, started twice, not started")
    func healthcheckErrors() {
        var engine = engine()
        ready(&engine)
        func code(_ request: AmfRequest) -> AisError? {
            if case .reply(_, .failed(let error, _))? = engine.handle(.request(request, ticket: 5, pid: 42), at: now)
                .first
            {
                return error
            }
            return nil
        }
        #expect(
            code(.healthcheckStart(component: name, key: "x", .amfInvoked, recovery: .componentRestart)) == .notExist)
        #expect(
            code(.healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .clusterReset)) == .notSupported)
        #expect(code(.healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .componentRestart)) == nil)
        #expect(code(.healthcheckStart(component: name, key: "h", .amfInvoked, recovery: .componentRestart)) == .exist)
        #expect(code(.healthcheckConfirm(component: name, key: "h", nil)) == .notExist)
        #expect(code(.healthcheckStop(component: name, key: "h")) == nil)
        #expect(code(.healthcheckStop(component: name, key: "h")) == .notExist)
        #expect(code(.haStateGet(component: name, csi: SaName("safCsi=no")!)) == .notExist)
        #expect(code(.errorReport(component: SaName("safComp=no")!, recovery: .componentRestart)) == .notExist)
    }

    @Test("Registration is refused for the unknown, for a wrong process and before amfd started it")
    func refusals() {
        var engine = engine()
        func code(_ component: SaName, pid: Int32) -> AisError? {
            let effects = engine.handle(
                .request(.register(Registration(component: component, pid: pid)), ticket: 5, pid: pid), at: now)
            if case .reply(_, .failed(let error, _))? = effects.first { return error }
            return nil
        }
        #expect(code(SaName("safComp=no")!, pid: 1) == .invalidParam)
        #expect(code(name, pid: 42) == .badOperation)
        ready(&engine)
        #expect(code(name, pid: 43) == .exist)
        #expect(code(name, pid: 42) == nil)
    }

    @Test("Terminate: asked, answered, ended, cleaned up")
    func terminate() {
        var engine = engine { $0.cleanupCommand = "/bin/clean" }
        ready(&engine)
        let asked = engine.handle(.order(.terminate(name, 1)), at: now)
        guard case .push(.terminate(let invocation, name)) = asked[0] else {
            Issue.record("\(asked)")
            return
        }
        _ = engine.handle(.request(.response(InvocationAnswer(invocation)), ticket: 2, pid: 42), at: now)
        let exited = engine.handle(.exited(name, 1, reason: "exit status 0"), at: now)
        #expect(exited.contains { if case .runCleanup(name, 1, _) = $0 { true } else { false } })
        #expect(
            engine.handle(.cleanedUp(name, 1, succeeded: true, reason: ""), at: now) == [
                .report(.uninstantiated(name, 1))
            ])
    }

    @Test("Terminate not answered: killed; not killable: termination failed, until it goes after all")
    func terminateTimeout() {
        var engine = engine()
        ready(&engine)
        let asked = engine.handle(.order(.terminate(name, 1)), at: now)
        let killed = engine.handle(.timer(timers(asked)[0]), at: now)
        #expect(killed.first == .kill(name, 1))
        let failed = engine.handle(.timer(timers(killed)[0]), at: now)
        #expect(failed.contains { if case .report(.terminationFailed(name, 1, _)) = $0 { true } else { false } })
        let gone = engine.handle(.exited(name, 1, reason: "signal 9"), at: now)
        #expect(gone.last == .report(.uninstantiated(name, 1)))
    }

    @Test("A new amfd adopts a living component that registers again, and takes its answers")
    func adoption() {
        var engine = engine()
        let living = LivingComponent(component: name, instance: 4, pid: 77, startedAt: 5)
        let adopted = engine.handle(.adopt([living]), at: now)
        #expect(timers(adopted).map(\.kind) == [.life])
        var order = CSISetOrder(
            invocation: InvocationID(9), component: name, instance: 4, haState: .active,
            descriptor: CSIDescriptor(.addOne, csi: SaName("safCsi=W")!))
        order.instance = 4
        _ = engine.handle(.order(.csiSet(order)), at: now)
        let held = [HeldAssignment(csi: SaName("safCsi=W")!, .active)]
        let back = engine.handle(
            .request(
                .register(
                    Registration(component: name, pid: 77, held: held, answers: [InvocationAnswer(InvocationID(9))])),
                ticket: 1, pid: 77), at: now)
        #expect(back.first == .reply(1, .registered(name, 4)))
        #expect(back.contains(.report(.adopted(name, 4, pid: 77, startedAt: 5, held: held))))
        #expect(back.contains(.report(.answered(name, 4, InvocationID(9)))))
        #expect(!back.contains { if case .push = $0 { true } else { false } })
    }

    @Test("What it is active for is known by the callback that made it so, from before it hears of it until it lets go")
    func activities() throws {
        var engine = engine()
        let csi = try #require(SaName("safCsi=W,safSi=S,safApp=A"))
        #expect(engine.activities(of: name) == nil)
        ready(&engine)
        #expect(try #require(engine.activities(of: name)).activities == [])
        func answer(_ invocation: UInt64) {
            _ = engine.handle(
                .request(.response(InvocationAnswer(InvocationID(invocation))), ticket: 2, pid: 42), at: now)
        }
        _ = engine.handle(.order(set(7)), at: now)
        #expect(try #require(engine.activities(of: name)).activities == [Activity(csi: csi, epoch: 7)])
        answer(7)
        #expect(try #require(engine.activities(of: name)).activities == [Activity(csi: csi, epoch: 7)])
        _ = engine.handle(.order(set(8, .quiesced)), at: now)
        #expect(try #require(engine.activities(of: name)).activities == [Activity(csi: csi, epoch: 7)])
        answer(8)
        #expect(try #require(engine.activities(of: name)).activities == [])
        _ = engine.handle(.order(set(9)), at: now)
        #expect(try #require(engine.activities(of: name)).activities == [Activity(csi: csi, epoch: 9)])
        _ = engine.handle(.lifeLockReleased(name, 1), at: now)
        #expect(engine.activities(of: name) == nil)
    }

    @Test("An adopted component that does not come back fails; one that died is reported dead")
    func adoptionDeadline() {
        var engine = engine()
        let living = LivingComponent(component: name, instance: 4, pid: 77, startedAt: 5)
        let adopted = engine.handle(.adopt([living]), at: now)
        let late = engine.handle(.timer(timers(adopted)[0]), at: now)
        #expect(
            late.contains(
                .report(.failed(name, 4, recovery: .noRecommendation, isDead: false, cause: .connectionLost))))
        #expect(
            engine.handle(.exited(name, 4, reason: "signal 9"), at: now).first
                == .report(.failed(name, 4, recovery: .noRecommendation, isDead: true, cause: .died)))
        #expect(
            engine.handle(.order(.confirm(name, 4)), at: now).first
                == .report(.failed(name, 4, recovery: .noRecommendation, isDead: true, cause: .died)))
    }

    @Test("Deaths soon after the start slow the next start down, more each time")
    func quickDeaths() {
        var engine = engine()
        var delays: [Duration] = []
        for instance in 1...8 as ClosedRange<UInt32> {
            var effects = engine.handle(.order(.instantiate(name, instance, environment: [])), at: now)
            if case .startTimer(let timer, let delay)? = effects.first {
                delays.append(delay)
                effects = engine.handle(.timer(timer), at: now)
            }
            _ = engine.handle(.spawned(name, instance, pid: 42, startedAt: 9), at: now)
            _ = engine.handle(.request(.register(Registration(component: name, pid: 42)), ticket: 1, pid: 42), at: now)
            _ = engine.handle(.exited(name, instance, reason: "signal 11"), at: now)
            _ = engine.handle(.order(.cleanup(name, instance)), at: now)
        }
        #expect(delays == [20, 40, 80, 160, 320].map { Duration.milliseconds($0) })
    }

    @Test("No event in any state breaks the life cycle's promises", arguments: 0..<200 as Range<UInt64>)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var engine = engine { if seed % 3 == 0 { $0.cleanupCommand = "/bin/clean" } }
        var started: [NodeTimer] = []
        for _ in 0..<300 {
            let instance = UInt32.random(in: 0...4, using: &random)
            let pid = Int32.random(in: 40...42, using: &random)
            let any = InvocationID(UInt64.random(in: 0...4, using: &random))
            let events: [NodeEvent] = [
                .order(.instantiate(name, instance, environment: [])), .order(.terminate(name, instance)),
                .order(.cleanup(name, instance)), .order(.confirm(name, instance)), .order(set(any.rawValue)),
                .order(set(any.rawValue, .quiescing)), .spawned(name, instance, pid: pid, startedAt: 1),
                .spawnFailed(name, instance, reason: "x"), .lifeLockReleased(name, instance),
                .exited(name, instance, reason: "x"), .connectionLost(name, instance),
                .cleanedUp(name, instance, succeeded: random.chance(percent: 80), reason: "x"),
                .request(.register(Registration(component: name, pid: pid)), ticket: 1, pid: pid),
                .request(.response(InvocationAnswer(any)), ticket: 1, pid: pid),
                .request(.quiescingComplete(InvocationAnswer(any)), ticket: 1, pid: pid),
                .adopt([LivingComponent(component: name, instance: instance, pid: pid, startedAt: 0)]),
            ]
            let event =
                random.chance(percent: 20)
                ? started.randomElement(using: &random).map { NodeEvent.timer($0) }
                : events.randomElement(using: &random)
            guard let event else { continue }
            let before = engine.lifeState(of: name)
            let effects = engine.handle(event, at: now)
            started += timers(effects)
            for effect in effects {
                if case .push = effect {
                    #expect([.ready, .unconnected, .terminating].contains(engine.lifeState(of: name)), "seed \(seed)")
                }
                if case .spawn = effect, event != .exited(name, instance, reason: "x") {
                    #expect(before != .ready && before != .registering, "seed \(seed): spawned while one lives")
                }
            }
            if case .request = event {
                #expect(effects.count { if case .reply = $0 { true } else { false } } == 1, "seed \(seed)")
            }
        }
    }
}

extension NodeEffect {
    fileprivate var isPeriodTimer: Bool {
        if case .startTimer(let timer, _) = self, case .healthcheckPeriod = timer.kind { true } else { false }
    }
}
