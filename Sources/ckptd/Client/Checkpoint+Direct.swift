import CkptLayout
import CkptProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Synchronization

/// Whether an open checkpoint's sections may be written without ckptd, one day.
struct DirectHope: ~Copyable {
    /// So many writes through ckptd come first: who writes once does not map anything.
    private static let patience = 2
    private static let hopeless = Int.max / 2
    private let writes = Atomic(0)

    /// It is worth trying.
    var isAlive: Bool {
        let writes = writes.load(ordering: .relaxed)
        return writes >= Self.patience && writes < Self.hopeless
    }

    func wrote() { writes.wrappingAdd(1, ordering: .relaxed) }
    /// The checkpoint is not of that kind, or was not opened for it.
    func end() { writes.store(Self.hopeless, ordering: .relaxed) }
    func begin() { writes.store(0, ordering: .relaxed) }
}

// Writes that make no system call: of a section that ckptd has left to its writers. See the README beside Layout.
extension Checkpoint {
    /// As ``writeDirect(_:at:_:replaces:)``, of an operation of any kind.
    @inline(__always)
    func updateDirect(
        _ kind: SectionOperation.Kind, _ id: UnsafeRawBufferPointer, _ offset: UInt64, _ data: UnsafeRawBufferPointer
    ) -> UInt64? {
        guard kind == .write || kind == .overwrite && offset == 0, let offset = Int(exactly: offset), isOpen else {
            return nil
        }
        return writeDirect(id, at: offset, data, replaces: kind == .overwrite)
    }

    /// The change number, or nil when ckptd must be asked.
    @inline(__always)
    func writeDirect(
        _ id: UnsafeRawBufferPointer, at offset: Int, _ data: UnsafeRawBufferPointer, replaces: Bool
    ) -> UInt64? {
        guard directHope.isAlive else {
            directHope.wrote()
            return nil
        }
        return directLanes.withMine { lane in
            let connection = service.mappings.connection
            if let known = lane?.pointee.known(id, connection) {
                if let change = known.write(at: offset, data, replaces: replaces) {
                    return wrote(known, change)
                }
                lane?.pointee.forget()
            }
            guard let found = findDirect(id, lane, connection),
                let change = found.write(at: offset, data, replaces: replaces)
            else { return nil }
            return wrote(found, change)
        }
    }

    /// Calls ckptd if it does not look by itself and others are to be told.
    @inline(__always)
    private func wrote(_ target: DirectTarget, _ change: UInt64) -> UInt64 {
        let call = target.section.call
        if call != 0 { self.call(target.replica, call) }
        return change
    }

    /// Once for each time that it sleeps. Without a connection there is nobody to be called: ckptd looks when it
    /// starts, and when the connection is there again.
    @inline(never)
    private func call(_ replica: MappedReplica, _ sleep: UInt64) {
        guard replica.called.load(ordering: .relaxed) != sleep, service.connection.isUp else { return }
        var writer = ByteWriter(reserving: 8)
        writer.integer(handle.rawValue)
        do throws(CallError) {
            try service.connection.send(CkptWord.written, writer.bytes, lane: .high, timeout: .zero)
            replica.called.store(sleep, ordering: .relaxed)
        } catch {
            // No room: who has so much under way is heard, and a question is answered when all was told.
            _ = try? statusBlocking(timeout: Self.callTimeout)
        }
    }

    private static var callTimeout: Duration { .milliseconds(500) }

    /// The section, if its writers write it themselves.
    private func findDirect(
        _ id: UnsafeRawBufferPointer, _ lane: UnsafeMutablePointer<DirectLane>?, _ connection: UInt64
    ) -> DirectTarget? {
        let target: DirectTarget? = withMapped { replica in
            if replica.owner == 0 { directHope.end() }
            return replica.findDirect(id)
        }
        guard let target else { return nil }
        directLanes.open()
        lane?.pointee.keep(id, target, connection)
        return target
    }
}

