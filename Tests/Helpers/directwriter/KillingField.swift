import CkptLayout
import EngineKit
import OSAL
import SAFTypes
import Synchronization

struct Wrong: Error { var text: String }

/// Sections in memory shared with writers that are forked, not started: ten thousand programs would take minutes. A
/// child of fork() may do little; writing shared memory is among it, as this program has one thread and no tasks.
final class KillingField {
    /// How a section is filled in the second kind of run: by its number alone.
    static let limits = [100, 600, 5_000, 40_000]
    let fork: @convention(c) () -> Int32
    let mapping: Mapping
    private(set) var places: [DirectPlace] = []
    var random: SeededRandom

    // Words of the page's free part: the child has begun; survivors shall end.
    var begun: UnsafeMutablePointer<Atomic<UInt32>> { mapping.base.atomic(at: 1024) }
    private var isOver: UnsafeMutablePointer<Atomic<UInt32>> { mapping.base.atomic(at: 1088) }

    init(seed: UInt64, isTold: Bool = false) throws {
        random = SeededRandom(seed: seed)
        fork = try DynamicLibrary("libc.so.6").function("fork")
        var offset = DirectLayout.headerBytes
        for (index, limit) in Self.limits.enumerated() {
            places.append(DirectPlace(offset: offset, limit: limit, grant: UInt64(index) + 1, isTold: isTold))
            offset += places[index].bytes
        }
        let memory = try anonymousMemory(name: "direct", size: (offset + 4095) & ~4095)
        mapping = try Mapping.map(memory.raw, count: (offset + 4095) & ~4095, writable: true)
        for index in places.indices {
            let data = Self.filled(number: 0, count: Self.limits[index] / 2)
            data.withUnsafeBytes { section(index).prepare($0, lastUpdate: 0, change: 0) }
        }
    }

    func section(_ index: Int) -> DirectSection {
        guard let section = DirectSection(places[index], in: mapping.bytes) else { Environment.exit(3) }
        return section
    }

    func read(_ index: Int) throws -> (view: DirectView, bytes: [UInt8]) {
        var bytes = [UInt8](repeating: 0, count: Self.limits[index])
        let view = try bytes.withUnsafeMutableBytes { try section(index).read(at: 0, into: $0) }
        return (view, Array(bytes[..<view.copied]))
    }

    private var counter: UInt64 {
        mapping.base.atomic(UInt64.self, at: DirectLayout.changesOffset).pointee.load(ordering: .acquiring)
    }

