import EngineKit
import OSAL
import SAFTypes

@testable import CkptLayout

/// Memory that can show what others would find had its writer died after any one of its stores.
///
/// Copies are done eight bytes at a time, forwards or backwards: nobody promises an order within a copy.
final class RecordedRegion: DirectMemory {
    private let buffer: UnsafeMutableRawBufferPointer
    var isRecording = false
    var isBackwards = false
    var images: [[UInt8]] = []

    init(count: Int) {
        buffer = .allocate(byteCount: count, alignment: 64)
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
    }

    convenience init(_ image: [UInt8]) {
        self.init(count: image.count)
        buffer.copyBytes(from: image)
    }

    deinit { buffer.deallocate() }

    var base: UnsafeMutableRawPointer { buffer.baseAddress! }

    private func note() { if isRecording { images.append(Array(buffer)) } }

    func store(_ value: UInt64, at offset: Int) {
        MappedRegion(base: base).store(value, at: offset)
        note()
    }

    func exchange(_ expected: UInt64, for desired: UInt64, at offset: Int) -> Bool {
        let isDone = MappedRegion(base: base).exchange(expected, for: desired, at: offset)
        note()
        return isDone
    }

    func setBits(_ bits: UInt64, at offset: Int) -> UInt64 {
        let value = MappedRegion(base: base).setBits(bits, at: offset)
        note()
        return value
    }

    func copy(from source: UnsafeRawPointer, to offset: Int, count: Int) {
        let kept = Array(UnsafeRawBufferPointer(start: source, count: count))
        var pieces = Array(stride(from: 0, to: count, by: 8))
        if isBackwards { pieces.reverse() }
        for start in pieces {
            for index in start..<min(start + 8, count) { buffer[offset + index] = kept[index] }
            note()
        }
    }

    func copyBlocks(from source: UnsafeRawPointer, to offset: Int, count: Int, first: Int, checksums: Int) {
        var data = [UInt8](repeating: 0, count: count * DirectLayout.blockBytes)
        var found = [UInt32](repeating: 0, count: count)
        data.withUnsafeMutableBytes {
            OSAL.copyBlocks(
                to: $0.baseAddress!, from: source, count: count, first: UInt32(first), checksums: &found)
        }
        data.withUnsafeBytes { copy(from: $0.baseAddress!, to: offset, count: data.count) }
        found.withUnsafeBytes { copy(from: $0.baseAddress!, to: checksums, count: count * 4) }
    }
}

/// A write and what it makes of a section.
struct DirectStep {
    var replaces: Bool
    var offset: Int
    var data: [UInt8]

    static func random(limit: Int, size: Int, using random: inout SeededRandom) -> DirectStep {
        let replaces = random.chance(percent: 25)
        let most = random.chance(percent: 50) ? limit : min(limit, 700)
        let count = Int.random(in: 0...most, using: &random)
        let offset = replaces ? 0 : Int.random(in: 0...(limit - count), using: &random)
        let fill = UInt8.random(in: 1 ... .max, using: &random)
        return DirectStep(
            replaces: replaces, offset: offset, data: (0..<count).map { UInt8(truncatingIfNeeded: $0) &+ fill })
    }

    func apply(to content: inout [UInt8]) {
        if replaces { return content = data }
        if data.isEmpty { return }
        while content.count < offset + data.count { content.append(0) }
        content.replaceSubrange(offset..<(offset + data.count), with: data)
    }

    func write<Memory: DirectMemory>(
        to region: DirectRegion<Memory>, counter: UnsafeMutableRawPointer
    ) throws(DirectRefusal) {
        var refusal: DirectRefusal?
        data.withUnsafeBytes { bytes in
            do throws(DirectRefusal) {
                _ = try region.write(
                    .init(replaces: replaces, offset: offset, data: bytes, time: 7), counting: counter)
            } catch {
                refusal = error
            }
        }
        if let refusal { throw refusal }
    }
}

/// What a region holds.
func content<Memory: DirectMemory>(_ region: DirectRegion<Memory>) throws(DirectRefusal) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: region.limit)
    var outcome: Result<DirectView, DirectRefusal> = .failure(.busy)
    bytes.withUnsafeMutableBytes { target in
        do throws(DirectRefusal) {
            outcome = .success(try region.read(at: 0, into: target, frozen: true))
        } catch {
            outcome = .failure(error)
        }
    }
    return Array(bytes[..<(try outcome.get().copied)])
}
