import CSAF
import CkptLibrary
import DBAL
import OSAL
import SAFHandles
import SAFTypes

/// A data set with the serialisers of this program.
final class DataSet: HandleObject, @unchecked Sendable {
    private static let kind: UInt64 = 2

    let library: Library
    let name: SystemString
    /// None: bytes as they are, in version 1.
    private let serialisers: [SafCkptLibrarySerialiserT]
    private let cookie: UnsafeMutableRawPointer?

    private static let versionOfBytes: UInt32 = 1
    var isBytes: Bool { serialisers.isEmpty }

    init(
        _ library: Library, _ name: SystemString, _ serialisers: UnsafeBufferPointer<SafCkptLibrarySerialiserT>,
        _ cookie: UnsafeMutableRawPointer?
    ) throws(Failure) {
        for index in serialisers.indices {
            let one = serialisers[index]
            guard one.version != 0, one.serialise != nil, one.deserialise != nil else { throw Failure(.invalidParam) }
            for other in serialisers[..<index] where other.version == one.version { throw Failure(.invalidParam) }
        }
        self.library = library
        self.name = name
        self.serialisers = Array(serialisers)
        self.cookie = cookie
        super.init(kind: Self.kind)
        do throws(AisError) { try HandleTable.shared.add(self) } catch { throw Failure(error) }
        library.add(self)
    }

    static func of(_ handle: UInt64) throws(Failure) -> DataSet {
        do throws(AisError) {
            return unsafeDowncast(try HandleTable.find(handle, kind: kind), to: DataSet.self)
        } catch {
            throw Failure(error)
        }
    }

    func close() throws(Failure) {
        guard HandleTable.shared.remove(self) else { throw Failure(.badHandle) }
        library.forget(self)
    }

    // MARK: Writing

    /// The change that writes a value.
    func put(
        _ key: UnsafePointer<SafCkptLibraryKeyT>?, _ value: UnsafeRawPointer?, version: UInt32
    ) throws(Failure) -> DatabaseChange {
        let place = LibraryRecord.key(name, element: try key.map { (key) throws(Failure) in try key.pointee.bytes })
        if isBytes {
            guard version == 0 || version == Self.versionOfBytes else { throw Failure(.version) }
            guard let value else { throw Failure(.invalidParam) }
            let bytes = value.load(as: SafCkptLibraryBytesT.self)
            return try Self.put(place, Self.versionOfBytes, bytes.data, bytes.dataSize)
        }
        guard let serialiser = serialiser(version) else { throw Failure(.version) }
        var data: UnsafeMutableRawPointer?
        var size: SaSizeT = 0
        try Failure.check(serialiser.serialise(key, value, &data, &size, cookie))
        defer { ForeignMemory.free(data) }
        return try Self.put(place, serialiser.version, data, size)
    }

    private static func put(
        _ key: [UInt8], _ version: UInt32, _ data: UnsafeMutableRawPointer?, _ size: SaSizeT
    ) throws(Failure) -> DatabaseChange {
        guard size <= SaSizeT(LibraryRecord.contentBytesMax), size == 0 || data != nil else {
            throw Failure(.invalidParam)
        }
        // The record, and what SQLite makes of it.
        guard ForeignMemory.canAllocate(2 * Int(size)) else { throw Failure(.noMemory) }
        return LibraryRecord.put(key, version: version, UnsafeRawBufferPointer(start: data, count: Int(size)))
    }

    /// The newest for 0.
    private func serialiser(_ version: UInt32) -> SafCkptLibrarySerialiserT? {
        var found: SafCkptLibrarySerialiserT?
        for one in serialisers where version == 0 ? one.version > found?.version ?? 0 : one.version == version {
            found = one
        }
        return found
    }

    // MARK: Reading

    /// Throws `.notExist`.
    func content(_ key: UnsafePointer<SafCkptLibraryKeyT>?) throws(Failure) -> LibraryStore.Content {
        let element = try key.map { (key) throws(Failure) in try key.pointee.bytes }
        let content = try stored { () throws(LibraryCheckpointError) in
            try library.store.content(of: name, element: element)
        }
        guard let content else { throw Failure(.notExist) }
        return content
    }

    func elements(
        after: UnsafePointer<SafCkptLibraryKeyT>? = nil, limit: Int
    ) throws(Failure) -> [LibraryStore.Content] {
        let after = try after.map { (key) throws(Failure) in try key.pointee.bytes }
        return try stored { () throws(LibraryCheckpointError) in
            try library.store.elements(of: name, after: after, limit: limit)
        }
    }

    func read(
        _ content: LibraryStore.Content, _ key: UnsafePointer<SafCkptLibraryKeyT>?, to value: UnsafeMutableRawPointer?
    ) throws(Failure) {
        if isBytes {
            guard content.version == Self.versionOfBytes else { throw Failure(.version) }
            guard let value else { throw Failure(.invalidParam) }
            var bytes = SafCkptLibraryBytesT()
            if content.bytes.count > 0 {
                guard let copy = content.bytes.withUnsafeBytes({ ForeignMemory.copy($0) }) else {
                    throw Failure(.noMemory)
                }
                bytes = SafCkptLibraryBytesT(data: copy, dataSize: SaSizeT(content.bytes.count))
            }
            value.storeBytes(of: bytes, as: SafCkptLibraryBytesT.self)
            return
        }
        guard content.version != 0, let serialiser = serialiser(content.version) else { throw Failure(.version) }
        let code = content.bytes.withUnsafeBytes {
            serialiser.deserialise(key, $0.baseAddress, SaSizeT($0.count), value, cookie)
        }
        try Failure.check(code)
    }
}

extension SafCkptLibraryKeyT {
    var bytes: [UInt8] {
        get throws(Failure) {
            guard let key, keyLen > 0, Int(keyLen) <= LibraryRecord.keyBytesMax else { throw Failure(.invalidParam) }
            return Array(UnsafeBufferPointer(start: key, count: Int(keyLen)))
        }
    }
}
