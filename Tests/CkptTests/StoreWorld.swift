import CkptProtocol
import EngineKit
import SAFTypes

@testable import CkptLayout
@testable import CkptStore

/// Memory that can show what a reader would find had its writer died after any one of its stores.
///
/// Copies are done eight bytes at a time, forwards or backwards: nobody promises an order within a copy.
final class CrashRecorder {
    var isRecording = false
    var isBackwards = false
    var images: [[UInt8]] = []
    var growthLimit = Int.max
}

struct TestMemory: StoreMemory {
    private var buffer: UnsafeMutableRawBufferPointer
    let recorder: CrashRecorder

    init(_ content: [UInt8] = [], recorder: CrashRecorder = CrashRecorder()) {
        buffer = .allocate(byteCount: content.count, alignment: 64)
        buffer.copyBytes(from: content)
        self.recorder = recorder
    }

    /// Tests leave the small buffers to the process's end but for the ones that grow.
    var count: Int { buffer.count }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(buffer) }
    var content: [UInt8] { Array(buffer) }
    func free() { buffer.deallocate() }

    private func note() { if recorder.isRecording { recorder.images.append(content) } }

    mutating func copy(_ source: UnsafeRawBufferPointer, to offset: Int) {
        if !recorder.isRecording {
            UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<(offset + source.count)]).copyMemory(from: source)
            return
        }
        let kept = Array(source)
        var pieces = Array(stride(from: 0, to: kept.count, by: 8))
        if recorder.isBackwards { pieces.reverse() }
        for start in pieces {
            for index in start..<min(start + 8, kept.count) { buffer[offset + index] = kept[index] }
            note()
        }
    }

    mutating func zero(at offset: Int, count: Int) {
        let zeroes = [UInt8](repeating: 0, count: count)
        zeroes.withUnsafeBytes { copy($0, to: offset) }
    }

    mutating func publish(_ value: UInt64, at offset: Int) {
        buffer.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
        note()
    }

    mutating func grow(to count: Int) throws(StoreError) {
        guard count <= recorder.growthLimit else { throw .noSpace("test limit") }
        guard count > buffer.count else { return }
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        for index in 0..<count { larger[index] = index < buffer.count ? buffer[index] : 0xA5 }
        buffer.deallocate()
        buffer = larger
    }

    mutating func shrink(to count: Int) {
        guard count < buffer.count else { return }
        let smaller = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        smaller.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        buffer.deallocate()
        buffer = smaller
        note()
    }
}

/// What a checkpoint should hold: the simplest thing that can be right.
struct Model: Equatable {
    struct Section: Equatable {
        var data: [UInt8]
        var expiration: SaTime
        var serial: UInt64
    }
    var sections: [SectionID: Section] = [:]
    var change: UInt64 = 0
    var openers: Set<HandleID> = []
    var executed: Set<UInt64> = []

    mutating func apply(_ transaction: Transaction, payload: [UInt8]) {
        for step in transaction.steps {
            let operation = step.operation
            let data = Array(payload[operation.data.offset..<(operation.data.offset + operation.data.count)])
            switch operation.kind {
            case .create:
                sections[operation.id] = Section(data: data, expiration: operation.expiration, serial: step.serial)
            case .write:
                var old = sections[operation.id]!.data
                let end = Int(operation.offset) + data.count
                if !data.isEmpty, old.count < end { old += [UInt8](repeating: 0, count: end - old.count) }
                for (index, byte) in data.enumerated() { old[Int(operation.offset) + index] = byte }
                sections[operation.id]!.data = old
            case .overwrite: sections[operation.id]!.data = data
            case .setExpiration: sections[operation.id]!.expiration = operation.expiration
            case .delete, .expire: sections[operation.id] = nil
            case .require, .tag, .put: break  // no steps
            }
        }
        change = transaction.state.change
        for step in transaction.openers { if let opener = step.opener { openers.insert(opener.handle) } }
        if let execution = transaction.execution { executed.insert(execution.number) }
    }
}

/// A store with the bookkeeping that the engine does in real life.
struct StoreWorld {
    typealias Image = CheckpointImage<TestMemory>
    var image: Image
    var model = Model()
    var slots: [SectionID: Int] = [:]
    var openerSlots = 1
    var nextNumber: UInt64 = 100
    var random: SeededRandom

    static let opener = OpenerRecord(
        session: ClientSession(high: 1, low: 2), handle: HandleID(rawValue: 7), openNumber: 99, processID: 42,
        processStart: 4242, flags: [.read, .write, .create])