    static func filled(number: UInt64, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: (number &+ UInt64($0)) &* 31) }
    }

    // MARK: One writer

    private struct Step {
        var section: Int
        var replaces: Bool
        var offset: Int
        var data: [UInt8]

        init(using random: inout SeededRandom) {
            section = Int.random(in: 0..<KillingField.limits.count, using: &random)
            let limit = KillingField.limits[section]
            replaces = random.chance(percent: 30)
            let count = Int.random(in: 0...(random.chance(percent: 70) ? min(200, limit) : limit), using: &random)
            offset = replaces ? 0 : Int.random(in: 0...(limit - count), using: &random)
            data = KillingField.filled(number: random.next(), count: count)
        }

        func apply(to model: inout [UInt8]) {
            if replaces { return model = data }
            if data.isEmpty { return }
            if model.count < offset + data.count {
                model += [UInt8](repeating: 0, count: offset + data.count - model.count)
            }
            model.replaceSubrange(offset..<(offset + data.count), with: data)
        }
    }

    private func writeForEver(_ steps: inout SeededRandom, owner: UInt32) -> Never {
        begun.pointee.store(1, ordering: .releasing)
        while true {
            let step = Step(using: &steps)
            step.data.withUnsafeBytes { bytes in
                do throws(DirectRefusal) {
                    if step.replaces {
                        _ = try section(step.section).overwrite(bytes, by: owner, time: 1)
                    } else {
                        _ = try section(step.section).write(at: step.offset, bytes, by: owner, time: 1)
                    }
                } catch {
                    Environment.exitImmediately(7)
                }
            }
        }
    }

    /// Each is killed somewhere; every section must be exactly what the writes that were published make of it.
    func killAlone(rounds: Int) throws -> String {
        var models = try places.indices.map { try read($0).bytes }
        var (written, held, inWrite) = (0, 0, 0)
        for round in 0..<rounds {
            let before = counter
            let steps = SeededRandom(seed: random.next())
            begun.pointee.store(0, ordering: .releasing)
            let child = fork()
            if child == 0 {
                var steps = steps
                writeForEver(&steps, owner: DirectLock.owner(process: 1_000, start: UInt64(round)))
            }
            guard child > 0 else { throw Wrong(text: "fork") }
            try killSomewhere(child)
            held += try freeLocks(of: DirectLock.owner(process: 1_000, start: UInt64(round)))
            let found = try places.indices.map { try read($0) }
            let last = found.map(\.view.change).max() ?? 0
            let published = last > before ? Int(last - before) : 0
            if counter > before + UInt64(published) { inWrite += 1 }
            var replay = steps
            for _ in 0..<published {
                let step = Step(using: &replay)
                step.apply(to: &models[step.section])
            }
            for index in places.indices where found[index].bytes != models[index] {
                throw Wrong(text: "round \(round): section \(index) is neither old nor new (\(published) published)")
            }
            written += published
        }
        return "ok: \(rounds) killed, \(written) writes, \(held) locks held, \(inWrite) between counting and publishing"
    }

    func killSomewhere(_ child: Int32) throws {
        let deadline = MonotonicClock.now() + .seconds(30)
        while begun.pointee.load(ordering: .acquiring) == 0 {
            guard MonotonicClock.now() < deadline else { throw Wrong(text: "the writer did not begin") }
            OSThread.yield()
        }
        let end = MonotonicClock.now() + .nanoseconds(Int64.random(in: 0...150_000, using: &random))
        while MonotonicClock.now() < end { OSAL.pause() }
        _ = try Process.kill(child, .kill)
        while true {
            guard let status = Process.reap(child) else {
                OSThread.yield()
                continue
            }
            guard status == .signaled(.kill) else { throw Wrong(text: "the writer \(status)") }
            return
        }
    }

    /// As ckptd does with what a dead process holds; how many there were.
    func freeLocks(of owner: UInt32) throws -> Int {
        var held = 0
        for index in places.indices {
            let lock = section(index).lock
            if lock.holder == owner {
                guard lock.take(from: owner) else { throw Wrong(text: "a dead holder's lock could not be taken") }
                held += 1
            }
        }
        return held
    }

    // MARK: Several writers

    private func overwriteForEver(_ steps: inout SeededRandom, owner: UInt32, until: Bool) -> Never {
        begun.pointee.wrappingAdd(1, ordering: .releasing)
        while !until || isOver.pointee.load(ordering: .acquiring) == 0 {
            let index = Int.random(in: 0..<Self.limits.count, using: &steps)
            let number = steps.next()
            let data = Self.numbered(number, limit: Self.limits[index])
            data.withUnsafeBytes { bytes in
                do throws(DirectRefusal) {
                    _ = try section(index).overwrite(bytes, by: owner, time: 1)
                } catch  where error == .busy {
                    return  // a dead one held it
                } catch {
                    Environment.exitImmediately(7)
                }
            }
            // Else the victims hardly get a processor to die on.
            if until { OSThread.yield() }
        }
        Environment.exitImmediately(0)
    }

    /// The number and, filled by it, as many bytes as it says.
    private static func numbered(_ number: UInt64, limit: Int) -> [UInt8] {
        let count = Int(number % UInt64(limit - 8))
        return withUnsafeBytes(of: number.littleEndian) { Array($0) } + filled(number: number, count: count)
    }

    private static func isWhole(_ bytes: [UInt8], limit: Int) -> Bool {
        if bytes == filled(number: 0, count: limit / 2) { return true }
        guard bytes.count >= 8 else { return false }
        let number = bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        return bytes == numbered(number, limit: limit)
    }

    func killTogether(rounds: Int) throws -> String {
        var survivors: [Int32] = []
        begun.pointee.store(0, ordering: .releasing)
        for index in 0..<3 {
            let seed = random.next()
            let child = fork()
            if child == 0 {
                var steps = SeededRandom(seed: seed)
                overwriteForEver(
                    &steps, owner: DirectLock.owner(process: 2_000 + UInt32(index), start: 0), until: true)
            }
            survivors.append(child)
        }
        var held = 0
        for round in 0..<rounds {
            begun.pointee.store(0, ordering: .releasing)
            let seed = random.next()
            let owner = DirectLock.owner(process: 1_000, start: UInt64(round))
            let child = fork()
            if child == 0 {
                var steps = SeededRandom(seed: seed)
                overwriteForEver(&steps, owner: owner, until: false)
            }
            try killSomewhere(child)
            held += try freeLocks(of: owner)
            for index in places.indices {
                do {
                    let found = try read(index).bytes
                    guard Self.isWhole(found, limit: Self.limits[index]) else {
                        throw Wrong(text: "round \(round): section \(index) is torn")
                    }
                } catch DirectRefusal.busy {
                    continue  // they write faster than this reads
                }
            }
        }
        isOver.pointee.store(1, ordering: .releasing)
        for child in survivors {
            var status: ExitStatus?
            while status == nil {
                status = Process.reap(child)
                OSThread.yield()
            }
            guard status == .exited(code: 0) else { throw Wrong(text: "a survivor \(String(describing: status))") }
        }
        for index in places.indices {
            guard section(index).lock.holder == 0 else { throw Wrong(text: "the lock of section \(index) is not free") }
            guard Self.isWhole(try read(index).bytes, limit: Self.limits[index]) else {
                throw Wrong(text: "section \(index) is torn at the end")
            }
        }
        return "ok: \(rounds) killed beside three that went on, \(held) locks held, \(counter) writes"
    }
}
