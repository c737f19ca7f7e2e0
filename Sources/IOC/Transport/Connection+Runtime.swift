import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// What needs the process's background thread, or one of its own: not for C libraries, which start none.
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

    private func deliverSoon() { lock.withLock { _ in if !pushes.isEmpty { postDelivery() } } }

    func postDelivery() {
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

    func watchOnRuntime(_ link: Link) {
        let watch = lock.withLock { _ -> RuntimeWatch? in
            guard self.link === link, pushHandler != nil || asynchronousCount > 0, runtimeWatch?.link !== link else {
                return nil
            }
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

    func unwatchOnRuntime(_ link: Link) {
        let watch = lock.withLock { _ -> RuntimeWatch? in
            guard let watch = runtimeWatch, watch.link === link else { return nil }
            runtimeWatch = nil
            return watch
        }
        guard let watch, let runtime = ClientRuntime.shared else { return }
        runtime.post { watch.stop(runtime.loop) }
    }

    // MARK: Connecting

    /// Where nobody calls but somebody listens, a thread of its own makes the connection again.
    func reconnectInBackgroundIfNeeded() {
        let isNeeded = lock.withLock { _ in
            guard phase == .down, pushHandler != nil || asynchronousCount > 0, !isReconnecting else { return false }
            isReconnecting = true
            return true
        }
        guard isNeeded else { return }
        let started = try? OSThread.spawn(name: "saf-reconnect") { [weak self] in
            while let connection = self, connection.reconnectOnce() {}
        }
        if started == nil { lock.withLock { _ in isReconnecting = false } }
    }

    /// How often the background thread looks whether it is still wanted; a server that comes is found at once.
    private static var reconnectSlice: Duration { .seconds(5) }

    /// One slice of background connecting; false when it is not needed any more.
    private func reconnectOnce() -> Bool {
        enum Step { case connect, wait, end }
        let step = lock.withLock { _ -> Step in
            let isWanted = pushHandler != nil || asynchronousCount > 0
            guard isWanted, phase == .down || phase == .connecting else {
                isReconnecting = false
                return .end
            }
            if phase == .connecting { return .wait }
            phase = .connecting
            return .connect
        }
        switch step {
        case .end: return false
        case .wait: rest(.milliseconds(5))
        case .connect: connect(until: MonotonicClock.now() + Self.reconnectSlice, slice: Self.reconnectSlice)
        }
        return true
    }
}
