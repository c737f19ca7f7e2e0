import CSAF
import CkptLibrary
import DBAL
import OSAL
import SAFHandles
import SAFTypes

/// An open library checkpoint. Thread-safe.
final class Library: HandleObject, @unchecked Sendable {
    private static let kind: UInt64 = 1

    let store: LibraryStore
    private let dataSets = Lock(Numbered<DataSet>())

    init(_ path: SystemString, creating isNew: Bool) throws(Failure) {
        store = try Self.open(path, creating: isNew)
        super.init(kind: Self.kind)
        do throws(AisError) { try HandleTable.shared.add(self) } catch {
            store.close()
            throw Failure(error)
        }
    }

    static func of(_ handle: UInt64) throws(Failure) -> Library {
        do throws(AisError) {
            return unsafeDowncast(try HandleTable.find(handle, kind: kind), to: Library.self)
        } catch {
            throw Failure(error)
        }
    }

    private static func open(_ path: SystemString, creating isNew: Bool) throws(Failure) -> LibraryStore {
        try stored { () throws(LibraryCheckpointError) in
            try LibraryStore.open(path, creating: isNew) { () throws(DatabaseError) in
                try SQLiteDatabase(path: path, creating: isNew)
            }
        }
    }

    /// Throws for what is open, and for what is none.
    static func delete(_ path: SystemString) throws(Failure) {
        guard File.exists(path) else { throw Failure(.notExist) }
        do throws(Failure) { try open(path, creating: false).close() } catch {
            // What cannot be read any more may go, and what was never wholly made.
            if error.code != SA_AIS_ERR_LIBRARY, error.code != SA_AIS_ERR_NOT_EXIST { throw error }
        }
        try stored { () throws(LibraryCheckpointError) in try LibraryStore.deleteFiles(path) }
    }

    func close() throws(Failure) {
        guard HandleTable.shared.remove(self) else { throw Failure(.badHandle) }
        store.close()
        let open = dataSets.withLock { sets -> [DataSet] in
            defer { sets = Numbered() }
            return sets.inOrder
        }
        for set in open { HandleTable.shared.remove(set) }
    }

    /// A data set of it has got its handle.
    func add(_ set: DataSet) { dataSets.withLock { $0[set.handle] = set } }

    func forget(_ set: DataSet) { dataSets.withLock { _ = $0.remove(set.handle) } }
}
