public import EOLoop
public import IOC
public import LogProtocol
public import OSAL
public import SAFTypes

/// A daemon's way to logd, for what it captures from its children. Loop thread only; never blocks; connects by itself.
public final class LoopLogClient {
    /// logd is there, for the first time or again: whoever has outputs to be captured hands them over now.
    public var onUp: (() -> Void)?
    public var isUp: Bool { connection.isUp }

    private let connection: LoopConnection
    private static let timeout: Duration = .seconds(10)

    public init(loop: Loop, places: Places) {
        connection = LoopConnection(loop: loop, to: .wellKnown(.logd), places: places)
        connection.onUp = { [weak self] _ in self?.onUp?() }
    }

    /// Asks logd to read a pipe from now on: each line becomes a record of the application stream.
    ///
    /// Idempotent; to be asked again after every ``onUp``.
    /// - Parameters:
    ///   - readEnd: stays the caller's.
    ///   - then: nil when logd has it.
    public func captureOutput(
        component: SaName, process: Int32, output: OutputStream, readEnd: Int32,
        then: @escaping (CallError?) -> Void = { _ in }
    ) {
        let request = LogRequest.captureOutput(component: component, process: process, output: output)
        connection.call(request.code, request.body, timeout: Self.timeout, descriptors: [readEnd]) { result in
            switch result {
            case .success: then(nil)
            case .failure(let error): then(error)
            }
        }
    }

    public func close() { connection.close() }
}
