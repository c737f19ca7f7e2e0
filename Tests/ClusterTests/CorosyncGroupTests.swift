import EngineKit
import OSAL
import SafLab
import Testing

extension ClusterLabTests {
    /// Within the lab's suite, so that two labs do not compete for the machine.
    @Suite("Groups over Corosync", .serialized, .enabled(if: Machinery.obstacle == nil, Machinery.reason))
    struct GroupTests {
        private func makeLab(_ name: String) throws -> ClusterLab {
            var options = LabOptions()
            options.name = name
            let lab = try ClusterLab.up(options)
            try lab.awaitFormed()
            return lab
        }

        @Test("One order and one view for all, through partition, kill -9 and a stopped corosync that blocks nobody")
        func ordered() throws {
            let lab = try makeLab("groups")
            var members = LabMembers(lab, "raw", "order")
            for node in 1...3 {
                try members.start(node)
                try members.tell(node, "join")
            }
            try order(members)
            try partition(members)
            try death(&members)
            try standstill(members)
            members.processes.removeAll()
            try lab.down()
        }

        private func order(_ members: LabMembers) throws {
            let view = try members.awaitView([1, 2, 3])
            for node in 1...3 {
                try members.tell(node, "send small\(node) 60")
                try members.tell(node, "send large\(node) 4 100000")
            }
            let stories = try members.wait("192 messages at every member") {
                let stories = (1...3).map { members.story($0, from: view) }
                return stories.allSatisfy { $0.count >= 193 } ? stories : nil
            }
            #expect(stories[0] == stories[1] && stories[1] == stories[2], "views, messages and order are the same")
            #expect(Set(stories[0]).count == 193)
            #expect(stories[0].filter { $0.hasSuffix(" 100000") }.count == 12)
        }

        private func partition(_ members: LabMembers) throws {
            try members.lab.isolate(3)
            let majority = try members.awaitView([1, 2])
            #expect(try members.awaitView([3], isQuorate: false).id != majority.id)
            try members.tell(1, "send apart 1")
            _ = try members.wait("a message in the majority") {
                members.story(2, from: majority).first { $0.contains("apart.") }
            }
            try members.lab.heal()
            let whole = try members.awaitView([1, 2, 3])
            try members.tell(3, "send again 1")
            _ = try members.wait("a message of the healed member at all") {
                (1...3).allSatisfy { members.story($0, from: whole).count >= 2 } ? true : nil
            }
            #expect(!members.lines(3).contains { $0.contains("apart.") }, "the minority missed it")
        }

        private func death(_ members: inout LabMembers) throws {
            members.kill(2)
            try members.awaitView([1, 3])
            try members.start(2)
            try members.tell(2, "join")
            try members.awaitView([1, 2, 3])
        }

        private func standstill(_ members: LabMembers) throws {
            var flood = LabMembers(members.lab, "raw", "flood")
            try flood.start(3)
            try flood.tell(3, "join")
            try flood.awaitView([3])
            try members.lab.signal(.stop, "corosync", on: 3)
            try flood.tell(3, "send tiny 3000")
            try flood.tell(3, "send bulk 70 2000000")
            try members.awaitView([1, 2])
            let answer = try flood.ask(3, "busy", answer: "busy").split(separator: " ").map(String.init)
            let (busy, waiting, longest) = (Int(answer[1]) ?? 0, Int(answer[3]) ?? 0, Int(answer[5]) ?? .max)
            #expect(busy > 0 && waiting > 0, "the group pushed back: \(answer)")
            #expect(longest < 100_000, "µs of the longest turn of the loop")
            flood.kill(3)
            try members.lab.signal(.continue, "corosync", on: 3)
            try members.awaitView([1, 2, 3])
        }

        @Test("Replica hosts: a joiner gets the state, a minority changes nothing, a new corosync is joined again")
        func hosts() throws {
            let lab = try makeLab("hosts")
            var hosts = LabMembers(lab, "host", "sum")
            for node in 1...2 { try hosts.start(node) }
            try awaitStatus("synchronised", hosts, [1, 2])
            for number in 1...20 { try hosts.tell(1, "add \(number)") }
            try hosts.start(3)
            try awaitSums("state 210 20 synchronised", hosts)
            #expect(hosts.lines(3).contains { $0.hasPrefix("replaced ") }, "the joiner got a snapshot")
            try minority(hosts)
            try newCorosync(hosts)
            hosts.processes.removeAll()
            try lab.down()
        }

