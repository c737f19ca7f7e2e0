import SafCluster
import Testing

@testable import SafLab

@Suite("Cluster lab: values")
struct LabValueTests {
    @Test("corosync.conf names every node on every plane, and keeps knet's patience above its heartbeat")
    func configuration() {
        var options = LabOptions()
        options.nodes = 2
        let text = CorosyncConfiguration.text(options.plan(of: 1, folder: "/n", configDirectory: "/c"))
        for line in [
            "token: 300", "token_coefficient: 0", "link_mode: active", "keyfile: /c/corosync/authkey",
            "crypto_cipher: aes256", "nodeid: 2",
            "name: node2",
            "ring0_addr: 10.77.0.1", "ring1_addr: 10.77.1.2", "two_node: 1", "wait_for_all: 0", "sched_rr: yes",
            "logfile: /n/log/corosync.log",
        ] {
            #expect(text.contains(line + "\n"), "\(line) in\n\(text)")
        }
        #expect(text.components("knet_ping_timeout: 1000") == 2)
        #expect(text.components("{") == text.components("}"))
    }

    @Test("A long token, one plane and no encryption leave out what they do not need")
    func configurationWithout() {
        var options = LabOptions()
        (options.token, options.planes, options.isEncrypted) = (1000, 1, false)
        options.hasAutoTieBreaker = true
        let text = CorosyncConfiguration.text(options.plan(of: 1, folder: "/n", configDirectory: "/c"))
        for absent in ["knet_ping_timeout", "link_mode", "keyfile", "ring1_addr", "two_node"] {
            #expect(!text.contains(absent), "\(absent)")
        }
        #expect(text.contains("auto_tie_breaker: 1") && text.contains("crypto_cipher: none"))
    }

