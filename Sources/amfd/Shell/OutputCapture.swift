import EOLoop
import IOC
import LogProtocol
import OSAL
import SAFTypes

/// Hands the read ends of the children's outputs to logd, and again to every new life of logd. While logd is away the
/// pipes fill and what does not fit is lost; no child ever waits. Loop thread only.
final class OutputCapture {
    private let connection: LoopConnection
    private var children: [UInt64: Child] = [:]  // by token

    private static let callTimeout: Duration = .seconds(10)

    init(loop: Loop, places: Places) {
        connection = LoopConnection(loop: loop, to: .wellKnown(.logd), places: places)
        connection.onUp = { [weak self] _ in self?.handOverAll() }
    }

    func begin(_ child: Child) {
        children[child.token] = child
        if connection.isUp { handOver(child) }
    }

    /// The process is gone; logd reads what is left in the pipes it has.
    func end(_ child: Child) { children[child.token] = nil }

    func close() { connection.close() }

    private func handOverAll() { for token in children.keys.sorted() { children[token].map(handOver) } }

    private func handOver(_ child: Child) {
        let pipes: [(OutputStream, OutputPipe?)] = [
            (.standardOutput, child.output.output), (.standardError, child.output.error),
        ]
        for (stream, pipe) in pipes {
            guard let pipe else { continue }
            let request = LogRequest.captureOutput(component: child.key.component, process: child.pid, output: stream)
            connection.call(
                request.code, request.body, lane: .low, timeout: Self.callTimeout, descriptors: [pipe.readEnd.raw]
            ) { _ in }  // a logd that died meanwhile gets it when it is back
        }
    }
}
