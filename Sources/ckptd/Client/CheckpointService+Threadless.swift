#if SAF_LIBRARY
    import CkptProtocol
    public import IOC
    import OSAL
    import SAFTypes

    /// In a library that starts no thread: what comes by itself is taken when the owner of the descriptor looks.
    extension CheckpointService {
        func keepConnected() {}

        func callSoon(
            _ code: CkptCode, _ body: [UInt8], timeout: Duration,
            then: @escaping @Sendable (Result<Reply, CallError>) -> Void
        ) { connection.callPolled(code.rawValue, body, timeout: timeout, then: then) }

        func later(_ delay: Duration, _ job: @escaping @Sendable () -> Void) { connection.runPolled(after: delay, job) }

        /// Readable when ``poll()`` has something to do, or as long as ``alert(_:)`` says so; -1: none to be had.
        public var descriptor: Int32 { connection.pushDescriptor }

        public func alert(_ on: Bool) { connection.alert(on) }

        /// One look: connects, takes what has come, and gives followers their updates. Any thread; waits for nobody.
        public func poll() {
            connection.poll()
            polling.withLock { _ in
                for push in connection.takePushes() { received(push) }
            }
        }
    }
#endif
