import AmfProtocol
import IOC
import OSAL
import SAFTypes

/// The life lock of this process, taken in the page that amfd sent with the registration. Belongs to one thread, which
/// must not end before the process.
struct HeldLifeLock {
    private var mapping: Mapping?
    private var lock: LifeLock?

    init() {}

    /// Takes the lock in the page of a registration's reply, and gives back the one of an earlier amfd. The descriptors
    /// of the reply are consumed. Without a page, or with a useless one, amfd notices our death by pidfd, a little
    /// later.
    mutating func take(_ reply: Reply) {
        let owned = reply.descriptors.map { SharedDescriptor(Descriptor(owning: $0)) }
        guard let page = owned.first, let answer = try? RegisterReply(decoding: reply.body) else { return }
        do throws(OSError) {
            let size = try AnonymousMemory.sealedSize(page.raw)
            let offset = Int(answer.lifeLockOffset)
            guard size <= 1 << 20, offset % 64 == 0, offset + LifeLock.size <= size else { return }
            let next = try Mapping.map(page.raw, count: size, writable: true)
            let nextLock = LifeLock(at: next.base + offset)
            try nextLock.hold()
            release()
            (mapping, lock) = (next, nextLock)
            Futex.wake(UnsafePointer(nextLock.word))  // amfd sleeps on the free lock
        } catch {
            return
        }
    }

    /// Gives the lock back in order: not a death.
    mutating func release() {
        try? lock?.release()  // of another thread or never held: nothing to give back
        (mapping, lock) = (nil, nil)
    }
}
