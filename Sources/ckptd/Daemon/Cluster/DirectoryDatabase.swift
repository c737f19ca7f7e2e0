import CkptEngine
import CkptProtocol
import CkptStore
import Containers
import DBAL
import EOLoop
import EngineKit
import IOCCluster
import OSAL
import SAFTypes

/// The database of the directory on a controller: read once at the start, then it follows what a majority has. The disk
/// is waited for on the loop's worker; nobody else waits, except this node's joining for what the database says, and
/// that for a while only.
final class DirectoryDatabase {
    typealias Content = DirectoryRecords.Content

    /// What is here is what was read, or it cannot be had.
    private(set) var isLoaded = false
    /// What it said at the start; nil when it said nothing.
    private(set) var known: Content?
    var onLoaded: () -> Void = {}

    /// How long a node that joins waits for it.
    static let loadMax = Duration.seconds(5)
    private static let retryDelay = Duration.seconds(10)

    private let loop: Loop
    private let file: DirectoryFile
    let path: String
    private let note: (_ isError: Bool, _ text: String) -> Void
    private var records = DirectoryRecords()
    private(set) var state = State.loading
    /// The directory has to be written as a whole before single changes are.
    private var mustReplace = true
    private var isClosed = false

    enum State: Equatable {
        case loading
        case following
        /// It cannot be kept; its file is gone, and is begun anew in a while.
        case failing(String)
        /// It is another program's or another version's, or its engine is not here: not touched.
        case unusable(String)
    }

    init(
        loop: Loop, places: Places, engine: DatabaseEngine, note: @escaping (_ isError: Bool, _ text: String) -> Void
    ) {
        self.loop = loop
        self.note = note
        path = places.stateDirectory + "/checkpoints"
        file = DirectoryFile(path, engine)
    }

    func load() {
        loop.schedule(after: Self.loadMax) { [weak self] in self?.finishLoading() }
        read()
    }

    private func read() {
        let file = file
        onWorker {
            do throws(DatabaseError) { return .success(try file.load()) } catch { return .failure(error) }
        } then: { [unowned self] (result: Result<[DatabaseRecord], DatabaseError>) in
            switch result {
            case .success(let found): take(found)
            case .failure(let error) where error.kind == .inUse:
                // The ckptd before is not quite gone.
                loop.schedule(after: .milliseconds(100)) { [weak self] in self?.read() }
                return
            case .failure(let error) where [.otherFormat, .missing].contains(error.kind): giveUp("\(error)")
            case .failure(let error): fail("\(error)")
            }
            finishLoading()
        }
    }

    func close() {
        isClosed = true
        let file = file
        loop.runSlow({ file.close() }, then: { _ in })
    }

    private func finishLoading() {
        guard !isLoaded else { return }
        isLoaded = true
        onLoaded()
    }

    private func take(_ found: [DatabaseRecord]) {
        do throws(DecodeError) {
            let content = try DirectoryRecords.decode(found.map { ($0.key, $0.value) })
            records = DirectoryRecords(content?.checkpoints ?? [], buried: content?.buried ?? Graveyard())
            // Too late for a node that has not waited: the directory has heard from others by now.
            if !isLoaded { known = content }
            state = .following
        } catch {
            giveUp("\(path): \(error)")
        }
    }

    // MARK: Following

    /// The directory is another as a whole; it is written when ``follow(_:at:isSettled:)`` says that it may be.
    func replaceAll() { mustReplace = true }

    /// A majority has this.
    func put(_ id: CheckpointID, _ entry: DirectoryEntry?, isBuried: Bool, at stamp: DirectoryStamp) {
        if state == .following, !mustReplace { records.put(id, entry, isBuried: isBuried, at: stamp) }
    }

    /// Everything that a majority has was put.
    ///
    /// - Parameter isSettled: nothing is in the directory that a majority may not have, and it has heard what the
    ///   databases said.
    func follow(_ directory: Directory, at stamp: DirectoryStamp, isSettled: Bool) {
        guard state == .following else { return }
        if mustReplace {
            guard isSettled else { return }
            records.replace(by: directory.entries, buried: directory.buried, at: stamp)
            mustReplace = false
        }
        write()
    }

    private func write() {
        guard state == .following, let batch = records.next() else { return }
        let changes = batch.map { record in
            record.value.map { DatabaseChange.put(key: record.key, value: $0) } ?? .delete(key: record.key)
        }
        let file = file
        onWorker {
            do throws(DatabaseError) {
                try file.write(changes)
                return nil
            } catch {
                return error
            }
        } then: { [unowned self] (error: DatabaseError?) in
            if let error { return fail("\(error)") }
            records.written()
            write()
        }
    }

    // MARK: Trouble

    /// What has fallen behind must not be believed by anybody later: it goes.
    private func fail(_ reason: String) {
        if case .failing = state {
        } else {
            note(true, "the directory of checkpoints is not kept on disk: \(reason); tried again until it can be")
        }
        state = .failing(reason)
        let file = file
        onWorker {
            do throws(OSError) {
                try file.erase()
                return nil
            } catch {
                return error
            }
        } then: { [unowned self] (error: OSError?) in
            loop.schedule(after: Self.retryDelay) { [weak self] in self?.beginAnew(isErased: error == nil) }
        }
    }

    private func beginAnew(isErased: Bool) {
        guard !isClosed, case .failing(let reason) = state else { return }
        guard isErased else { return fail(reason) }
        records = DirectoryRecords()
        mustReplace = true
        let file = file
        onWorker {
            do throws(DatabaseError) {
                _ = try file.load()
                return nil
            } catch {
                return error
            }
        } then: { [unowned self] (error: DatabaseError?) in
            if let error { return fail("\(error)") }
            state = .following
            note(false, "the directory of checkpoints is kept on disk again: \(path)")
        }
    }

    private func giveUp(_ reason: String) {
        state = .unusable(reason)
        note(true, "the directory of checkpoints is not kept on disk: \(reason); what is there is left as it is")
    }

    private func onWorker<Value: Sendable>(
        _ work: @escaping @Sendable () -> Value, then: @escaping (Value) -> Void
    ) {
        guard !isClosed else { return }
        let isTaken = loop.runSlow(work) { [weak self] value in
            guard let self, !isClosed else { return }
            then(value)
        }
        guard !isTaken else { return }
        // The worker has too much to do; this is not urgent.
        loop.schedule(after: .milliseconds(100)) { [weak self] in self?.onWorker(work, then: then) }
    }
}

extension DatabaseEngine {
    /// As cluster.yaml names it.
    init(_ choice: ClusterDescription.Database) {
        switch choice {
        case .sqlite: self = .sqlite
        case .berkeleydb: self = .berkeleydb
        case .gdbm: self = .gdbm
        }
    }
}
