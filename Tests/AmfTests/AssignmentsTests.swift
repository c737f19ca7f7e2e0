import AmfProtocol
import SAFTypes
import Testing

@testable import AmfClient

@Suite("Assignments of a component")
struct AssignmentsTests {
    private let mailbox = AssignmentMailbox()
    private var assignments: Assignments { Assignments(mailbox: mailbox) }

    private func put(_ count: Int) {
        for _ in 0..<count { mailbox.put(Assignment(.terminate) { _ in }) }
    }

    @Test("What came before anybody read is read in its order, and then the sequence ends")
    func order() async {
        var answered: [Int] = []
        let (stream, said) = AsyncStream.makeStream(of: Int.self)
        for number in 0..<5 { mailbox.put(Assignment(.terminate) { _ in said.yield(number) }) }
        mailbox.finish()
        for await assignment in assignments { assignment.complete() }
        said.finish()
        for await number in stream { answered.append(number) }
        #expect(answered == [0, 1, 2, 3, 4])
    }

    @Test("Readers that wait get one each, and all end with it")
    func readers() async {
        let total = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var count = 0
                    for await _ in assignments { count += 1 }
                    return count
                }
            }
            put(1_000)
            mailbox.finish()
            return await group.reduce(0, +)
        }
        #expect(total == 1_000)
    }

    @Test("A cancelled reader ends, before it waits or while it does; nothing is lost to it", arguments: 0..<50)
    func cancelled(round: Int) async {
        let reader = Task {
            var count = 0
            for await _ in assignments { count += 1 }
            return count
        }
        if round.isMultiple(of: 2) { await Task.yield() }
        put(round % 3)
        reader.cancel()
        let read = await reader.value
        mailbox.finish()
        var rest = 0
        for await _ in assignments { rest += 1 }
        #expect(read + rest == round % 3)
    }

    @Test("What is put after the end goes nowhere")
    func late() async {
        mailbox.finish()
        put(1)
        var iterator = assignments.makeAsyncIterator()
        #expect(await iterator.next() == nil)
    }
}
