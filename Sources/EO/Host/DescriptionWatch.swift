import EOLoop
import EngineKit
public import IOCCluster
public import OSAL

/// Tells a daemon when the nodes of its cluster have changed while it runs: amfd has written `$SAF_RUN_DIR/cluster`
/// anew. Everything else in it is read at a daemon's start only. Loop thread only.
public final class DescriptionWatch {
    private let loop: Loop
    private let places: Places
    private let onChange: (ClusterDescription) -> Void
    private var known: ClusterDescription
    private var watching: (watch: Watched, id: WatchID)?
    private var timer: LoopTimer?
    private var isClosed = false

    private final class Watched {
        let watch: DirectoryWatch
        init(_ watch: consuming DirectoryWatch) { self.watch = watch }
    }

    /// How often it is looked at where no directory can be watched.
    private static let period: Duration = .seconds(2)

    /// - Parameters:
    ///   - description: as the daemon knows it.
    ///   - onChange: called with that description and other nodes.
    public init(
        loop: Loop, places: Places, description: ClusterDescription, onChange: @escaping (ClusterDescription) -> Void
    ) {
        (self.loop, self.places, self.onChange, known) = (loop, places, onChange, description)
        guard description.groupEngine != .alone else { return }
        // It may have changed since it was read.
        timer = loop.schedule(after: .zero) { [unowned self] in
            timer = nil
            begin()
        }
    }

    public func close() {
        isClosed = true
        if let timer { loop.cancel(timer) }
        if let watching { loop.unwatch(watching.id) }
        (timer, watching) = (nil, nil)
    }

    deinit { close() }

    private func begin() {
        if let watch = try? DirectoryWatch(SystemString(places.runDirectory)) {
            let watched = Watched(watch)
            let id = try? loop.watch(watched.watch.raw, .read, lane: .low) { [unowned self, unowned watched] _ in
                let isWatched = watched.watch.drain()
                look()
                if !isWatched { beginAgain() }
            }
            if let id { watching = (watched, id) }
        }
        look()
        if watching == nil { beginAgain() }
    }

    private func beginAgain() {
        if let watching { loop.unwatch(watching.id) }
        watching = nil
        guard !isClosed, timer == nil else { return }
        timer = loop.schedule(after: Self.period) { [unowned self] in
            timer = nil
            begin()
        }
    }

    private func look() {
        // Absent or damaged: the nodes stay as they are.
        guard !isClosed, let read = try? ClusterDescription.load(places), read.localNode == known.localNode,
            read.nodes != known.nodes
        else { return }
        known.nodes = read.nodes
        onChange(known)
    }
}
