import IOCCluster
import SAFTypes
import SafCluster
import Testing

@Suite("corosync.conf")
struct CorosyncConfigurationTests {
    static func plan(nodes: Int, planes: Int, token: Int = 1_000) -> ClusterPlan {
        let described = (1...nodes).compactMap { number -> ClusterDescribedNode? in
            SaName("n\(number)").map {
                ClusterDescribedNode(
                    id: NodeID(UInt32(number)), name: $0, role: .controller,
                    addresses: (0..<planes).map { LinkAddress("10.\($0).0.\(number)") })
            }
        }
        return ClusterPlan(
            ClusterDescription(
                clusterName: "shop", groupEngine: .corosync, localNode: NodeID(1), nodes: described,
                token: .milliseconds(token)))
    }

    @Test("Three nodes, two networks, a short token")
    func golden() {
        #expect(
            CorosyncConfiguration.text(Self.plan(nodes: 3, planes: 2, token: 300)) == """
                totem {
                  version: 2
                  cluster_name: shop
                  transport: knet
                  token: 300
                  token_coefficient: 0
                  seqno_unchanged_const: 4
                  link_mode: active
                  crypto_cipher: aes256
                  crypto_hash: sha256
                  keyfile: /etc/swiftsaf/corosync/authkey
                  interface {
                    linknumber: 0
                    knet_ping_timeout: 1000
                  }
                  interface {
                    linknumber: 1
                    knet_ping_timeout: 1000
                  }
                }
                nodelist {
                  node {
                    nodeid: 1
                    name: n1
                    ring0_addr: 10.0.0.1
                    ring1_addr: 10.1.0.1
                  }
                  node {
                    nodeid: 2
                    name: n2
                    ring0_addr: 10.0.0.2
                    ring1_addr: 10.1.0.2
                  }
                  node {
                    nodeid: 3
                    name: n3
                    ring0_addr: 10.0.0.3
                    ring1_addr: 10.1.0.3
                  }
                }
                quorum {
                  provider: corosync_votequorum
                }
                system {
                  sched_rr: yes
                }
                logging {
                  to_stderr: no
                  to_logfile: no
                  to_syslog: yes
                }

                """)
    }

    private func quorum(_ nodes: Int, _ change: (inout QuorumSettings) -> Void = { _ in }) -> String {
        var plan = Self.plan(nodes: nodes, planes: 1)
        change(&plan.corosync.quorum)
        let text = CorosyncConfiguration.text(plan)
        let part = text.split(separator: "quorum {\n", maxSplits: 1).last?.split(separator: "\n}", maxSplits: 1).first
        return (part ?? "").split(separator: "\n").map { $0.drop { $0 == " " } }.joined(separator: " ")
    }

    @Test("Quorum: two nodes, tie breaker, votes, a third opinion")
    func quorums() {
        #expect(quorum(2) == "provider: corosync_votequorum two_node: 1")
        #expect(quorum(2) { $0.autoTieBreaker = true } == "provider: corosync_votequorum auto_tie_breaker: 1")
        #expect(quorum(2) { $0.twoNode = false } == "provider: corosync_votequorum")
        #expect(quorum(1) == "provider: corosync_votequorum expected_votes: 1")
        #expect(
            quorum(4) {
                $0.expectedVotes = 5
                $0.waitForAll = true
            } == "provider: corosync_votequorum expected_votes: 5 wait_for_all: 1")
        #expect(
            quorum(2) { $0.device = QuorumDevice(host: "10.9.0.1") }
                == "provider: corosync_votequorum device { model: net votes: 1 "
                + "net { host: 10.9.0.1 algorithm: ffsplit } }"
        )
        #expect(
            quorum(3) { $0.device = QuorumDevice(host: "q", algorithm: .lms) }
                == "provider: corosync_votequorum device { model: net net { host: q algorithm: lms } }")
        #expect(
            quorum(2) { $0.device = QuorumDevice(host: "q", isEncrypted: false) }
                == "provider: corosync_votequorum device { model: net votes: 1 "
                + "net { host: q algorithm: ffsplit tls: off } }")
    }

    @Test("What excludes what is said in a sentence")
    func faults() {
        var settings = QuorumSettings()
        settings.autoTieBreaker = true
        settings.device = QuorumDevice(host: "q")
        #expect(settings.fault(nodes: 4)?.hasPrefix("autoTieBreaker and qdevice") == true)
        settings.device = nil
        #expect(settings.fault(nodes: 4) == nil)
        settings.twoNode = true
        #expect(settings.fault(nodes: 2)?.hasPrefix("twoNode and autoTieBreaker") == true)
        settings = QuorumSettings()
        settings.expectedVotes = 2
        #expect(settings.fault(nodes: 3)?.hasPrefix("expectedVotes 2 for 3 nodes") == true)
    }

    @Test("Blanks and comments do not count when files are compared; lines do")
    func comparison() {
        let text = CorosyncConfiguration.text(Self.plan(nodes: 3, planes: 2))
        #expect(CorosyncConfiguration.isSame("# by hand\n\n" + text.replacing("  ", with: "\t"), text))
        let other = text.replacing("token: 1000", with: "token: 3000")
        #expect(!CorosyncConfiguration.isSame(other, text))
        #expect(CorosyncConfiguration.difference(other, text) == ["-token: 3000", "+token: 1000"])
    }

    @Test("Advice: token against realtime, one network, even numbers")
    func advice() {
        func advice(_ nodes: Int, _ planes: Int, _ token: Int, realtime: Bool = true) -> [String] {
            var plan = Self.plan(nodes: nodes, planes: planes, token: token)
            plan.corosync.isRealtime = realtime
            return CorosyncConfiguration.advice(plan)
        }
        #expect(advice(3, 2, 300) == [])
        #expect(advice(3, 2, 1_000, realtime: false) == [])
        #expect(advice(3, 2, 300, realtime: false).map { $0.prefix(23) } == ["a token of 300 ms witho"])
        #expect(advice(3, 2, 150).map { $0.prefix(17) } == ["a token of 150 ms"])
        #expect(advice(3, 1, 1_000).map { $0.prefix(16) } == ["one network only"])
        #expect(advice(4, 2, 1_000).map { $0.prefix(7) } == ["4 nodes"])
    }
}
