import OSAL

/// A signal descriptor and whom it tells.
final class SignalWatch {
    let descriptor: SignalDescriptor
    init(_ descriptor: consuming SignalDescriptor) { self.descriptor = descriptor }
}

extension Loop {
    /// Blocks `signals` in this thread and calls `handler` for each that comes. To be called before other threads are
    /// started, which inherit the blocked set. Not for SIGCHLD: watch a pidfd, which cannot be merged or stolen.
    public func onSignals(_ signals: [SignalNumber], _ handler: @escaping (SignalInfo) -> Void) throws(OSError) {
        let watch = SignalWatch(try SignalDescriptor(blocking: signals))
        signalWatches.append(watch)
        _ = try self.watch(watch.descriptor.raw, .read, lane: .control) { [unowned watch] _ in
            while let information = watch.descriptor.next() { handler(information) }
        }
    }
}
