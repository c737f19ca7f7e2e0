import IOC
public import LogProtocol
import OSAL
import SAFTypes

/// Lines of the log as they are written: `for await lines in tail { … }`. One reader.
///
/// The first element is the backlog. A reader that is too slow loses lines, and the next element says how many. Ends
/// with ``close()``, or with its last owner.
public final class LogTail: AsyncSequence, Sendable {
    public typealias Element = LogLines
    public typealias AsyncIterator = AsyncStream<LogLines>.Iterator

    private let connection: IOCConnection
    private let stream: AsyncStream<LogLines>
    private let sink: Sink
    private let first: LogRequest
    private let again: LogRequest
    /// Elements that wait for a slow reader; each holds at most some 32 KiB of lines.
    private static let waitingMax = 256

    init(places: Places, stream name: LogStream?, threshold: LogSeverity, backlog: UInt32) {
        connection = IOCConnection(to: .wellKnown(.logd), places: places)
        let (stream, continuation) = AsyncStream.makeStream(
            of: LogLines.self, bufferingPolicy: .bufferingOldest(Self.waitingMax))
        self.stream = stream
        sink = Sink(continuation)
        first = .tail(stream: name, threshold: threshold, backlog: backlog, follows: true)
        again = .tail(stream: name, threshold: threshold, backlog: 0, follows: true)
    }

    deinit { close() }

    func start(timeout: Duration) async throws(CallError) {
        let (sink, first, again) = (sink, first, again)
        connection.onEstablished { context in
            let request = context.isReconnect ? again : first
            guard let reply = try? context.call(request.code, request.body, lane: .normal, timeout: timeout) else {
                return  // the connection is gone again; the next one asks again
            }
            if let lines = try? LogLines(decoding: reply.body) { sink.begin(with: lines) }
        }
        connection.onLost { sink.suspend() }
        connection.onPush { push in
            for descriptor in push.descriptors { IO.close(descriptor) }
            guard push.code == LogLines.code, let lines = try? LogLines(decoding: push.body) else { return }
            sink.take(lines)
        }
        // Any call makes the connection, and says why there is none.
        _ = try await connection.call(LogRequest.status.code, [], timeout: timeout)
    }

    public func makeAsyncIterator() -> AsyncStream<LogLines>.Iterator { stream.makeAsyncIterator() }

    public func close() {
        connection.close()
        sink.finish()
    }

    /// Puts the backlog before what is pushed, and counts what the reader had no room for.
    private final class Sink: Sendable {
        private struct State {
            var hasBegun = false
            var early: [LogLines] = []
            var dropped: UInt64 = 0
        }

        private let state = Lock(State())
        private let continuation: AsyncStream<LogLines>.Continuation

        init(_ continuation: AsyncStream<LogLines>.Continuation) { self.continuation = continuation }

        func begin(with backlog: LogLines) {
            state.withLock { state in
                state.hasBegun = true
                deliver(backlog, &state)
                for lines in state.early { deliver(lines, &state) }
                state.early = []
            }
        }

        func suspend() { state.withLock { $0.hasBegun = false } }

        func take(_ lines: LogLines) {
            state.withLock { state in
                if state.hasBegun {
                    deliver(lines, &state)
                } else if state.early.count < LogTail.waitingMax {
                    state.early.append(lines)
                } else {
                    state.dropped += Self.count(lines)
                }
            }
        }

        func finish() { continuation.finish() }

        private func deliver(_ lines: LogLines, _ state: inout State) {
            var lines = lines
            lines.dropped += state.dropped
            state.dropped = 0
            if case .dropped = continuation.yield(lines) { state.dropped = Self.count(lines) }
        }

        private static func count(_ lines: LogLines) -> UInt64 {
            lines.dropped + UInt64(lines.bytes.count { $0 == UInt8(ascii: "\n") })
        }
    }
}
