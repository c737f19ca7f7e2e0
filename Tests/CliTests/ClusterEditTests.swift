import IOCCluster
import SAFTypes
import Testing

@testable import SafCluster

@Suite("Nodes in the text of cluster.yaml")
struct ClusterEditTests {
    private let text = """
        # ours
        cluster: shop
        nodes:
          a: { id: 1, addresses: [10.0.0.1] }
          'b':            # the old one
            id: 2
            addresses:
              - 10.0.0.2

          # in the cellar
          c: { id: 3, addresses: [10.0.0.3] }

        # the end
        token: 1s
        """

    private var d: ClusterDescribedNode {
        ClusterDescribedNode(id: NodeID(4), name: SaName("d")!, role: .payload, addresses: [LinkAddress("10.0.0.4")])
    }

    @Test("A node comes after the others, and nothing else changes")
    func adding() throws {
        let new = try #require(ClusterEdit.adding(d, to: text))
        let line = "  d: { id: 4, role: payload, addresses: [10.0.0.4] }"
        #expect(new.split(separator: "\n").contains { $0 == line })
        #expect(
            new.split(separator: "\n", omittingEmptySubsequences: false).filter { $0 != line }
                == text.split(separator: "\n", omittingEmptySubsequences: false))
        #expect(ClusterEdit.removing("d", from: new) == text)
    }

    @Test("A node goes with its own lines, and no other's")
    func removing() throws {
        let new = try #require(ClusterEdit.removing("b", from: text))
        #expect(!new.contains("10.0.0.2") && !new.contains("id: 2"))
        for kept in ["# ours", "  a: {", "# in the cellar", "  c: {", "# the end", "token: 1s"] {
            #expect(new.contains(kept), "\(kept)")
        }
        #expect(ClusterEdit.removing("x", from: text) == nil)
    }

    @Test("What is written in another way is left to its author")
    func others() {
        for other in ["", "cluster: x\n", "nodes: { a: { id: 1 } }\n", "nodes:\n", "nodes:\ntoken: 1s\n"] {
            #expect(ClusterEdit.adding(d, to: other) == nil, "\(other)")
            #expect(ClusterEdit.removing("a", from: other) == nil, "\(other)")
        }
    }
}
