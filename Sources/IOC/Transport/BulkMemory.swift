import EngineKit
import OSAL
import SAFTypes
import Synchronization

/// Memory into which a client writes its large bodies, one at a time, and from which the server copies them.
///
/// A body in a memory of its own costs pages that are made, mapped and freed each time: 380 of 545 µs for 1 MiB. These
/// pages stay. The client hands it over once (``FrameKind/memory``); then a frame with ``FrameFlags/bulk`` says that
/// its body is here. It is sealed against another size, not against another content: the receiver copies first.
///
///     0    taken u64   how often the receiver took what the memory held, its arrival included; written by it
///     4096 the body
enum BulkMemory {
    static let bodyOffset = 4096
    /// Bodies up to here; one section of 1 MiB with its request fits well, and so do four.
    static let bodyMax = 4 << 20
    static var size: Int { bodyOffset + bodyMax }

    @inline(__always)
    static func takenWord(_ mapping: Mapping) -> UnsafeMutablePointer<Atomic<UInt64>> { sharedWord(mapping.base, 0) }
}

/// The client's side.
final class BulkWriter {
    let memory: Descriptor
    private let mapping: Mapping
    private var given: UInt64 = 1
    private var reserved = 0

    init() throws(OSError) {
        memory = try AnonymousMemory.create(name: "ioc-bulk", size: BulkMemory.size, seal: .size)
        mapping = try Mapping.map(memory.raw, count: BulkMemory.size, writable: true)
    }

    /// Puts a body there; false when the one before is still there, or there is no memory for one of this size.
    func put(_ body: UnsafeRawBufferPointer) -> Bool {
        guard BulkMemory.takenWord(mapping).pointee.load(ordering: .acquiring) == given,
            body.count <= BulkMemory.bodyMax,
            let source = body.baseAddress, reserve(body.count)
        else { return false }
        (mapping.base + BulkMemory.bodyOffset).copyMemory(from: source, byteCount: body.count)
        given += 1
        return true
    }

    /// What could not be placed in the ring after all was not given.
    func takeBack() { given -= 1 }

    /// Has pages before they are touched: without any left that would be SIGBUS.
    private func reserve(_ count: Int) -> Bool {
        guard count > reserved else { return true }
        let end = BulkMemory.bodyOffset + count
        do throws(OSError) {
            try AnonymousMemory.reserve(memory.raw, from: reserved == 0 ? 0 : BulkMemory.bodyOffset + reserved, to: end)
        } catch {
            return false
        }
        reserved = count
        return true
    }
}

/// The server's side.
final class BulkReader {
    private let mapping: Mapping
    private var taken: UInt64 = 1

    /// Maps what a client handed over.
    init(_ memory: Int32) throws(OSError) {
        let size = try AnonymousMemory.sealedSize(memory, atLeast: .size)
        guard size == BulkMemory.size else {
            throw OSError(code: 71, call: "mmap", subject: "bulk memory of \(size) bytes, not \(BulkMemory.size)")
        }
        mapping = try Mapping.map(memory, count: size, writable: true)
        confirm()
    }

    /// Copies the body that lies there to `target`, whose size is at least `count`, and gives the memory back.
    func take(_ count: Int, into target: UnsafeMutableRawPointer) {
        target.copyMemory(from: mapping.base + BulkMemory.bodyOffset, byteCount: count)
        taken += 1
        confirm()
    }

    private func confirm() { BulkMemory.takenWord(mapping).pointee.store(taken, ordering: .releasing) }
}
