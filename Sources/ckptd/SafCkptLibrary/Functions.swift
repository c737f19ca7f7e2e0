import CSAF
import CkptLibrary
import DBAL
import OSAL
import SAFHandles
import SAFTypes

// safCkptLibrary.h, function by function.

private func text(_ text: UnsafePointer<CChar>?, max: Int = .max) throws(Failure) -> SystemString {
    guard let text else { throw Failure(.invalidParam) }
    let bytes = UnsafeRawPointer(text).assumingMemoryBound(to: UInt8.self)
    var count = 0
    while count <= max, bytes[count] != 0 { count += 1 }
    guard (1...max).contains(count) else { throw Failure(.invalidParam) }
    return SystemString(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
}

private func withElement(
    _ handle: SafCkptLibraryDataSetHandleT, _ key: UnsafePointer<SafCkptLibraryKeyT>?,
    _ body: (DataSet, UnsafePointer<SafCkptLibraryKeyT>) throws(Failure) -> Void
) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(handle)
        guard let key else { throw Failure(.invalidParam) }
        try body(set, key)
    }
}

/// PATH_MAX of Linux, its NUL excluded.
private let pathMax = 4_095

@c @implementation
public func safCkptLibraryOpen(
    _ path: UnsafePointer<CChar>!, _ flags: SaUint32T, _ libraryHandle: UnsafeMutablePointer<SafCkptLibraryHandleT>!
) -> SaAisErrorT {
    result { () throws(Failure) in
        guard let libraryHandle else { throw Failure(.invalidParam) }
        let path = try text(path, max: pathMax)
        guard flags & ~SaUint32T(SAF_CKPT_LIBRARY_CREATE) == 0 else { throw Failure(.badFlags) }
        libraryHandle.pointee = try Library(path, creating: flags != 0).handle
    }
}

@c @implementation
public func safCkptLibraryClose(_ libraryHandle: SafCkptLibraryHandleT) -> SaAisErrorT {
    result { () throws(Failure) in try Library.of(libraryHandle).close() }
}

@c @implementation
public func safCkptLibraryCheck(_ path: UnsafePointer<CChar>!) -> SaAisErrorT {
    result { () throws(Failure) in
        guard LibraryStore.hasFile(try text(path, max: pathMax)) else { throw Failure(.notExist) }
    }
}

@c @implementation
public func safCkptLibraryDelete(_ path: UnsafePointer<CChar>!) -> SaAisErrorT {
    result { () throws(Failure) in try Library.delete(text(path, max: pathMax)) }
}

@c @implementation
public func safCkptLibraryDataSetOpen(
    _ libraryHandle: SafCkptLibraryHandleT, _ name: UnsafePointer<CChar>!,
    _ serialisers: UnsafePointer<SafCkptLibrarySerialiserT>!, _ numberOfSerialisers: SaUint32T,
    _ cookie: UnsafeMutableRawPointer!, _ dataSetHandle: UnsafeMutablePointer<SafCkptLibraryDataSetHandleT>!
) -> SaAisErrorT {
    result { () throws(Failure) in
        let library = try Library.of(libraryHandle)
        guard let dataSetHandle, serialisers != nil || numberOfSerialisers == 0 else { throw Failure(.invalidParam) }
        let given = UnsafeBufferPointer(start: serialisers, count: Int(numberOfSerialisers))
        let set = try DataSet(library, text(name, max: LibraryRecord.nameBytesMax), given, cookie)
        dataSetHandle.pointee = set.handle
    }
}

@c @implementation
public func safCkptLibraryDataSetClose(_ dataSetHandle: SafCkptLibraryDataSetHandleT) -> SaAisErrorT {
    result { () throws(Failure) in try DataSet.of(dataSetHandle).close() }
}

private func apply(_ step: LibraryStore.Step, _ set: DataSet) throws(Failure) {
    try stored { () throws(LibraryCheckpointError) in try set.library.store.apply([step]) }
}

@c @implementation
public func safCkptLibraryDataSetWrite(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ value: UnsafeRawPointer!, _ version: SaUint32T
) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(dataSetHandle)
        try apply(.change(set.put(nil, value, version: version)), set)
    }
}

@c @implementation
public func safCkptLibraryDataSetRead(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ value: UnsafeMutableRawPointer!
) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(dataSetHandle)
        try set.read(set.content(nil), nil, to: value)
    }
}