    static func new(sectionsMax: UInt32 = 64) -> NewCheckpoint {
        NewCheckpoint(
            checkpoint: CheckpointID(rawValue: 0x1234), name: SaName("safCkpt=test")!,
            attributes: CreationAttributes(
                checkpointSize: 1 << 20, retentionDuration: 5, sectionsMax: sectionsMax, sectionSizeMax: 1 << 16),
            createdAt: 1_000,
            state: .init(retentionDuration: 5, nextSerial: sectionsMax == 1 ? 2 : 1, hasActiveReplica: true),
            openers: [opener])
    }

    init(seed: UInt64, recorder: CrashRecorder = CrashRecorder(), limits: StoreLimits = .init()) throws {
        random = SeededRandom(seed: seed)
        image = try Image(creating: Self.new(), in: TestMemory(recorder: recorder), limits: limits)
        model.openers = [Self.opener.handle]
    }

    /// A random valid step with its payload.
    mutating func step(operationsMax: Int = 4, sizeMax: Int = 300) -> (Transaction, [UInt8]) {
        var payload = [UInt8](repeating: 0xEE, count: 3)
        var transaction = Transaction(checkpoint: image.checkpoint, time: 5_000, state: image.state)
        var known = slots
        var sizes = model.sections.mapValues { $0.data.count }
        for _ in 0..<Int.random(in: 1...operationsMax, using: &random) {
            let data = (0..<Int.random(in: 0...sizeMax, using: &random)).map { _ in
                UInt8.random(in: .min ... .max, using: &random)
            }
            let slice = PayloadSlice(offset: payload.count, count: data.count)
            let existing = known.keys.sorted()
            if existing.isEmpty || (existing.count < 12 && random.chance(percent: 25)) {
                let id = SectionID(
                    "s\(transaction.state.nextSerial)" + (random.chance(percent: 20) ? "-with-a-longer-id" : ""))
                let slot = (0...).first { candidate in !known.values.contains(candidate) }!
                transaction.steps.append(
                    .init(
                        .init(kind: .create, id: id, expiration: .saTimeEnd, data: slice), slot: slot,
                        serial: transaction.state.nextSerial))
                transaction.state.nextSerial += 1
                known[id] = slot
                sizes[id] = data.count
                payload += data
                continue
            }
            let id = existing[Int.random(in: 0..<existing.count, using: &random)]
            var operation = SectionOperation(kind: .write, id: id)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                operation.offset = UInt64.random(in: 0...UInt64(sizes[id]! + 40), using: &random)
                operation.data = slice
                if !data.isEmpty { sizes[id] = max(sizes[id]!, Int(operation.offset) + data.count) }
            case 5..<8: (operation.kind, operation.data, sizes[id]) = (.overwrite, slice, data.count)
            case 8: (operation.kind, operation.expiration) = (.setExpiration, 77_000)
            default: operation.kind = .delete
            }
            transaction.steps.append(.init(operation, slot: known[id]!, serial: 0))
            if operation.kind == .delete { known[id] = nil }
            if operation.data.count > 0 { payload += data }
        }
        transaction.state.change += 1
        transaction.execution = .init(
            openerSlot: 0, index: Int(nextNumber % 28), number: nextNumber, writer: Self.opener.writer)
        nextNumber += 1
        if random.chance(percent: 10) {
            var opener = Self.opener
            opener.handle = HandleID(rawValue: 1_000 + nextNumber)
            transaction.openers = [.init(slot: openerSlots, opener: opener)]
            openerSlots += 1
        }
        return (transaction, payload)
    }

    mutating func commit(_ transaction: Transaction, _ payload: [UInt8]) throws {
        var failure: StoreError?
        payload.withUnsafeBytes { bytes in
            do throws(StoreError) { try image.commit(transaction, payload: bytes, isUpdate: true) } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        model.apply(transaction, payload: payload)
        for step in transaction.steps {
            slots[step.operation.id] = step.operation.kind == .delete ? nil : step.slot
        }
    }

    /// What is in an image, read through its public face.
    static func contents(_ image: Image) throws -> Model {
        let restored = image.restored()
        var model = Model()
        model.change = restored.state.change
        model.openers = Set(restored.openers.map(\.record.handle))
        for opener in restored.openers { model.executed.formUnion(opener.executed.map(\.number).filter { $0 != 0 }) }
        for section in restored.sections {
            let data = try image.read(slot: section.slot, offset: 0, count: Int(section.descriptor.size))
            model.sections[section.descriptor.id] = .init(
                data: Array(data), expiration: section.descriptor.expiration, serial: section.descriptor.serial)
        }
        return model
    }

    static func recover(_ content: [UInt8], limits: StoreLimits = .init()) throws -> Image {
        try Image(recovering: TestMemory(content), limits: limits)
    }
}
