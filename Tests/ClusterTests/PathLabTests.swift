import EngineKit
import IOCLinks
import OSAL
import SafLab
import Testing

@Suite(
    "Links in a lab of two nodes and two networks", .serialized,
    .enabled(if: Machinery.obstacle == nil, Machinery.reason))
struct PathLabTests {
    @Test("A cable that is pulled ends a link by what is not acknowledged, long before the kernel gives up")
    func pulledCable() throws {
        var options = LabOptions()
        (options.nodes, options.name) = (2, "path")
        let lab = try ClusterLab.up(options, binaries: File.parent(of: try #require(Environment.executablePath)))
        defer { try? lab.down() }  // what is left is swept by the next lab
        let addresses = options.allNodes.map { node in
            options.allPlanes.map { LabOptions.address(of: node, plane: $0) }.joined(separator: ",")
        }
        func start(_ mode: String, _ node: Int) throws -> LabProcess {
            try LabProcess(lab, ["linkpeer", mode, "\(node)", addresses[0], addresses[1], "\(node)"], on: node)
        }
        let server = try start("serve", 2)
        let asker = try start("ask", 1)
        func wait(_ what: String, _ condition: ([String]) -> Bool) throws {
            do {
                _ = try lab.wait(for: what, timeout: .seconds(30)) {
                    try asker.listen()
                    return condition(asker.lines) ? true : nil
                }
            } catch let error as LabError {
                throw LabError("\(error.description). Said: \(asker.lines.suffix(8))")
            }
        }
        try wait("the first answer") { $0.last == "answered" }
        for plane in [0, 1, 0] {
            let known = asker.lines.count
            try lab.unplug(2, plane: plane)
            let other = LabOptions.address(of: 2, plane: 1 - plane)
            try wait("an answer by plane \(1 - plane)") {
                $0.count > known && $0.last == "answered" && $0.contains { $0.hasPrefix("up \(other)") }
            }
            let down = try #require(asker.lines.dropFirst(known).first { $0.hasPrefix("down") })
            #expect(down.contains("nothing was acknowledged"), "\(down)")
            try lab.plug(2, plane: plane)
        }
        withExtendedLifetime(server) {}
    }
}