@c @implementation
public func safCkptLibraryDataSetCheck(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ version: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(dataSetHandle)
        var found: SaUint32T = 0
        do throws(Failure) {
            found = try set.content(nil).version
        } catch {
            guard error.code == SA_AIS_ERR_NOT_EXIST, try !set.elements(limit: 1).isEmpty else { throw error }
        }
        if let version { version.pointee = found }
    }
}

@c @implementation
public func safCkptLibraryDataSetDelete(_ dataSetHandle: SafCkptLibraryDataSetHandleT) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(dataSetHandle)
        try apply(.removeAll(set.name), set)
    }
}

@c @implementation
public func safCkptLibraryElementWrite(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ key: UnsafePointer<SafCkptLibraryKeyT>!,
    _ value: UnsafeRawPointer!, _ version: SaUint32T
) -> SaAisErrorT {
    withElement(dataSetHandle, key) { set, key throws(Failure) in
        try apply(.change(set.put(key, value, version: version)), set)
    }
}

@c @implementation
public func safCkptLibraryElementRead(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ key: UnsafePointer<SafCkptLibraryKeyT>!,
    _ value: UnsafeMutableRawPointer!
) -> SaAisErrorT {
    withElement(dataSetHandle, key) { set, key throws(Failure) in
        try set.read(set.content(key), key, to: value)
    }
}

@c @implementation
public func safCkptLibraryElementCheck(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ key: UnsafePointer<SafCkptLibraryKeyT>!,
    _ version: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    withElement(dataSetHandle, key) { set, key throws(Failure) in
        let found = try set.content(key).version
        if let version { version.pointee = found }
    }
}

@c @implementation
public func safCkptLibraryElementDelete(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ key: UnsafePointer<SafCkptLibraryKeyT>!
) -> SaAisErrorT {
    withElement(dataSetHandle, key) { set, key throws(Failure) in
        try apply(.change(.delete(key: LibraryRecord.key(set.name, element: key.pointee.bytes))), set)
    }
}

@c @implementation
public func safCkptLibraryElementsRead(
    _ dataSetHandle: SafCkptLibraryDataSetHandleT, _ after: UnsafePointer<SafCkptLibraryKeyT>!,
    _ elementsMax: SaUint32T, _ value: UnsafeMutableRawPointer!, _ numberOfElements: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    result { () throws(Failure) in
        let set = try DataSet.of(dataSetHandle)
        guard !set.isBytes else { throw Failure(.invalidParam) }
        var count: SaUint32T = 0
        defer { if let numberOfElements { numberOfElements.pointee = count } }
        for content in try set.elements(after: after, limit: elementsMax == 0 ? .max : Int(elementsMax)) {
            try content.key.withUnsafeBufferPointer { (bytes) throws(Failure) in
                var key = SafCkptLibraryKeyT(keyLen: SaUint16T(bytes.count), key: bytes.baseAddress)
                try set.read(content, &key, to: value)
            }
            count += 1
        }
    }
}

@c @implementation
public func safCkptLibraryUpdate(
    _ libraryHandle: SafCkptLibraryHandleT, _ changes: UnsafePointer<SafCkptLibraryChangeT>!,
    _ numberOfChanges: SaUint32T, _ erroneousIndex: UnsafeMutablePointer<SaUint32T>!
) -> SaAisErrorT {
    result { () throws(Failure) in
        let library = try Library.of(libraryHandle)
        guard let changes, numberOfChanges > 0 else { throw Failure(.invalidParam) }
        var steps: [LibraryStore.Step] = []
        for index in 0..<Int(numberOfChanges) {
            do throws(Failure) {
                steps.append(try step(changes[index], of: library))
            } catch {
                if let erroneousIndex { erroneousIndex.pointee = SaUint32T(index) }
                throw error
            }
        }
        try stored { () throws(LibraryCheckpointError) in try library.store.apply(steps) }
    }
}

private func step(_ change: SafCkptLibraryChangeT, of library: Library) throws(Failure) -> LibraryStore.Step {
    let set = try DataSet.of(change.dataSet)
    guard set.library === library else { throw Failure(.invalidParam) }
    switch change.kind {
    case SAF_CKPT_LIBRARY_WRITE: return .change(try set.put(change.key, change.value, version: change.version))
    case SAF_CKPT_LIBRARY_DELETE:
        guard let key = change.key else { return .removeAll(set.name) }
        return .change(.delete(key: LibraryRecord.key(set.name, element: try key.pointee.bytes)))
    default: throw Failure(.invalidParam)
    }
}
