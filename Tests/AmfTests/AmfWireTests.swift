import AmfProtocol
import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

@Suite("AMF bytes")
struct AmfWireTests {
    private let name = SaName("safComp=C")!
    private let csi = SaName("safCsi=W")!

    private func decode(_ request: AmfRequest, _ bytes: [UInt8]) -> AmfRequest? {
        bytes.withUnsafeBytes { try? AmfRequest(code: request.code.rawValue, body: $0) }
    }

    private var requests: [AmfRequest] {
        [
            .register(
                Registration(
                    component: name, pid: 7, held: [HeldAssignment(csi: csi, .standby)],
                    answers: [InvocationAnswer(InvocationID(3), .failedOperation)])),
            .response(InvocationAnswer(InvocationID(1))),
            .healthcheckStart(component: name, key: "k", .componentInvoked, recovery: .nodeFailover),
            .healthcheckConfirm(component: name, key: "k", nil), .healthcheckStop(component: name, key: "k"),
            .errorReport(component: name, recovery: .componentRestart), .errorClear(component: name),
            .quiescingComplete(InvocationAnswer(InvocationID(2), .failedOperation)),
            .haStateGet(component: name, csi: csi), .unregister(component: name), .admin(.siSwap, name, isForced: true),
            .status,
            .loadModel(MiddlewareModel.merged(into: Models.twoN(components: 2))), .stopNode,
        ]
    }

    private var pushes: [AmfPush] {
        var descriptor = CSIDescriptor(.addOne, csi: csi)
        descriptor.attributes = [CSIAttribute("a", "b")]
        descriptor.activeComponent = name
        descriptor.transition = .quiesced
        return [
            .csiSet(InvocationID(5), component: name, .active, descriptor),
            .csiRemove(InvocationID(6), component: name, csi: nil), .terminate(InvocationID(7), component: name),
            .healthcheck(InvocationID(8), component: name, key: "k"),
        ]
    }

