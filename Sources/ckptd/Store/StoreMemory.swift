public import CkptLayout
public import OSAL
import Synchronization

/// The memory a checkpoint lives in: every change of it goes through these primitives, so that a test can stop the
/// world after any one of them. What is read is input: others may have written it.
public protocol StoreMemory {
    var count: Int { get }
    /// Valid until the next ``grow(to:)``.
    var bytes: UnsafeRawBufferPointer { get }
    mutating func copy(_ source: UnsafeRawBufferPointer, to offset: Int)
    mutating func zero(at offset: Int, count: Int)
    /// One store that nobody can see half of; all earlier stores are visible before it, all later ones after it.
    mutating func publish(_ value: UInt64, at offset: Int)
    /// At least `count` bytes, the new ones of any content.
    mutating func grow(to count: Int) throws(StoreError)
    /// Gives back what lies behind `count` bytes, if that is possible.
    mutating func shrink(to count: Int)
}

extension StoreMemory {
    func load<Value: FixedWidthInteger>(_ type: Value.Type = Value.self, at offset: Int) -> Value {
        Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    mutating func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        withUnsafeBytes(of: value.littleEndian) { copy($0, to: offset) }
    }

    func slice(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
    }

    func checksum(_ offset: Int, _ count: Int) -> UInt32 { crc32c(slice(offset, count)) }
}

/// A RAM file, mapped shared.
public struct MappedMemory: StoreMemory {
    private var file: SharedFile
    private var mapping: Mapping
    private let path: String

    /// - Parameter path: where the file is found, now or soon.
    public init(_ file: SharedFile, path: String) {
        self.file = file
        self.path = path
        mapping = file.mapping
    }

    public var count: Int { mapping.count }
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(mapping.bytes) }

    public mutating func copy(_ source: UnsafeRawBufferPointer, to offset: Int) {
        UnsafeMutableRawBufferPointer(rebasing: mapping.bytes[offset..<(offset + source.count)]).copyMemory(
            from: source)
    }

    public mutating func zero(at offset: Int, count: Int) {
        if count > 0 { (mapping.base + offset).initializeMemory(as: UInt8.self, repeating: 0, count: count) }
    }

    public mutating func publish(_ value: UInt64, at offset: Int) {
        atomicMemoryFence(ordering: .acquiringAndReleasing)
        mapping.base.atomic(UInt64.self, at: offset).pointee.store(value.littleEndian, ordering: .releasing)
        atomicMemoryFence(ordering: .acquiringAndReleasing)
    }

    public mutating func grow(to count: Int) throws(StoreError) {
        let pages = (count + Mapping.pageBytes - 1) / Mapping.pageBytes * Mapping.pageBytes
        do throws(OSError) {
            mapping = try file.grow(to: pages)
        } catch {
            throw error.isNoSpace ? .noSpace("\(error)") : .system("\(error)")
        }
    }

    public mutating func shrink(to count: Int) {
        let pages = (count + Mapping.pageBytes - 1) / Mapping.pageBytes * Mapping.pageBytes
        guard pages < self.count else { return }
        do throws(OSError) {
            // Another file: who still reads this one must not find its end.
            let smaller = try SharedFile.create(path, size: pages, mode: 0o600) { new in
                new.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<pages]))
            }
            publish(ServiceWord.retired.rawValue, at: Layout.serviceOffset)
            (file, mapping) = (smaller, smaller.mapping)
        } catch {
            return  // it stays as large as it was, and is used again
        }
    }
}