    @Test("Options out of range are refused in words")
    func options() {
        func refusal(_ change: (inout LabOptions) -> Void) -> String? {
            var options = LabOptions()
            change(&options)
            do { try options.validate() } catch { return error.description }
            return nil
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.nodes = 0 } == "0 nodes: from 1 to 16 expected")
        #expect(refusal { $0.planes = 3 } == "3 planes: from 1 to 2 expected")
        #expect(refusal { $0.token = 10 } == "10 ms token: from 50 to 60000 expected")
        #expect(refusal { $0.name = "a/b" } == "lab name \"a/b\": 1 to 20 letters, digits and \"-\" expected")
        #expect(refusal { $0.payloads = [4, 5] } == "payload node 4: this lab has the nodes 1 to 3")
        #expect(refusal { $0.payloads = [1, 2, 3] } == "3 payload nodes: at least one must be a controller")
        #expect(refusal { $0.isTwoNode = true } == "two-node quorum needs two nodes, not 3")
    }

    @Test("Who hears whom: groups, the unnamed as one more group, isolation")
    func hearing() {
        var faults = NetworkFaults()
        #expect(faults.unheard(by: 1, nodes: 4) == [])
        faults.groups = [[1], [2]]
        #expect(faults.unheard(by: 1, nodes: 4) == [2, 3, 4])
        #expect(faults.unheard(by: 3, nodes: 4) == [1, 2])
        faults.isolated = [4]
        #expect(faults.unheard(by: 3, nodes: 4) == [1, 2, 4])
        for node in 1...4 {
            for other in faults.unheard(by: node, nodes: 4) {
                #expect(faults.unheard(by: other, nodes: 4).contains(node), "\(other) hears \(node)")
            }
        }
    }

    @Test("The rules drop what comes in, on all planes; none are left when nothing is broken")
    func rules() {
        let options = LabOptions()
        var faults = NetworkFaults()
        #expect(!faults.rules(for: 1, options: options).contains("drop"))
        faults.groups = [[1], [2, 3]]
        faults.lossPermille = [2: 55]
        #expect(
            faults.rules(for: 2, options: options) == """
                table inet saflab
                delete table inet saflab
                table inet saflab {
                  chain faults {
                    type filter hook prerouting priority -300; policy accept;
                    ip saddr { 10.77.0.1, 10.77.1.1 } drop
                    iifname "eth*" numgen random mod 1000 < 55 drop
                  }
                }

                """)
        #expect(
            faults.rules(for: 3, options: options)
                .contains("ip saddr { 10.77.0.2, 10.77.1.2 } numgen random mod 1000 < 55 drop"))
    }

    @Test("The loss of everything has no chance in its rule")
    func totalLoss() {
        var faults = NetworkFaults()
        faults.lossPermille = [2: 1000]
        #expect(faults.rules(for: 1, options: LabOptions()).contains("ip saddr { 10.77.0.2, 10.77.1.2 } drop"))
        #expect(faults.rules(for: 2, options: LabOptions()).contains("iifname \"eth*\" drop"))
    }

    @Test("A lab's state is read back as it was written, and unknown lines are refused")
    func state() throws {
        var options = LabOptions()
        (options.nodes, options.isTwoNode, options.name) = (2, false, "x-1")
        options.payloads = [2]
        var state = LabState(options: options)
        state.switchProcess = ProcessIdentity(pid: 10, startTime: 11)
        state.inits = [1: ProcessIdentity(pid: 12, startTime: 13), 2: ProcessIdentity(pid: 14, startTime: 15)]
        state.faults.groups = [[1], [2]]
        state.faults.isolated = [2]
        state.faults.lossPermille = [1: 5]
        let plug = NetworkFaults.Plug(plane: 1, node: 2)
        state.faults.delays = [plug: NetworkFaults.Delay(milliseconds: 50, jitter: 5)]
        state.carriers = [plug: ProcessIdentity(pid: 16, startTime: 17)]
        state.faults.unplugged = [NetworkFaults.Plug(plane: 1, node: 2)]
        #expect(try LabState(text: state.text) == state)
        for line in ["colour red", "init 1", "nodes many", "nodes 99"] {
            #expect(throws: LabError.self, "\(line)") { try LabState(text: state.text + line + "\n") }
        }
    }

    @Test("corosync-quorumtool's answer is understood; anything else is none")
    func quorum() {
        let text = """
            Quorum information
            ------------------
            Date:             Thu Nov 26 16:00:00 2026
            Quorum provider:  corosync_votequorum
            Nodes:            2
            Node ID:          3
            Ring ID:          2.1d
            Quorate:          Yes

            Votequorum information
            ----------------------
            Expected votes:   3

            Membership information
            ----------------------
                Nodeid      Votes Name
                     3          1 node3 (local)
                     2          1 node2
            """
        #expect(QuorumStatus(text)?.members == [2, 3])
        #expect(QuorumStatus(text)?.ringID == "2.1d")
        #expect(QuorumStatus(text)?.isQuorate == true)
        #expect(QuorumStatus(text)?.deviceVotes == nil)
        let withDevice = text + "\n         0          1            Qdevice"
        #expect(QuorumStatus(withDevice)?.members == [2, 3] && QuorumStatus(withDevice)?.deviceVotes == 1)
        #expect(QuorumStatus(text + "\n   0      0     Qdevice (votes 1)")?.deviceVotes == 0)
        #expect(QuorumStatus("Cannot initialize QUORUM service") == nil)
        #expect(QuorumStatus("") == nil)
    }
}

extension String {
    /// How often `text` stands in it.
    fileprivate func components(_ text: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: text) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }

    @Test("Who acts after another has begun is told; who hands over is not")
    func actingOrder() {
        var order = ActingOrder<Int>()
        for actor in [1, 1, 2, 2, 3] { order.acted(actor) }
        #expect(order.overlaps.isEmpty)
        #expect(order.current == 3)
        for actor in [3, 1, 3, 1, 2] { order.acted(actor) }
        #expect(order.overlaps.map { [$0.former, $0.current] } == [[1, 3], [2, 3]])
    }
}
