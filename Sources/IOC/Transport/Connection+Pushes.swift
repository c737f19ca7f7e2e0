import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// A descriptor that is readable when pushes wait: an epoll over a local bell and the link's.
final class PushSelection {
    let poller: Poller
    let bell: Doorbell
    private var events: [PollEvent] = []
    private var attached: Link?

    init() throws(OSError) {
        poller = try Poller()
        bell = try Doorbell()
        try poller.add(bell.raw, interest: .read, token: 0)
    }

    func attach(_ link: Link) {
        detach()
        attached = link
        try? poller.add(link.ownBell.raw, interest: .read, token: 1)
        try? poller.add(link.socket.raw, interest: [.read, .edgeTriggered], token: 2)
    }

    func detach() {
        guard let link = attached else { return }
        try? poller.remove(link.ownBell.raw)
        try? poller.remove(link.socket.raw)
        attached = nil
    }

    /// Waits; afterwards no bell is readable any more.
    func wait(_ limit: Duration) {
        _ = try? poller.wait(into: &events, timeout: limit)
        bell.drain()
        attached?.ownBell.drain()
    }
}

extension IOCConnection {
    /// Sets who gets the pushes: called on the runtime's thread, in order. Connects in the background and keeps the
    /// connection from now on. False when there is no runtime (no thread or descriptor to be had).
    @discardableResult
    public func onPush(_ handler: @escaping @Sendable (Push) -> Void) -> Bool {
        guard ClientRuntime.shared != nil else { return false }
        let link = lock.withLock { _ -> Link? in
            guard phase != .closed else { return nil }
            pushHandler = handler
            return self.link
        }
        if let link { attach(link) }
        reconnectInBackgroundIfNeeded()
        deliverSoon()
        return true
    }

    /// Pushes that were dropped because nobody took them.
    public var droppedPushes: UInt64 { lock.withLock { _ in pushesDropped } }

    /// Readable when pushes may wait for ``dispatchPushes(timeout:_:)``; for callers with a loop of their own. Stays
    /// the same over reconnects. -1 when there is no descriptor to be had.
    public var pushDescriptor: Int32 {
        let (raw, link) = lock.withLock { _ -> (Int32, Link?) in
            if selection == nil { selection = try? PushSelection() }
            listensByDescriptor = selection != nil
            return (selection?.poller.raw ?? -1, self.link)
        }
        if let link { attach(link) }
        return raw
    }

    /// Hands waiting pushes to `handler` on the calling thread; waits for the first at most `timeout`. Connects when
    /// there is no connection. The count.
    @discardableResult
    public func dispatchPushes(timeout: Duration = .zero, _ handler: (Push) -> Void) -> Int {
        _ = pushDescriptor
        let deadline = MonotonicClock.now() + timeout
        while true {
            try? ensureConnected(until: max(deadline, MonotonicClock.now() + .milliseconds(1)))
            // First silence the bells, then look: what comes later rings again.
            guard let selection = lock.withLock({ _ in self.selection }) else { return 0 }
            selection.wait(.zero)
            listen()
            let taken = lock.withLock { _ in
                defer { pushBytes = 0 }
                return exchange(&pushes, with: [])
            }
            for push in taken { handler(push) }
            let now = MonotonicClock.now()
            if !taken.isEmpty || now >= deadline { return taken.count }
            selection.wait(min(deadline - now, isUp ? .seconds(3600) : .milliseconds(10)))
        }
    }

    private func exchange(_ value: inout [Push], with other: [Push]) -> [Push] {
        defer { value = other }
        return value
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

    private func deliverSoon() { lock.withLock { _ in if !pushes.isEmpty { postDelivery() } } }

    private func postDelivery() {
        ClientRuntime.shared?.post { [weak self] in self?.deliverPushes() }
    }

    /// On the runtime's thread: calls the handler for what waits. A nested delivery (the handler called us, and the
    /// answer came with more pushes) leaves them to the outer one, so the order is kept.
    private func deliverPushes() {
        let mayDeliver = lock.withLock { _ in
            if isDelivering { return false }
            isDelivering = true
            return true
        }
        guard mayDeliver else { return }
        while true {
            let (handler, batch) = lock.withLock { _ -> ((@Sendable (Push) -> Void)?, [Push]) in
                guard let pushHandler, !pushes.isEmpty else {
                    isDelivering = false
                    return (nil, [])
                }
                let batch = pushes
                pushes = []
                pushBytes = 0
                return (pushHandler, batch)
            }
            guard let handler else { return }
            for push in batch { handler(push) }
        }
    }

    // MARK: Listening

    /// A link is up (or somebody wants to listen on it): those who listen watch it.
    func attach(_ link: Link) {
        let watch = lock.withLock { _ -> RuntimeWatch? in
            guard self.link === link else { return nil }
            if !isReading { announceToListeners(link) }
            if listensByDescriptor { selection?.attach(link) }
            guard pushHandler != nil || asynchronousCount > 0, runtimeWatch?.link !== link else { return nil }
            let watch = RuntimeWatch(link: link)
            runtimeWatch = watch
            return watch
        }
        guard let watch, let runtime = ClientRuntime.shared else { return }
        runtime.post { [weak self] in
            watch.start(runtime.loop) { self?.listen() }
            self?.listen()
        }
    }

    /// A link is gone: nobody watches it any more. It stays alive until the runtime has let go of it.
    func detach(_ link: Link) {
        let watch = lock.withLock { _ -> RuntimeWatch? in
            selection?.detach()
            selection?.bell.ring()
            guard let watch = runtimeWatch, watch.link === link else { return nil }
            runtimeWatch = nil
            return watch
        }
        guard let watch, let runtime = ClientRuntime.shared else { return }
        runtime.post { watch.stop(runtime.loop) }
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
