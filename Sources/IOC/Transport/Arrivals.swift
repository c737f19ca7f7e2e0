import EOLoop
import OSAL

/// Waits for servers that are away: tells those who wait on a loop when something appears in the directory of their
/// sockets. Nobody polls, and a server that comes back is found at once. Loop thread only.
final class Arrivals {
    /// Somebody who waits; holds the place until it is cancelled.
    final class Waiter {
        fileprivate let directory: String
        fileprivate let then: () -> Void
        /// False: the directory is not there yet, and one above it is watched. Once something has appeared there, wait
        /// anew.
        let isDirect: Bool
        fileprivate init(directory: String, isDirect: Bool, then: @escaping () -> Void) {
            (self.directory, self.isDirect) = (directory, isDirect)
            self.then = then
        }
    }

    /// How many directories above one that is not there are tried.
    private static let climbMax = 2

    private final class Watched {
        let watch: DirectoryWatch
        var id: WatchID?
        var waiters: [Waiter] = []
        init(_ watch: consuming DirectoryWatch) { self.watch = watch }
    }

    private unowned let loop: Loop
    private var directories: [String: Watched] = [:]

    private init(loop: Loop) { self.loop = loop }

    /// The one of this loop: a user may have few watches, so all connections share it.
    static func of(_ loop: Loop) -> Arrivals {
        let key = ObjectIdentifier(Arrivals.self)
        if let known = loop.attachments[key] as? Arrivals { return known }
        let arrivals = Arrivals(loop: loop)
        loop.attachments[key] = arrivals
        return arrivals
    }

    /// From now on `then` is called when something has appeared, until ``cancel(_:)``; what appeared before is not
    /// told, so look once more now. Nil: the directory cannot be watched; try again by the clock.
    func wait(in directory: String, then: @escaping () -> Void) -> Waiter? {
        var place = directory
        for _ in 0...Self.climbMax {
            if let watched = directories[place] ?? start(place) {
                let waiter = Waiter(directory: place, isDirect: place == directory, then: then)
                watched.waiters.append(waiter)
                return waiter
            }
            place = File.parent(of: place)
        }
        return nil
    }

    func cancel(_ waiter: Waiter) {
        guard let watched = directories[waiter.directory] else { return }
        watched.waiters.removeAll { $0 === waiter }
        if watched.waiters.isEmpty { end(waiter.directory) }
    }

    private func start(_ directory: String) -> Watched? {
        guard let watch = try? DirectoryWatch(directory) else { return nil }  // no directory yet, or out of watches
        let watched = Watched(watch)
        watched.id = try? loop.watch(watched.watch.raw, .read) { [unowned self] _ in heard(directory) }
        guard watched.id != nil else { return nil }
        directories[directory] = watched
        return watched
    }

    private func end(_ directory: String) {
        guard let watched = directories.removeValue(forKey: directory), let id = watched.id else { return }
        loop.unwatch(id)
    }

    private func heard(_ directory: String) {
        guard let watched = directories[directory] else { return }
        // A directory that has gone tells nothing any more: whoever still waits asks for a new watch.
        if !watched.watch.drain() { end(directory) }
        let waiters = watched.waiters
        for waiter in waiters where watched.waiters.contains(where: { $0 === waiter }) { waiter.then() }
    }
}