        @Test("Nodes are upgraded one after the other while commands flow, and one may go back")
        func upgrade() throws {
            let lab = try makeLab("upgrade")
            var hosts = LabMembers(lab, "old", "sum")
            for node in 1...3 { try hosts.start(node) }
            try awaitStatus("synchronised", hosts, [1, 2, 3])
            var (sum, count) = (0, 0)
            func add(_ hosts: LabMembers, version: Int, _ comment: String) throws {
                for node in 1...3 {
                    sum += node
                    // Refused while the view with the new life is being formed: then nothing happened.
                    _ = try hosts.wait("add \(node) at node \(node), \(comment)") {
                        try hosts.ask(node, "add \(node)", answer: "answer").hasSuffix(" done") ? true : nil
                    }
                    let written = try hosts.ask(node, "version", answer: "version")
                    #expect(written == "version \(version)", "node \(node), \(comment)")
                }
                count += 3
                try awaitSums("state \(sum) \(count) synchronised", hosts)
            }
            try add(hosts, version: 1, "all old")
            for node in [2, 3, 1] {
                hosts.kill(node)
                hosts.kind = "host"
                try hosts.start(node)
                try awaitStatus("synchronised", hosts, [1, 2, 3])
                try add(hosts, version: node == 1 ? 2 : 1, "node \(node) is new")
            }
            hosts.kill(3)
            hosts.kind = "old"
            try hosts.start(3)
            try awaitStatus("synchronised", hosts, [1, 2, 3])
            try add(hosts, version: 1, "node 3 is old again")
            for node in 1...3 {
                let troubles = hosts.lines(node).filter { line in
                    ["diverged", "undecodable", "NotUnderstood", "versionNotSpoken"].contains { line.contains($0) }
                }
                #expect(troubles.isEmpty, "node \(node)")
            }
            hosts.processes.removeAll()
            try lab.down()
        }

        private func awaitStatus(_ status: String, _ hosts: LabMembers, _ nodes: [Int]) throws {
            _ = try hosts.wait("\(nodes) \(status)") {
                let last = nodes.map { node in hosts.lines(node).last { $0.hasPrefix("status ") } }
                return last.allSatisfy { $0 == "status \(status)" } ? true : nil
            }
        }

        private func awaitSums(_ sums: String, _ hosts: LabMembers) throws {
            for node in hosts.processes.keys.sorted() {
                _ = try hosts.wait("\(sums) at node \(node)") {
                    try hosts.ask(node, "state", answer: "state") == sums ? true : nil
                }
            }
        }

        /// Refused while a view is being formed: the others need not notice a separation when the lost node does.
        private func add(_ number: Int, at node: Int, _ hosts: LabMembers) throws {
            _ = try hosts.wait("add \(number) at node \(node)") { () throws -> Bool? in
                let answer = try hosts.ask(node, "add \(number)", answer: "answer")
                guard !answer.contains("TRY_AGAIN") else { return nil }
                #expect(answer.hasSuffix(" done"))
                return true
            }
        }

        private func minority(_ hosts: LabMembers) throws {
            try hosts.lab.isolate(3)
            try awaitStatus("withoutQuorum", hosts, [3])
            try awaitStatus("synchronised", hosts, [1, 2])
            #expect(try hosts.ask(3, "add 1000", answer: "answer").contains("TRY_AGAIN"))
            try add(90, at: 2, hosts)
            try hosts.lab.heal()
            try awaitSums("state 300 21 synchronised", hosts)
        }

        private func newCorosync(_ hosts: LabMembers) throws {
            try hosts.lab.endCorosync(on: 2, .kill)
            _ = try hosts.wait("the loss of corosync told") { hosts.lines(2).first { $0 == "status outside" } }
            #expect(try hosts.ask(2, "add 1", answer: "answer").contains("TRY_AGAIN"))
            try add(100, at: 1, hosts)
            try hosts.lab.startCorosync(on: 2)
            try awaitSums("state 400 22 synchronised", hosts)
            try add(11, at: 2, hosts)
            try awaitSums("state 411 23 synchronised", hosts)
        }
    }
}
