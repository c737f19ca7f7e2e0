import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOC

@Suite("IOC calls")
struct CallTests {
    let home = TestPlaces()

    @Test("A call is answered, small and large, in every lane")
    func answered() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        let client = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { client.close() }
        for size in [0, 1, 31, 32, 64, 1000, 8000, 30_000, 33_000, 70_000, 3 << 20] {
            for lane in Lane.allCases {
                let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
                let reply = try client.call(Code.echo, body, lane: lane, timeout: .seconds(10))
                #expect(reply.body == body, "size \(size) lane \(lane)")
            }
        }
    }
}
