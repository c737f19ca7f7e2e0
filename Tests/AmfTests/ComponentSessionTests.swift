import AmfProtocol
import SAFTypes
import Testing

@testable import AmfClient

@Suite("Component session")
struct ComponentSessionTests {
    private let component = SaName("safComp=C,safSu=S,safSg=G,safApp=A")!
    private let first = SaName("safCsi=1,safSi=I,safApp=A")!
    private let second = SaName("safCsi=2,safSi=I,safApp=A")!

    private func set(_ id: UInt64, _ state: HAState, _ flags: CSIFlags, _ csi: SaName?) -> AmfPush {
        var descriptor = CSIDescriptor(flags, csi: csi)
        if flags == .addOne { descriptor.attributes = [CSIAttribute("file", "text")] }
        return .csiSet(InvocationID(id), component: component, state, descriptor)
    }

    private func holding(_ state: HAState) -> ComponentSession {
        var session = ComponentSession(component: component, pid: 1)
        for (id, csi) in [(1, first), (2, second)] as [(UInt64, SaName)] {
            _ = session.receive(set(id, state, .addOne, csi))
            _ = session.answer(InvocationID(id), nil)
        }
        return session
    }

    @Test("An assignment is held from its answer on, and only when the answer is OK")
    func held() {
        var session = ComponentSession(component: component, pid: 1)
        guard case .work(let id, let actions) = session.receive(set(1, .active, .addOne, first)) else {
            Issue.record("no work")
            return
        }
        #expect(actions.count == 1)
        #expect(session.held.isEmpty)
        #expect(session.answer(id, nil) == InvocationAnswer(id))
        #expect(session.held == [first: .active])
        _ = session.receive(set(2, .active, .addOne, second))
        #expect(session.answer(InvocationID(2), .failedOperation)?.error == .failedOperation)
        #expect(session.held == [first: .active])
        #expect(session.registration.held == [HeldAssignment(csi: first, .active)])
    }

    @Test("After amfd's death an answered question is answered again, an open one is not delivered twice")
    func repeated() {
        var session = ComponentSession(component: component, pid: 1)
        let push = set(1, .active, .addOne, first)
        _ = session.receive(push)
        #expect(session.receive(push) == .ignore)
        _ = session.answer(InvocationID(1), nil)
        #expect(session.receive(push) == .answerAgain(InvocationAnswer(InvocationID(1))))
        #expect(session.answer(InvocationID(1), .failedOperation) == nil)
    }

    @Test("An answer that could not be sent goes with the next registration, once")
    func unsent() {
        var session = holding(.standby)
        let answer = InvocationAnswer(InvocationID(2))
        session.notSent(answer)
        session.notSent(answer)
        #expect(session.registration.answers == [answer])
        session.registered(sending: [answer])
        #expect(session.registration.answers.isEmpty)
    }

    @Test("A change of all CSIs is delivered one by one, with their attributes, and answered once")
    func targetAll() {
        var session = holding(.standby)
        guard case .work(let id, let actions) = session.receive(set(3, .active, .targetAll, nil)) else {
            Issue.record("no work")
            return
        }
        #expect(actions.count == 2)
        for action in actions {
            guard case .set(.active, let csi) = action else {
                Issue.record("\(action)")
                return
            }
            #expect(csi["file"] == "text")
        }
        #expect(session.answer(id, part: 0, nil) == nil)
        #expect(session.answer(id, part: 0, nil) == nil)
        #expect(session.answer(id, part: 1, nil) == InvocationAnswer(id))
        #expect(session.held == [first: .active, second: .active])
    }

    @Test("One refused part refuses the whole")
    func partlyRefused() {
        var session = holding(.standby)
        _ = session.receive(set(3, .active, .targetAll, nil))
        _ = session.answer(InvocationID(3), part: 0, .failedOperation)
        #expect(session.answer(InvocationID(3), part: 1, nil)?.error == .failedOperation)
        #expect(session.held == [first: .standby, second: .standby])
    }

    @Test("Remove all of nothing is answered at once")
    func removeNothing() {
        var session = ComponentSession(component: component, pid: 1)
        let push = AmfPush.csiRemove(InvocationID(1), component: component, csi: nil)
        #expect(session.receive(push) == .answerAgain(InvocationAnswer(InvocationID(1))))
    }

    @Test("Quiescing is completed with the invocation that asked for it, once")
    func quiescing() {
        var session = holding(.active)
        _ = session.receive(set(7, .quiescing, .targetAll, nil))
        _ = session.answer(InvocationID(7), part: 0, nil)
        _ = session.answer(InvocationID(7), part: 1, nil)
        #expect(session.quiescingComplete(nil) == [InvocationID(7)])
        #expect(session.quiescingComplete(nil) == [])
        #expect(session.held == [first: .quiesced, second: .quiesced])
    }
}
