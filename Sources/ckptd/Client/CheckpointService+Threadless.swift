#if SAF_LIBRARY
    import CkptProtocol
    import EngineKit
    import IOC
    import OSAL
    import SAFTypes
    import Synchronization

    /// In a library that starts no thread: what comes by itself is taken when the owner of the descriptor looks.
    extension CheckpointService {
        func keepConnected() {}

        func callSoon(
            _ code: CkptCode, _ body: [UInt8], timeout: Duration,
            then: @escaping @Sendable (Result<Reply, CallError>) -> Void
        ) { connection.callPolled(frameCode(code), body, timeout: timeout, then: then) }

        func later(_ delay: Duration, _ job: @escaping @Sendable () -> Void) { connection.runPolled(after: delay, job) }

        /// Readable when ``poll()`` has something to do, or as long as ``alert(_:)`` says so; -1: none to be had.
        public var descriptor: Int32 { connection.pushDescriptor }

        /// Connects now if the service is there; else the first call does. False: there is no descriptor to be had.
        public func prepare() -> Bool {
            guard descriptor >= 0 else { return false }
            connection.connectNow()
            return true
        }

        public func alert(_ on: Bool) { connection.alert(on) }

        /// One look: connects, takes what has come, and gives followers their updates. Any thread; waits for nobody.
        public func poll() {
            connection.poll()
            polling.withLock { _ in
                for push in connection.takePushes() { received(push) }
            }
        }

        /// Closes the connection: everything opened through it is closed. Later calls fail with BAD_HANDLE.
        ///
        /// - Parameter isAnswered: ckptd has answered so far; else it may never hear the farewell.
        func close(isAnswered: Bool) {
            hasLeft.store(true, ordering: .relaxed)
            if !sayFarewell() || !isAnswered {
                // Else it ends with this process.
                _ = ProcessMarks.mark(ClosedMark.number(of: Self.session(connection)), in: marks)
            }
            connection.close()
        }

        private func sayFarewell() -> Bool {
            guard connection.isUp else { return false }
            // Too full: we leave a mark.
            return (try? connection.send(CkptWord.farewell, [], timeout: .zero)) != nil
        }

        // MARK: Refusals

        /// Threads that asked and never took the answer: beyond, all are forgotten.
        private static var refusalsMax: Int { 256 }

        func noteRefusedOperation(_ words: [UInt8]) {
            let refused = CkptRefusal.operationIndex(in: words).map { RefusedOperation($0) }
            refusedOperations.withLock { all in
                if all.count >= Self.refusalsMax { all = Numbered() }
                all[Self.thisThread] = refused
            }
        }

        /// Which operation of this thread's last call was refused, if its refusal named one.
        public func takeRefusedOperation() -> Int? {
            refusedOperations.withLock { $0.remove(Self.thisThread) }?.index
        }

        private static var thisThread: UInt64 { UInt64(UInt32(bitPattern: Environment.threadID)) }
    }

    final class RefusedOperation: Sendable {
        let index: Int
        init(_ index: Int) { self.index = index }
    }

    extension Checkpoint {
        private static var closedAtOnceMax: Int { 512 }

        /// Closes them together, and the service; what cannot be closed in time ckptd closes when it misses us.
        public static func closeAll(_ all: [Checkpoint], within limit: Duration, in service: CheckpointService) {
            service.close(isAnswered: areClosed(all, within: limit, in: service))
        }

        private static func areClosed(
            _ all: [Checkpoint], within limit: Duration, in service: CheckpointService
        ) -> Bool {
            let deadline = MonotonicClock.now() + limit
            let open = all.filter { (try? $0.markClosed()) != nil }  // others are closed already
            let (left, missed) = (SharedCount(), SharedCount())
            for checkpoint in open {
                while left.value >= closedAtOnceMax, service.isWorthWaiting(until: deadline) { service.poll() }
                guard service.isUp else { return false }
                left.add(1)
                service.callSoon(.close, CkptRequest.close(checkpoint.handle).body, timeout: limit) { result in
                    if case .failure(let error) = result, error.code == .tryAgain || error.code == .timeout {
                        missed.add(1)
                    }
                    left.add(-1)
                }
            }
            while left.value > 0, service.isWorthWaiting(until: deadline) { service.poll() }
            return left.value == 0 && missed.value == 0
        }
    }

    extension CheckpointService {
        var isUp: Bool { connection.isUp }

        /// Waits for something to look at; false at the deadline, and when there is nobody to wait for.
        fileprivate func isWorthWaiting(until deadline: Instant) -> Bool {
            // What is alerted is readable all the time.
            guard isUp, MonotonicClock.now() < deadline else { return false }
            let isHeard = try? IO.waitUntil(descriptor, readable: true, deadline: deadline)
            return isHeard == true
        }
    }

    private final class SharedCount: Sendable {
        private let count = Atomic(0)
        var value: Int { count.load(ordering: .acquiring) }
        func add(_ change: Int) { count.wrappingAdd(change, ordering: .acquiringAndReleasing) }
    }
#endif
