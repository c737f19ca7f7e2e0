import EngineKit
import OSAL
import SAFTypes

extension IOCConnection {
    enum Drained {
        case nothing
        case some
        /// The server broke the protocol.
        case lost(Words)
    }

    /// Takes what is in the ring, for everybody. Only the reader calls this.
    func drain(_ link: Link) -> Drained {
        var taken = 0
        var finished: [PendingCall] = []
        var violation: Words?
        do throws(DecodeError) {
            while taken < 256, let lane = link.reader.readyLane() {
                let isTaken = try link.receive(lane) { header, body, descriptors in
                    violation = deliver(header, body, link.bodyMemory, descriptors, &finished) ?? violation
                }
                if !isTaken { break }
                taken += 1
                if let violation { throw .badValue(violation) }
            }
        } catch {
            for call in finished { resume(call) }
            return .lost("\(name) broke the protocol: \(error)")
        }
        for call in finished { resume(call) }
        guard taken > 0 else { return .nothing }
        if link.reader.takeSpaceWake() { link.ringForSpace() }
        return .some
    }

    /// Hands one frame to its call or to the pushes; a text when the server may not send such a frame.
    private func deliver(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ memory: Mapping?, _ descriptors: [Int32],
        _ finished: inout [PendingCall]
    ) -> Words? {
        switch header.kind {
        case .reply, .failure:
            let result: Result<Reply, CallError>
            if header.kind == .reply {
                result = .success(
                    memory.map { Reply(memory: $0, descriptors: descriptors) }
                        ?? Reply(body: Array(body), descriptors: descriptors))
            } else {
                for descriptor in descriptors { IO.close(descriptor) }
                let error = AisError(rawValue: header.status) ?? .library
                result = .failure(CallError(error, said: body))
            }
            var needsResume: PendingCall?
            let isKnown = lock.withLock { _ in
                guard let call = calls[header.number] else { return false }
                if complete(call, result) { needsResume = call }
                return true
            }
            if let needsResume { finished.append(needsResume) }
            if !isKnown, case .success(let reply) = result {
                for descriptor in reply.descriptors { IO.close(descriptor) }
            }
            return nil
        case .oneWay:
            let push = Push(code: header.code, lane: header.lane, body: Array(body), descriptors: descriptors)
            lock.withLock { _ in keep(push) }
            return nil
        case .hello, .welcome, .refused, .request, .pad, .carried, .memory:
            for descriptor in descriptors { IO.close(descriptor) }
            return "a frame of kind \(header.kind)"
        }
    }

    /// Calls the completion of a call that did not block its caller. Without the lock.
    func resume(_ call: PendingCall) {
        guard let completion = call.completion else { return }
        call.completion = nil
        if let error = call.error {
            completion(.failure(error))
        } else {
            completion(.success(call.reply))
        }
    }

    /// Why the connection is over, if it is; reads what the socket brought.
    func hangUp(_ link: Link) -> Words? {
        do throws(DecodeError) {
            guard try link.drainSocket() else { return nil }
            _ = drain(link)  // what it wrote before it hung up
            return "\(name) has hung up"
        } catch {
            return "\(name) broke the protocol: \(error)"
        }
    }

    /// The connection is over: everybody who waits is woken, and one of them makes the next. Without the lock.
    func lose(_ link: Link, _ reason: Words) {
        let (isFirst, handler) = lock.withLock { _ -> (Bool, (@Sendable () -> Void)?) in
            guard self.link === link else { return (false, nil) }
            self.link = nil
            phase = .down
            isReading = false
            isAnnounced = false
            downReason = reason
            calls.forEach { $0.wake() }
            return (true, lost)
        }
        guard isFirst else { return }
        detach(link)
        handler?()
        reconnectInBackgroundIfNeeded()
    }
}