/// A section that can be written directly, and what keeps its memory.
struct DirectTarget {
    let section: DirectSection
    let replica: MappedReplica

    /// Nil: ckptd does it, or says why not.
    @inline(__always)
    func write(at offset: Int, _ data: UnsafeRawBufferPointer, replaces: Bool) -> UInt64? {
        guard replica.isReadable else { return nil }
        let (time, owner) = (MonotonicClock.wallNanoseconds(), replica.owner)
        return replaces
            ? try? section.overwrite(data, by: owner, time: time)
            : try? section.write(at: offset, data, by: owner, time: time)
    }
}

/// The section that some threads have written last, so that it need not be looked for.
struct DirectLane {
    private var id: [UInt8] = []
    private var target: DirectTarget?
    /// The connection that what is mapped came over.
    private var connection: UInt64 = 0

    @inline(__always)
    func known(_ wanted: UnsafeRawBufferPointer, _ present: UInt64) -> DirectTarget? {
        guard let target, connection == present, id.count == wanted.count else { return nil }
        for index in 0..<id.count where id[index] != wanted[index] { return nil }
        return target
    }

    mutating func keep(_ id: UnsafeRawBufferPointer, _ target: DirectTarget, _ connection: UInt64) {
        self.id = Array(id)
        self.target = target
        self.connection = connection
    }

    mutating func forget() { target = nil }
}

/// Threads that write directly do not meet here: each has its lane, as a rule. Nobody waits for a lane.
struct DirectLanes: ~Copyable, @unchecked Sendable {
    private static let count = 8
    /// A cache line for whether somebody is in the lane, then the lane.
    private static let laneOffset = 64
    private static var stride: Int { laneOffset + (MemoryLayout<DirectLane>.stride + 63) & ~63 }

    /// Nil until there is something to be kept: most checkpoints never have.
    private let memory = Atomic<UnsafeMutableRawPointer?>(nil)

    deinit {
        guard let base = memory.load(ordering: .acquiring) else { return }
        for index in 0..<Self.count { Self.lane(index, base).deinitialize(count: 1) }
        base.deallocate()
    }

    private static func lane(_ index: Int, _ base: UnsafeMutableRawPointer) -> UnsafeMutablePointer<DirectLane> {
        (base + index * stride + laneOffset).assumingMemoryBound(to: DirectLane.self)
    }

    /// From now on there are lanes.
    func open() {
        if memory.load(ordering: .relaxed) != nil { return }
        let base = UnsafeMutableRawPointer.allocate(byteCount: Self.count * Self.stride, alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.count * Self.stride)
        for index in 0..<Self.count { Self.lane(index, base).initialize(to: DirectLane()) }
        if memory.compareExchange(expected: nil, desired: base, ordering: .acquiringAndReleasing).exchanged { return }
        // Another thread was faster; nothing is in these.
        for index in 0..<Self.count { Self.lane(index, base).deinitialize(count: 1) }
        base.deallocate()
    }

    /// - Parameter body: gets this thread's lane, or nil when another is in it.
    @inline(__always)
    func withMine<Value>(_ body: (UnsafeMutablePointer<DirectLane>?) -> Value) -> Value {
        guard let base = memory.load(ordering: .acquiring) else { return body(nil) }
        let index = Self.mine
        let isTaken = base.atomic(UInt32.self, at: index * Self.stride)
        guard isTaken.pointee.exchange(1, ordering: .acquiring) == 0 else { return body(nil) }
        defer { isTaken.pointee.store(0, ordering: .releasing) }
        return body(Self.lane(index, base))
    }

    /// Threads have stacks of their own, so an address on the stack tells them apart well enough.
    @inline(__always)
    private static var mine: Int {
        var here: UInt8 = 0
        return withUnsafeMutablePointer(to: &here) { place in
            let stack = UInt64(UInt(bitPattern: place)) >> 20
            return Int(truncatingIfNeeded: (stack &* 0x9E37_79B9_7F4A_7C15) >> 61)
        }
    }
}
