import EngineKit
import OSAL
import SafLab
import Testing

extension ClusterLabTests {
    /// clmd on three nodes, and on each a client that tracks the membership and subscribes to service type 100.
    @Suite("clmd over Corosync", .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct ClmTests {
        /// What runs in the nodes.
        private struct Stage {
            let lab: ClusterLab
            var daemons: [Int: LabProcess] = [:]
            var clients: LabMembers

            init(_ lab: ClusterLab) {
                self.lab = lab
                clients = LabMembers(lab, "", "")
            }

            mutating func start(_ node: Int) throws {
                daemons[node] = try LabProcess(lab, ["clmd"], on: node)
                clients.processes[node] = try LabProcess(lab, ["clmmember"], on: node)
                try clients.tell(node, "subscribe 100")
                try clients.tell(node, "track")
            }

            /// "view NUMBER [1,2,3] member" as the client of a node heard it last.
            func lastView(_ node: Int) -> (number: Int, members: String, isMember: Bool)? {
                guard let words = clients.lines(node).last(where: { $0.hasPrefix("view ") })?.split(separator: " "),
                    words.count == 4
                else { return nil }
                return (Int(words[1]) ?? 0, String(words[2]), words[3] == "member")
            }

            /// Waits until these nodes are the members, and say so in the same view; its number.
            @discardableResult
            func awaitMembers(_ nodes: [Int], at asked: [Int]? = nil) throws -> Int {
                let text = "[\(nodes.map(String.init).joined(separator: ","))]"
                return try clients.wait("members \(text)") {
                    let views = (asked ?? nodes).map { lastView($0) }
                    guard let first = views.first ?? nil else { return nil }
                    let isSame = views.allSatisfy { view in
                        view?.members == text && view?.number == first.number && view?.isMember == true
                    }
                    return isSame ? first.number : nil
                }
            }

            func await(_ line: String, at nodes: Int...) throws {
                for node in nodes {
                    _ = try clients.wait("\"\(line)\" at node \(node)") { clients.lines(node).last { $0 == line } }
                }
            }

            func count(_ line: String, at node: Int) -> Int { clients.lines(node).count { $0 == line } }
        }

        @Test("Members and names on every node; a killed clmd is not noticed, a killed node at once; partition, locks")
        func life() throws {
            var options = LabOptions()
            options.name = "clm"
            let lab = try ClusterLab.up(options)
            try lab.awaitFormed()
            var stage = Stage(lab)
            for node in 1...3 { try stage.start(node) }
            try stage.awaitMembers([1, 2, 3])
            try names(stage)
            try restart(&stage)
            try death(&stage)
            try partition(stage)
            try locks(stage)
            try farewell(&stage)
            stage.clients.processes.removeAll()
            stage.daemons.removeAll()
            try lab.down()
        }

        private func names(_ stage: Stage) throws {
            let clients = stage.clients
            #expect(try clients.ask(2, "bind 100 2", answer: "bind") == "bind 100:2")
            let start = MonotonicClock.now()
            try stage.await("published 100:2 of 2", at: 1, 2, 3)
            #expect(MonotonicClock.now() - start < .seconds(5), "milliseconds, on an idle machine")
            #expect(try clients.ask(3, "bind 100 2", answer: "bind") == "bind 100:2")
            try stage.await("published 100:2 of 3", at: 1, 2, 3)
            #expect(try clients.ask(3, "lookup 100 2", answer: "lookup") == "lookup 3,2", "the own node first")
            #expect(try clients.ask(1, "lookup 100 2", answer: "lookup") == "lookup 2,3")
            #expect(try clients.ask(1, "bind 100 1 node", answer: "bind") == "bind 100:1")
            try stage.await("published 100:1 of 1", at: 1)
            #expect(try clients.ask(1, "lookup 100 1", answer: "lookup") == "lookup 1")
            #expect(try clients.ask(2, "lookup 100 1", answer: "lookup").contains("NOT_EXIST"))
        }

        private func restart(_ stage: inout Stage) throws {
            let view = try stage.awaitMembers([1, 2, 3])
            stage.daemons[2] = nil
            stage.daemons[2] = try LabProcess(stage.lab, ["clmd"], on: 2)
            #expect(try stage.clients.ask(2, "bind 100 22", answer: "bind") == "bind 100:22")
            try stage.await("published 100:22 of 2", at: 1, 2, 3)
            #expect(try stage.awaitMembers([1, 2, 3]) == view)
            for node in 1...3 { #expect(stage.count("withdrawn 100:2 of 2", at: node) == 0) }
        }

        private func death(_ stage: inout Stage) throws {
            let view = try stage.awaitMembers([1, 2, 3])
            (stage.daemons[3], stage.clients.processes[3]) = (nil, nil)
            try stage.lab.kill(3)
            let start = MonotonicClock.now()
            #expect(try stage.awaitMembers([1, 2]) == view + 1)
            #expect(MonotonicClock.now() - start < .seconds(4), "corosync's detection time, not clmd's patience")
            try stage.await("withdrawn 100:2 of 3", at: 1, 2)
            try stage.lab.boot([3])
            try stage.start(3)
            #expect(try stage.awaitMembers([1, 2, 3]) == view + 2)
        }

        private func partition(_ stage: Stage) throws {
            let clients = stage.clients
            #expect(try clients.ask(3, "bind 100 33", answer: "bind") == "bind 100:33")
            try stage.await("published 100:33 of 3", at: 1, 2, 3)
            try stage.lab.isolate(3)
            let view = try stage.awaitMembers([1, 2])
            try stage.await("withdrawn 100:33 of 3", at: 1, 2)
            _ = try clients.wait("node 3 knows that it is out") { stage.lastView(3)?.isMember == false ? true : nil }
            #expect(try clients.ask(3, "lookup 100 2", answer: "lookup") == "lookup 2", "what is known stays")
            #expect(try clients.ask(3, "bind 100 34", answer: "bind").contains("TRY_AGAIN"))
            #expect(try clients.ask(1, "bind 100 11", answer: "bind") == "bind 100:11")
            try stage.lab.heal()
            #expect(try stage.awaitMembers([1, 2, 3]) == view + 1)
            try stage.await("published 100:11 of 1", at: 3)
            try stage.await("published 100:34 of 3", at: 1, 2, 3)
            _ = try clients.wait("100:33 is back") { stage.count("published 100:33 of 3", at: 1) == 2 ? true : nil }
            #expect(stage.count("withdrawn 100:2 of 2", at: 3) == 0)
        }

        private func locks(_ stage: Stage) throws {
            let clients = stage.clients
            _ = try clients.ask(2, "steps reject", answer: "steps")
            #expect(try clients.ask(1, "shutdown 3", answer: "shutdown").contains("FAILED_OPERATION"))
            try stage.await("step validate of node 3", at: 2)
            try stage.await("step aborted of node 3", at: 2)
            #expect(try clients.ask(1, "lock 3", answer: "lock") == "lock done")
            try stage.await("step start of node 3", at: 2)
            try stage.awaitMembers([1, 2])
            _ = try clients.wait("node 3 is out") { stage.lastView(3)?.isMember == false ? true : nil }
            #expect(try clients.ask(2, "lock 3", answer: "lock").contains("NO_OP"))
            #expect(try clients.ask(3, "unlock 3", answer: "unlock") == "unlock done")
            try stage.awaitMembers([1, 2, 3])
        }

        /// SIGTERM takes leave: nobody has to find out.
        private func farewell(_ stage: inout Stage) throws {
            let daemon = try #require(stage.daemons[1])
            try Process.kill(daemon.pid, .terminate)
            let start = MonotonicClock.now()
            try stage.awaitMembers([2, 3])
            #expect(MonotonicClock.now() - start < .seconds(3), "sooner than a clmd that may come back")
        }
    }
}
