import AmfProtocol
import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

@Suite("Cluster engine")
struct ClusterEngineTests {
    private let c1 = "safComp=C1,safSu=SU1,safSg=G,safApp=A"
    private let c2 = "safComp=C1,safSu=SU2,safSg=G,safApp=A"

    @Test("2N: the better-ranked unit becomes active, then the other standby")
    func start() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        #expect(
            world.trace.filter { !$0.contains("cleanup") } == [
                "SU1/C1:1 instantiate", "SU2/C1:1 instantiate", "SU1/C1:1 set active W11 addOne newAssign",
                "SU2/C1:1 set standby W11 addOne active=SU1/C1",
            ])
        #expect(world.cluster.status().applications[0].serviceInstances[0].assignmentState == .fullyAssigned)
    }

    @Test("Death of the active: its standby is told first, in the very answer to the report")
    func failover() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        let effects = world.cluster.handle(
            .report(
                NodeID(1),
                .failed(SaName(c1)!, 1, recovery: .noRecommendation, isDead: true, cause: .died)), at: world.now)
        guard case .order(_, .csiSet(let order)) = effects.first else {
            Issue.record("the first effect is \(String(describing: effects.first))")
            return
        }
        #expect(order.component == SaName(c2))
        #expect(order.haState == .active)
        #expect(order.descriptor.transition == .notQuiesced)
        #expect(order.descriptor.activeComponent == SaName(c1))
        #expect(order.descriptor.flags == .targetOne)
        #expect(effects.count { if case .order = $0 { true } else { false } } == 2, "and the clean-up")
        guard case .notify = effects.last else {
            Issue.record("notifications come last")
            return
        }
    }

    @Test("A death is foretold in the state before it, however late it comes")
    func forecast() throws {
        var world = AmfWorld(Models.twoN())
        world.settle()
        let active = ActiveProcess(component: try #require(SaName(c1)), instance: 1)
        let forecast = Forecast(deathsOf: [active], on: NodeID(1), in: world.cluster, at: world.now)
        let foretold = forecast.takeovers(after: .death(of: active))
        world.advance(.seconds(3_600))
        world.kill(c1)
        world.settle()
        #expect(foretold.map(\.component) == [SaName(c2)])
        #expect(world.foretoldCount == 1)
        #expect(world.foretoldPushCount == 1)
        #expect(world.violations.isEmpty)
        #expect(forecast.takeovers(after: .uninstantiated(active.component, 1)).isEmpty)
    }

    @Test("What an escalation within its probation brings about is not foretold: it may have ended")
    func noForecastWithinProbation() throws {
        var model = Models.twoN()
        model.applications[0].serviceGroups[0].componentRestartMax = 1
        model.applications[0].serviceGroups[0].suRestartMax = 0
        for unit in 0..<2 {
            model.applications[0].serviceGroups[0].serviceUnits[unit].components[0].recoveryOnError = .componentRestart
        }
        var world = AmfWorld(model)
        world.settle()
        world.kill(c1)
        world.settle()
        #expect(world.foretoldCount == 0, "it is restarted")
        let active = ActiveProcess(component: try #require(SaName(c1)), instance: 2)
        let report = NodeReport.death(of: active)
        var copy = world.cluster
        let isNow = copy.handle(.report(NodeID(1), report), at: world.now).contains {
            if case .order(_, .csiSet(let order)) = $0 { order.haState == .active } else { false }
        }
        #expect(isNow, "at this moment it would fail over")
        let forecast = Forecast(deathsOf: [active], on: NodeID(1), in: world.cluster, at: world.now)
        #expect(forecast.takeovers(after: report).isEmpty)
    }

    @Test(
        "What a node was ordered where the state does not know of it does not make it deaf to what it is ordered now",
        arguments: [Int32(0), 77])
    func ordersThatDidNotLast(pid: Int32) throws {
        var world = AmfWorld(Models.twoN())
        world.settle()
        let name = try #require(SaName(c1))
        // Instance 1 was killed and 2 started while the node was by itself; 3 was to follow.
        let found = LivingComponent(
            component: name, instance: 2, pid: pid, startedAt: 1, lastInstance: pid == 0 ? 3 : 2)
        let effects = world.cluster.handle(.nodeJoined(NodeID(1), incarnation: 9, living: [found]), at: world.now)
        let orders = effects.compactMap { if case .order(_, let order) = $0 { order } else { nil } }
        #expect(orders.contains(.cleanup(name, found.lastInstance)), "\(orders)")
        let next = world.cluster.handle(.report(NodeID(1), .uninstantiated(name, found.lastInstance)), at: world.now)
        let isStarted = next.contains {
            if case .order(_, .instantiate(name, found.lastInstance + 1, _)) = $0 { true } else { false }
        }
        #expect(isStarted, "\(next)")
    }

    @Test("After a fail-over the failed unit is repaired and becomes standby")
    func repair() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        world.kill(c1)
        world.settle()
        #expect(
            world.trace == [
                "kill C1", "SU2/C1:1 set active W11 targetOne notQuiesced active=SU1/C1", "SU1/C1:1 cleanup",
                "SU1/C1:2 instantiate", "SU1/C1:2 set standby W11 addOne active=SU2/C1",
            ])
        #expect(world.violations.isEmpty)
    }

    @Test("Component restart keeps the assignment and escalates: component, unit, fail-over")
    func escalation() {
        var model = Models.twoN()
        model.applications[0].serviceGroups[0].componentRestartMax = 1
        model.applications[0].serviceGroups[0].suRestartMax = 1
        for unit in 0...1 {
            model.applications[0].serviceGroups[0].serviceUnits[unit].components[0].recoveryOnError = .componentRestart
        }
        var world = AmfWorld(model)
        world.settle()
        for _ in 0..<2 {
            world.trace = []
            world.kill(c1)
            world.settle()
            #expect(world.trace.contains { $0.hasPrefix("SU1/C1") && $0.contains("set active") })
            #expect(!world.trace.contains { $0.hasPrefix("SU2/C1") })
        }
        world.kill(c1)
        world.settle()
        #expect(world.describe().contains { $0.contains("W11:SU2/C1=active") })
        // The probation is over: it begins again from the lowest level.
        world.advance(.seconds(60))
        world.trace = []
        world.kill(c2)
        world.settle()
        #expect(world.describe().contains { $0.contains("W11:SU2/C1=active") })
    }

    @Test("A living faulty component is cleaned up before its standby takes over")
    func errorReport() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        let pid = world.processes.first { $0.component == SaName(c1) }!.pid
        world.give(.request(.errorReport(component: SaName(c1)!, recovery: .componentFailover), ticket: 9, pid: pid))
        world.settle()
        #expect(world.trace.first == "SU1/C1:1 cleanup")
        #expect(world.trace.contains("SU2/C1:1 set active W11 targetOne notQuiesced active=SU1/C1"))
        #expect(world.violations.isEmpty)
    }

    @Test("Two components, no unit fail-over: the other CSI is quiesced, then moved")
    func componentFailover() {
        var model = Models.twoN(components: 2)
        for unit in 0...1 { model.applications[0].serviceGroups[0].serviceUnits[unit].failover = false }
        var world = AmfWorld(model)
        world.settle()
        world.trace = []
        world.kill(c1)
        world.settle()
        let quiesced = world.trace.firstIndex { $0.hasPrefix("SU1/C2:1 set quiesced") }
        let active = world.trace.firstIndex { $0.hasPrefix("SU2/C1:1 set active") }
        #expect(quiesced != nil && active != nil && quiesced! < active!)
        #expect(
            world.describe().contains(
                "SI1 fully-assigned W11:SU1/C1=standby W11:SU2/C1=active W12:SU1/C2=standby W12:SU2/C2=active"))
        #expect(world.violations.isEmpty)
    }

    @Test("Lock of the active unit: quiesced, active on the peer, removed")
    func lockUnit() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        let ticket = world.admin(.lock, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(
            world.trace == [
                "SU1/C1:1 set quiesced W11 targetOne", "SU2/C1:1 set active W11 targetOne quiesced active=SU1/C1",
                "SU1/C1:1 remove W11", "reply OK",
            ])
        #expect(world.reply(ticket).isThere)
        world.trace = []
        _ = world.admin(.unlock, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(world.trace == ["SU1/C1:1 set standby W11 addOne active=SU2/C1", "reply OK"])
    }

    @Test("Lock of the service instance: quiesced, standby removed, former active removed")
    func lockInstance() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        _ = world.admin(.lock, "safSi=SI1,safApp=A")
        world.settle()
        #expect(
            world.trace == [
                "SU1/C1:1 set quiesced W11 targetOne", "SU2/C1:1 remove W11", "SU1/C1:1 remove W11", "reply OK",
            ])
        _ = world.admin(.unlock, "safSi=SI1,safApp=A")
        world.settle()
        #expect(world.describe().last == "SI1 fully-assigned W11:SU1/C1=active W11:SU2/C1=standby")
    }

    @Test("Shutdown of a unit: quiescing, complete, active on the peer, removed, locked")
    func shutdownUnit() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        _ = world.admin(.shutdown, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(
            world.trace == [
                "SU1/C1:1 set quiescing W11 targetOne", "reply OK",
                "SU2/C1:1 set active W11 targetOne quiesced active=SU1/C1", "SU1/C1:1 remove W11",
            ])
        #expect(world.describe()[0].hasPrefix("SU1 locked"))
    }

    @Test("Shutdown of the service instance: quiescing, complete, both removed, locked")
    func shutdownInstance() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.trace = []
        _ = world.admin(.shutdown, "safSi=SI1,safApp=A")
        world.settle()
        #expect(
            world.trace == [
                "SU1/C1:1 set quiescing W11 targetOne", "reply OK", "SU1/C1:1 remove W11", "SU2/C1:1 remove W11",
            ])
        #expect(world.cluster.status().applications[0].serviceInstances[0].adminState == .locked)
    }

    @Test("SI_SWAP exchanges active and standby; all instances of the unit move as a bundle")
    func swap() {
        var world = AmfWorld(Models.twoN(instances: 2))
        world.settle()
        world.trace = []
        _ = world.admin(.siSwap, "safSi=SI1,safApp=A")
        world.settle()
        #expect(
            world.trace == [
                "SU1/C1:1 set quiesced all targetAll", "SU2/C1:1 set active all targetAll quiesced active=SU1/C1",
                "SU1/C1:1 set standby all targetAll active=SU2/C1", "reply OK",
            ])
    }

    @Test("No redundancy: each instance on its unit, the failed one goes to the spare")
    func noRedundancy() {
        var world = AmfWorld(Models.noRedundancy(units: 3, instances: 2))
        world.settle()
        #expect(
            world.describe().suffix(2) == [
                "SI1 fully-assigned W11:SU1/C1=active", "SI2 fully-assigned W21:SU2/C1=active",
            ])
        world.kill(c1)
        world.settle()
        #expect(
            world.describe().suffix(2) == [
                "SI1 fully-assigned W11:SU3/C1=active", "SI2 fully-assigned W21:SU2/C1=active",
            ])
    }

    @Test("CSI dependencies: the sponsor first; reversed when quiescing")
    func csiDependencies() {
        var model = Models.twoN(components: 2)
        model.applications[0].serviceInstances[0].csis[0].dependencies = ["W12"]
        var world = AmfWorld(model)
        world.settle()
        let sets = world.trace.filter { $0.hasPrefix("SU1/") && $0.contains("set active") }
        #expect(sets == ["SU1/C2:1 set active W12 addOne newAssign", "SU1/C1:1 set active W11 addOne newAssign"])
        world.trace = []
        _ = world.admin(.lock, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        let quiesced = world.trace.filter {
            $0.contains("quiesced W") && $0.hasPrefix("SU1/") && $0.contains("set quiesced")
        }
        #expect(quiesced == ["SU1/C1:1 set quiesced W11 targetOne", "SU1/C2:1 set quiesced W12 targetOne"])
    }

    @Test("Instantiation levels: lower first, terminated last")
    func levels() {
        var model = Models.twoN(units: 1, components: 2)
        model.applications[0].serviceGroups[0].serviceUnits[0].components[0].instantiationLevel = 2
        model.applications[0].serviceGroups[0].serviceUnits[0].components[1].instantiationLevel = 1
        var world = AmfWorld(model)
        world.settle()
        #expect(
            world.trace.filter { $0.contains("instantiate") } == ["SU1/C2:1 instantiate", "SU1/C1:1 instantiate"])
        _ = world.admin(.lock, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        _ = world.admin(.lockInstantiation, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(world.trace.filter { $0.contains("terminate") } == ["SU1/C1:1 terminate", "SU1/C2:1 terminate"])
        #expect(world.describe()[0].hasPrefix("SU1 locked-instantiation enabled uninstantiated"))
    }

    @Test("Boot levels: applications wait for the middleware; a graceful stop goes the other way")
    func bootLevels() {
        var world = AmfWorld(MiddlewareModel.merged(into: Models.twoN()))
        world.advance(.seconds(1))
        let starts = world.trace.filter { $0.contains("instantiate") }.map { $0.split(separator: ":")[0] }
        #expect(starts == ["n1/clmd", "n1/logd", "n1/ckptd", "n1/eventd", "n1/cliserver", "SU1/C1", "SU2/C1"])
        world.trace = []
        world.propose(.stopNode(NodeID(1)))
        world.advance(.seconds(5))
        let ends = world.trace.filter { $0.contains("terminate") }.map { $0.split(separator: ":")[0] }
        #expect(ends == ["SU2/C1", "SU1/C1", "n1/cliserver", "n1/ckptd", "n1/eventd", "n1/clmd", "n1/logd"])
        #expect(world.hasStopped)
    }

    @Test("A middleware service that cannot start does not keep the applications from starting")
    func brokenMiddleware() {
        var world = AmfWorld(MiddlewareModel.merged(into: Models.twoN()))
        let logd = SaName("safComp=logd,safSu=n1,safSg=n1,safApp=safLogService")!
        world.behaviours[logd] = AmfWorld.Behaviour(canSpawn: false)
        world.advance(.seconds(5))
        #expect(world.describe().last == "SI1 fully-assigned W11:SU1/C1=active W11:SU2/C1=standby")
        world.behaviours[logd] = nil
        world.advance(.seconds(5))
        #expect(world.describe().contains { $0.hasPrefix("n1 fully-assigned logd:n1/logd=active") })
    }

    @Test("Instantiation failed: the unit is disabled, the other serves, repaired brings it back")
    func instantiationFailed() {
        var world = AmfWorld(Models.twoN())
        world.behaviours[SaName(c1)!] = AmfWorld.Behaviour(canSpawn: false)
        world.advance(.seconds(15))
        #expect(
            world.describe()[0] == "SU1 unlocked disabled instantiation-failed out-of-service C1=instantiation-failed")
        #expect(world.describe().last == "SI1 partially-assigned W11:SU2/C1=active")
        world.behaviours[SaName(c1)!] = nil
        _ = world.admin(.repaired, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(world.describe().last == "SI1 fully-assigned W11:SU1/C1=standby W11:SU2/C1=active")
    }

    @Test("A component that cannot be killed keeps its instances to itself until it is gone")
    func terminationFailed() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.behaviours[SaName(c1)!] = AmfWorld.Behaviour(answers: false, dies: false)
        let pid = world.processes.first { $0.component == SaName(c1) }!.pid
        world.give(.request(.errorReport(component: SaName(c1)!, recovery: .componentFailover), ticket: 9, pid: pid))
        world.advance(.seconds(10))
        #expect(world.describe()[0].hasPrefix("SU1 unlocked disabled termination-failed"))
        #expect(world.describe().last == "SI1 fully-assigned W11:SU1/C1=active W11:SU2/C1=standby")
        world.behaviours[SaName(c1)!] = nil
        world.kill(c1)
        world.settle()
        #expect(world.describe().last!.contains("W11:SU2/C1=active"))
        #expect(world.violations.isEmpty)
    }

    @Test("A crash loop with no other node to go to takes its own unit out of service, nothing else")
    func crashLoop() {
        var model = MiddlewareModel.merged(into: Models.twoN())
        model.nodes[0].suFailoverMax = 2
        var bystander = Models.noRedundancy(units: 1, instances: 1).applications[0]
        bystander.name = "B"
        model.applications.append(bystander)
        var world = AmfWorld(model)
        world.settle()
        world.advance(.seconds(11))
        for _ in 0..<5 {
            world.kill(c1)
            world.settle()
        }
        let spared = world.processes.filter {
            !$0.component.description.contains("safComp=C1,safSu=SU1,safSg=G,safApp=A")
        }
        #expect(spared.count == 7 && spared.allSatisfy { $0.isAlive && $0.instance == 1 }, "others were disturbed")
        #expect(world.describe().contains { $0.hasPrefix("SU1 unlocked disabled uninstantiated out-of-service") })
        #expect(world.describe().contains("SI1 partially-assigned W11:SU2/C1=active"))
        let escalations = world.notifications.filter { $0.attribute == .escalation }.map(\.text)
        #expect(escalations.count == 1 && escalations[0].hasPrefix("fail-over 3 of SU1 within 60.0 seconds"))
        let failed = world.cluster.status().applications[5].serviceGroups[0].serviceUnits[0].components[0]
        #expect(failed.lastError == escalations[0])
        // A first fail-over of somebody else within the same time is an ordinary one.
        world.kill(c2)
        world.settle()
        #expect(world.describe().contains("SI1 partially-assigned W11:SU2/C1=active"))
        _ = world.admin(.repaired, "safSu=SU1,safSg=G,safApp=A")
        world.settle()
        #expect(world.describe().contains("SI1 fully-assigned W11:SU1/C1=standby W11:SU2/C1=active"))
    }

    @Test("With another member in service a node fails over after too many unit fail-overs; its middleware runs on")
    func nodeFailover() {
        var model = Models.twoN()
        model.nodes.append(NodeModel(name: "n2", id: NodeID(2)))
        model.nodes[0].suFailoverMax = 1
        model.applications[0].serviceGroups[0].serviceUnits[1].node = "n2"
        var bystander = Models.noRedundancy(units: 1, instances: 1).applications[0]
        bystander.name = "B"
        model.applications.append(bystander)
        var cluster = ClusterEngine()
        let now = Instant(nanoseconds: 1)
        _ = cluster.handle(.model(MiddlewareModel.merged(into: model)), at: now)
        for id in 1...2 { obey(&cluster, .nodeJoined(NodeID(UInt32(id)), incarnation: 1, living: []), at: now) }
        obey(&cluster, .timer(.startup), at: now)
        func instance(_ name: String) -> InstanceNumber? {
            guard case .component(let component) = cluster.positions[SaName(name)!] else { return nil }
            return cluster.components[component].run.instance
        }
        for life in 1...2 as ClosedRange<InstanceNumber> {
            obey(
                &cluster,
                .report(
                    NodeID(1),
                    .failed(SaName(c1)!, life, recovery: .componentFailover, isDead: true, cause: .died)), at: now)
        }
        #expect(instance("safComp=C1,safSu=SU1,safSg=G,safApp=B") == 2, "the bystander fails over with the node")
        #expect(instance(c2) == 1)
        #expect(instance("safComp=clmd,safSu=n1,safSg=n1,safApp=safClmService") == 1)
        #expect(cluster.status().nodes[0].operationalState == .enabled)
    }

    /// Handles the event and does what it orders, at once.
    private func obey(_ cluster: inout ClusterEngine, _ event: ClusterEvent, at now: Instant) {
        var events = [event]
        while !events.isEmpty {
            for case .order(let id, let order) in cluster.handle(events.removeFirst(), at: now) {
                switch order {
                case .instantiate(let name, let instance, _):
                    events.append(.report(id, .instantiated(name, instance, pid: 1, startedAt: 1)))
                case .terminate(let name, let instance), .cleanup(let name, let instance):
                    events.append(.report(id, .uninstantiated(name, instance)))
                case .csiSet(let set):
                    events.append(.report(id, .answered(set.component, set.instance, set.invocation)))
                case .csiRemove(let remove):
                    events.append(.report(id, .answered(remove.component, remove.instance, remove.invocation)))
                case .confirm: break
                }
            }
        }
    }

    @Test("Switch-over of a node for a faulty component moves and restarts everything on it")
    func nodeSwitchover() {
        var model = Models.twoN(components: 2)
        model.applications[0].serviceGroups[0].serviceUnits[0].components[0].recoveryOnError = .nodeSwitchover
        var world = AmfWorld(model)
        world.settle()
        world.kill(c1)
        world.settle()
        #expect(world.describe().last!.hasPrefix("SI1 fully-assigned"))
        #expect(world.processes.count == 8)
    }

    @Test("Taking the middleware away is objected to; a locked node keeps its middleware")
    func middlewareIsNotLocked() {
        var world = AmfWorld(MiddlewareModel.merged(into: Models.twoN()))
        world.settle()
        let logd = SaName("safSu=n1,safSg=n1,safApp=safLogService")!
        for operation in [AdminOperation.lock, .lockInstantiation, .shutdown] {
            for name in [logd, SaName("safApp=safLogService")!, SaName("safSi=n1,safApp=safLogService")!] {
                #expect(world.cluster.objection(to: operation, on: name)?.contains("middleware") == true)
            }
            #expect(world.cluster.objection(to: operation, on: SaName("safSu=SU1,safSg=G,safApp=A")!) == nil)
        }
        #expect(world.cluster.objection(to: .restart, on: logd) == nil)
        let node = DN.node("n1", cluster: world.model.cluster)
        _ = world.admin(.lock, "\(node)")
        world.settle()
        _ = world.admin(.lockInstantiation, "\(node)")
        world.settle()
        #expect(world.processes.filter(\.isAlive).count == 5, "the middleware, and nothing else")
    }

    @Test("An error carries how the process ended, and when")
    func errorTime() throws {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.kill(c1)
        world.settle()
        world.advance(.seconds(3))
        let status = world.cluster.status(at: world.now, wall: 1_000_000_000_000)
        let component = status.applications[0].serviceGroups[0].serviceUnits[0].components[0]
        #expect(component.lastError == "signal 9 after 0 s")
        #expect(component.lastErrorAt == 997_000_000_000)
    }

    @Test("A model that changes a running application is refused; one that adds is applied")
    func laterModels() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        var changed = world.model
        changed.applications[0].serviceGroups[0].componentRestartMax = 77
        world.propose(.model(changed))
        world.settle()
        #expect(world.refused.count == 1)
        #expect(world.refused[0].contains("application A"))
        var added = world.model
        added.applications.append(Models.noRedundancy(units: 1, instances: 1).applications[0])
        added.applications[1].name = "B"
        world.propose(.model(added))
        world.settle()
        world.advance(.seconds(11))
        #expect(world.describe().contains("SI1 fully-assigned W11:SU1/C1=active W11:SU2/C1=standby"))
        #expect(world.describe().last == "SI1 fully-assigned W11:SU1/C1=active")
    }

    @Test("A dependent instance is assigned once its sponsor is")
    func instanceDependencies() {
        var model = Models.twoN()
        var other = Models.noRedundancy(units: 1, instances: 1).applications[0]
        other.name = "B"
        model.applications.append(other)
        model.applications[0].serviceInstances[0].dependencies = [SIDependencyModel(sponsor: "safSi=SI1,safApp=B")]
        var world = AmfWorld(model)
        world.settle()
        let sets = world.cluster.status().applications.flatMap(\.serviceInstances).map(\.assignmentState)
        #expect(sets == [.fullyAssigned, .fullyAssigned])
        let sponsor = SaName("safCsi=W11,safSi=SI1,safApp=B")!
        let order = world.notifications.filter { $0.attribute == .ha && $0.new == HAState.active.rawValue }.map(\.dn)
        #expect(order.first == sponsor)
    }

    @Test("Many groups: an event about one leaves the others alone")
    func manyGroups() {
        var model = Models.twoN()
        for number in 1...20 {
            var copy = Models.twoN().applications[0]
            copy.name = "A\(number)"
            model.applications.append(copy)
        }
        var world = AmfWorld(model)
        world.settle()
        world.trace = []
        world.kill("safComp=C1,safSu=SU1,safSg=G,safApp=A7")
        world.settle()
        #expect(world.trace.count == 5)
        let states = world.cluster.status().applications.flatMap(\.serviceInstances).map(\.assignmentState)
        #expect(states.allSatisfy { $0 == .fullyAssigned })
    }

    @Test("A living component that fails while its activation is unanswered is waited for: it may be active")
    func doubtfulActivation() {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.behaviours[SaName(c2)!] = AmfWorld.Behaviour(answers: false)
        world.kill(c1)
        world.settle()
        world.trace = []
        let effects = world.cluster.handle(
            .report(
                NodeID(1),
                .failed(SaName(c2)!, 1, recovery: .noRecommendation, isDead: false, cause: .errorReport)),
            at: world.now)
        let orders = effects.compactMap { effect -> String? in
            if case .order(_, let order) = effect { return world.text(order) }
            return nil
        }
        #expect(orders == ["SU2/C1:1 cleanup"])
        let gone = world.cluster.handle(.report(NodeID(1), .uninstantiated(SaName(c2)!, 1)), at: world.now)
        guard case .order(_, .csiSet(let order)) = gone.first else {
            Issue.record("\(gone)")
            return
        }
        #expect(order.component == SaName(c1))
    }

    @Test("The same for a first assignment, which nobody ever acknowledged")
    func doubtfulFirstActivation() {
        var world = AmfWorld(Models.twoN())
        world.behaviours[SaName(c1)!] = AmfWorld.Behaviour(answers: false)
        world.settle()
        let effects = world.cluster.handle(
            .report(
                NodeID(1),
                .failed(SaName(c1)!, 1, recovery: .componentFailover, isDead: false, cause: .errorReport)),
            at: world.now)
        #expect(effects.count { if case .order(_, .csiSet) = $0 { true } else { false } } == 0)
    }
}
