import EngineKit
import OSAL
import SAFTypes

extension IOCConnection {
    /// Pushes that were dropped because nobody took them.
    public var droppedPushes: UInt64 { lock.withLock { _ in pushesDropped } }

    /// Hands waiting pushes to `handler` on the calling thread; waits for the first at most `timeout`. Connects when
    /// there is no connection. The count.
    @discardableResult
    public func dispatchPushes(timeout: Duration = .zero, _ handler: (Push) -> Void) -> Int {
        _ = pushDescriptor
        let deadline = MonotonicClock.now() + timeout
        while true {
            try? ensureConnected(until: max(deadline, MonotonicClock.now() + .milliseconds(1)))
            // First silence the bells, then look: what comes later rings again.
            guard let descriptor = lock.withLock({ _ in silenced() }) else { return 0 }
            listen()
            let taken = takePushes()
            for push in taken { handler(push) }
            let now = MonotonicClock.now()
            if !taken.isEmpty || now >= deadline { return taken.count }
            let limit = isUp ? deadline : min(deadline, now + .milliseconds(10))
            _ = try? IO.waitUntil(descriptor, readable: true, deadline: limit)  // then we look, whatever it says
        }
    }

    private func silenced() -> Int32? {
        guard let selection else { return nil }
        _ = selection.silence()
        return selection.poller.raw
    }

    private func ensureConnected(until deadline: Instant) throws(CallError) {
        while !isUp {
            if lock.withLock({ _ in phase == .closed }) { throw CallError(.badHandle, "closed") }
            try connectOrWait(until: deadline)
        }
    }

    /// Keeps one push for its handler. The caller holds the lock.
    func keep(_ push: Push) {
        guard pushHandler != nil || listensByDescriptor || established != nil else {
            for descriptor in push.descriptors { IO.close(descriptor) }
            return
        }
        guard pushes.count < options.pushesMax, pushBytes + push.body.count <= options.pushBytesMax else {
            pushesDropped += 1
            for descriptor in push.descriptors { IO.close(descriptor) }
            return
        }
        pushes.append(push)
        pushBytes += push.body.count
        if pushes.count == 1 {
            if pushHandler != nil { postDelivery() }
            selection?.bell.ring()
        }
    }

    // MARK: Listening

    /// A link is up (or somebody wants to listen on it): those who listen watch it.
    func attach(_ link: Link) {
        lock.withLock { _ in
            guard self.link === link else { return }
            if !isReading { announceToListeners(link) }
            if listensByDescriptor { selection?.attach(link) }
        }
        watchOnRuntime(link)
    }

    /// A link is gone: nobody watches it any more. It stays alive until the runtime has let go of it.
    func detach(_ link: Link) {
        lock.withLock { _ in
            selection?.detach()
            selection?.bell.ring()
        }
        unwatchOnRuntime(link)
    }

    /// Reads what is there unless somebody else reads; on the runtime's thread, or the dispatcher's.
    func listen() {
        let link = lock.withLock { _ -> Link? in
            guard !isReading, phase == .up, let link = self.link else { return nil }
            isReading = true
            isAnnounced = false
            link.reader.announceAwake()
            return link
        }
        guard let link else { return }
        if let reason = hangUp(link) { return lose(link, reason) }
        if case .lost(let reason) = drain(link) { return lose(link, reason) }
        lock.withLock { _ in stopReading(link) }
    }
}
