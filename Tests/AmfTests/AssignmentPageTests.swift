import OSAL
import SAFTypes
import Testing

@testable import AmfClient
@testable import AmfEngine
@testable import AmfShell

@Suite("The page of assignments")
struct AssignmentPageTests {
    private let component = SaName("safComp=C,safSu=S,safSg=G,safApp=A")!
    private let first = SaName("safCsi=1,safSi=S,safApp=A")!
    private let second = SaName("safCsi=2,safSi=S,safApp=A")!

    private func withPage(_ body: (String) throws -> Void) throws {
        let root = try File.makeTemporaryDirectory("/dev/shm/amf-assignments-")
        defer { try? File.removeTree(root) }
        try body(root + "/assignments")
    }

    private func held(_ path: String) throws -> [[UInt64]] {
        let table = try #require(AssignmentPage.open(path)?.read()).table
        return table.holders.map { [UInt64($0.pid), $0.startTime, $0.held.assignment, $0.held.epoch] }.sorted {
            $0.lexicographicallyPrecedes($1)
        }
    }

    private func entry(_ process: ProcessIdentity, _ csi: SaName, _ epoch: UInt64) -> [UInt64] {
        [UInt64(process.pid), process.startTime, AssignmentEpoch.key(of: csi), epoch]
    }

    @Test("Who is active for what stands there until it lets go, or its successor has died, too")
    func holders() throws {
        try withPage { path in
            let keeper = AssignmentKeeper(try .openOrMake(path), incarnation: 1, isNew: true)
            let one = ProcessIdentity(pid: 10, startTime: 100)
            let two = ProcessIdentity(pid: 11, startTime: 200)
            let three = ProcessIdentity(pid: 12, startTime: 300)
            keeper.set(component, one, [Activity(csi: first, epoch: 5), Activity(csi: second, epoch: 6)])
            #expect(try held(path) == [entry(one, first, 5), entry(one, second, 6)].sorted(by: { $0[2] < $1[2] }))
            keeper.set(component, one, [Activity(csi: second, epoch: 6)])
            #expect(try held(path) == [entry(one, second, 6)])
            keeper.set(component, two, [Activity(csi: first, epoch: 9)])
            #expect(try held(path) == [entry(one, second, 6), entry(two, first, 9)], "what it wrote may be on its way")
            keeper.set(component, three, [])
            #expect(try held(path) == [entry(two, first, 9)])
        }
    }

    @Test("The next amfd goes on with those that live, whose callbacks it does not know")
    func adoption() throws {
        try withPage { path in
            let dead = ProcessIdentity(pid: 10, startTime: 100)
            let alive = ProcessIdentity(pid: 11, startTime: 200)
            let keeper = AssignmentKeeper(try .openOrMake(path), incarnation: 1, isNew: true)
            keeper.set(component, dead, [Activity(csi: first, epoch: 5)])
            keeper.set(component, alive, [Activity(csi: first, epoch: 7)])
            keeper.setFloors([Activity(csi: first, epoch: 7)])
            let next = AssignmentKeeper(try .openOrMake(path), incarnation: 2, isNew: false)
            next.adopted([(component, alive)])
            next.set(component, alive, [Activity(csi: first, epoch: 0)])
            #expect(try held(path) == [entry(alive, first, 7)])
            next.setFloors([Activity(csi: first, epoch: 7), Activity(csi: second, epoch: 9)])
            let table = try #require(AssignmentPage.open(path)?.read()).table
            #expect(table.incarnation == 2)
            #expect(table.floors == [.init(first, epoch: 7), .init(second, epoch: 9)])
            // One that begins from nothing knows of nobody.
            _ = AssignmentKeeper(try .openOrMake(path), incarnation: 3, isNew: true)
            #expect(try #require(AssignmentPage.open(path)?.read()).table == AssignmentTable(incarnation: 2))
        }
    }

    @Test("A page that is being changed is not read; one of another version is none")
    func serial() throws {
        try withPage { path in
            let page = try AssignmentPage.openOrMake(path)
            let reader = try #require(AssignmentPage.open(path))
            let before = reader.serial
            page.change { _ in #expect(reader.read() == nil) }
            #expect(reader.serial != before && reader.read() != nil)
            try File.writeAtomically(path, [1, 2, 3], durable: false, mode: 0o600)
            #expect(AssignmentPage.open(path) == nil)
            #expect(try AssignmentPage.openOrMake(path).read()?.table == AssignmentTable())
        }
    }
}