    @Test("The bytes of a response and of a CSISet, field by field")
    func golden() {
        #expect(
            AmfRequest.response(InvocationAnswer(InvocationID(0x0102), .failedOperation)).body == [
                1, 0,  // version
                2, 1, 0, 0, 0, 0, 0, 0,  // invocation
                21, 0, 0, 0,  // error
            ])
        #expect(
            AmfPush.csiSet(InvocationID(5), component: SaName("c")!, .standby, CSIDescriptor(.targetAll, csi: nil)).body
                == [
                    1, 0,  // version
                    5, 0, 0, 0, 0, 0, 0, 0,  // invocation
                    1, 0, 0, 0, 0x63,  // component
                    2,  // HA state
                    4,  // flags
                    0,  // no CSI
                    0, 0, 0, 0,  // no attributes
                    1,  // transition
                    0,  // no active component
                    0, 0, 0, 0,  // standby rank
                ])
    }

    @Test("Requests and pushes come back as they went; none is valid when cut")
    func roundTripAndTruncation() {
        #expect(Set(requests.map(\.code)) == Set(AmfRequest.Code.allCases))
        for request in requests {
            let bytes = request.body
            #expect(decode(request, bytes) == request)
            for length in 0..<min(bytes.count, 400) {
                #expect(decode(request, Array(bytes[..<length])) == nil, "\(request.code) cut at \(length)")
            }
            #expect(decode(request, bytes + [0]) == nil)
        }
        for push in pushes {
            let bytes = push.body
            let read = { (part: [UInt8]) in part.withUnsafeBytes { try? AmfPush(code: push.code.rawValue, body: $0) } }
            #expect(read(bytes) == push)
            for length in 0..<bytes.count { #expect(read(Array(bytes[..<length])) == nil) }
        }
        #expect([UInt8]().withUnsafeBytes { try? AmfRequest(code: 99, body: $0) } == nil)
        #expect([UInt8](repeating: 9, count: 40).withUnsafeBytes { try? AmfPush(code: 101, body: $0) } == nil)
    }

    private var commands: [ClusterEvent] {
        let reports: [NodeReport] = [
            .instantiated(name, 1, pid: 2, startedAt: 3),
            .adopted(name, 1, pid: 2, startedAt: 3, held: [HeldAssignment(csi: csi, .active)]),
            .instantiationDelayed(name, 1, reason: "r"), .instantiationFailed(name, 1, reason: "r"),
            .uninstantiated(name, 1), .terminationFailed(name, 1, reason: "r"),
            .failed(name, 1, recovery: .componentRestart, isDead: true, cause: .died),
            .answered(name, 1, InvocationID(9)), .quiescingComplete(name, 1), .errorCleared(name),
        ]
        return reports.map { .report(NodeID(1), $0) } + [
            .model(Models.twoN()), .nodeLeft(NodeID(2), incarnation: 3), .stopNode(NodeID(1)), .timer(.startup),
            .timer(.admin(4)),
            .nodeJoined(
                NodeID(1), incarnation: 5,
                living: [LivingComponent(component: name, instance: 1, pid: 2, startedAt: 3)]),
            .admin(AdminTicket(node: NodeID(1), number: 8), .lock, name),
        ]
    }

    @Test("Commands come back as they went; none is valid when cut")
    func commandsRoundTrip() {
        for command in commands {
            let bytes = command.encoded
            #expect((try? ClusterEvent(decoding: bytes)) == command)
            for length in 0..<bytes.count {
                #expect((try? ClusterEvent(decoding: Array(bytes[..<length]))) == nil, "cut at \(length)")
            }
        }
    }

    @Test("Status, notification and model come back as they went; other versions are refused")
    func documents() {
        var world = AmfWorld(MiddlewareModel.merged(into: Models.twoN(components: 2)))
        world.advance(.seconds(1))
        let status = world.cluster.status()
        #expect((try? StatusReport(decoding: status.encoded)) == status)
        let notification = world.notifications[0]
        #expect((try? AmfNotification(decoding: notification.encoded)) == notification)
        #expect((try? AmfModel(decoding: world.model.encoded)) == world.model)
        for bytes in [status.encoded, notification.encoded, world.model.encoded] {
            var other = bytes
            other[0] = 9
            #expect((try? StatusReport(decoding: other)) == nil)
            #expect((try? AmfNotification(decoding: other)) == nil)
            #expect((try? AmfModel(decoding: other)) == nil)
        }
    }

    @Test("Random bytes and random changes are refused or decoded, never fatal", arguments: 0..<20 as Range<UInt64>)
    func noise(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var world = AmfWorld(Models.twoN(components: 2))
        world.settle()
        let samples =
            requests.map(\.body) + pushes.map(\.body) + commands.map(\.encoded) + [
                world.journal, world.cluster.status().encoded,
            ]
        for _ in 0..<300 {
            var bytes = samples.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if random.chance(percent: 20) {
                bytes = (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
            }
            let code = UInt16.random(in: 0...20, using: &random)
            bytes.withUnsafeBytes { raw in
                _ = try? AmfRequest(code: code, body: raw)
                _ = try? AmfPush(code: 100 + code % 6, body: raw)
                var reader = ByteReader(raw)
                if var engine = try? ClusterEngine(snapshot: &reader, version: 1) {
                    _ = engine.status()
                    _ = engine.handle(.stopNode(NodeID(1)), at: .start)
                }
            }
            _ = try? ClusterEvent(decoding: bytes)
            _ = try? StatusReport(decoding: bytes)
            _ = try? AmfNotification(decoding: bytes)
        }
    }

    @Test("Distinguished names")
    func names() {
        let unit = DN.serviceUnit("SU,1", in: DN.serviceGroup("G", in: DN.application("A")))
        #expect(unit.description == "safSu=SU\\,1,safSg=G,safApp=A")
        #expect(DN.shortName(unit) == "SU,1")
        #expect(DN.type(unit) == "safSu")
        #expect(DN.parent(unit)?.description == "safSg=G,safApp=A")
        #expect(DN.parent(DN.application("A")) == nil)
    }
}
