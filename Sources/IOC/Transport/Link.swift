import EngineKit
import OSAL
import SAFTypes

/// Room for one frame's body, copied out of shared memory before anybody looks at it.
final class Scratch {
    let bytes: UnsafeMutableRawBufferPointer
    private var bulkBytes: UnsafeMutableRawPointer?

    init(capacity: Int) { bytes = .allocate(byteCount: capacity, alignment: 64) }

    deinit {
        bytes.deallocate()
        bulkBytes?.deallocate()
    }

    /// Room for the largest body that comes by ``BulkMemory``: address space until it is touched.
    func bulk() -> UnsafeMutableRawPointer {
        if let bulkBytes { return bulkBytes }
        let made = UnsafeMutableRawPointer.allocate(byteCount: BulkMemory.bodyMax, alignment: 64)
        bulkBytes = made
        return made
    }
}

/// One established connection, of either side: socket, shared rings, bells. Used by one thread at a time per direction.
///
/// Frames go through the rings. A frame with descriptors, or with a body too large for its lane's ring, travels on the
/// socket under a carriage number, and a placeholder stands for it in the ring, so the order within a lane is kept.
/// Large bodies of a client that sends more than one lie in its ``BulkMemory`` instead, when that is free.
final class Link {
    enum SendOutcome: Equatable {
        case sent
        /// The lane is full; nothing was sent.
        case full
        /// The connection cannot be used any more, and why.
        case broken(Words)
        /// This frame could not be sent, and why; the connection stands.
        case failed(Words)
    }

    /// Frames of one direction that may be on the socket at a time.
    static let carriedMax = 32
    /// Descriptors of the caller in one frame.
    static let descriptorsMax = 8
    private static let datagramBodyMax = 32 << 10
    private static let datagramPrefix = 8

    let socket: Descriptor
    let ownBell: Doorbell
    /// The bell of the client's blocking callers: our own at a client, the peer's at a server.
    let callerBell: Doorbell
    private let peerBell: Doorbell
    private let isServer: Bool
    /// Of what may be said, as agreed; see ``Hello/versions``.
    private let version: UInt8
    let memory: Mapping
    let writer: RingWriter
    let reader: RingReader
    let bodyMax: Int
    private let scratch: Scratch
    /// For blocking callers; touched by the reader only.
    var sleeper: Sleeper?
    var budget = SpinBudget(limit: .zero)

    private var carriages: UInt64 = 0
    private var carriedOut: [(lane: Lane, position: UInt64)] = []
    private var stash: [Carriage] = []
    private var bulkWriter: BulkWriter?
    private var bulkReader: BulkReader?
    private var hasSentLarge = false
    /// Of the body that is being handed over, if it has a memory of its own.
    private(set) var bodyMemory: Mapping?

    private struct Carriage {
        var number: UInt64
        var bytes: [UInt8]
        var descriptors: [Int32]
    }

    private init(
        socket: consuming Descriptor, memory: Mapping, layout: RingLayout, isServer: Bool, version: UInt8,
        ownBell: consuming Doorbell, callerBell: consuming Doorbell, peerBell: consuming Doorbell, bodyMax: Int,
        scratch: Scratch
    ) {
        self.socket = socket
        self.memory = memory
        self.ownBell = ownBell
        self.callerBell = callerBell
        self.peerBell = peerBell
        self.isServer = isServer
        self.version = version
        self.bodyMax = bodyMax
        self.scratch = scratch
        let toServer = memory.base
        let toClient = memory.base + layout.areaSize
        writer = RingWriter(area: isServer ? toClient : toServer, layout: layout)
        reader = RingReader(area: isServer ? toServer : toClient, layout: layout)
    }

    deinit {
        for carriage in stash { for descriptor in carriage.descriptors { IO.close(descriptor) } }
    }

    // MARK: Set-up

    /// The server's side: makes the shared memory and the bells, and sends the welcome with them.
    static func offer(
        socket: consuming Descriptor, version: UInt8, layout: RingLayout, incarnation: UInt64, peer: UInt64,
        bodyMax: Int, scratch: Scratch
    ) throws(OSError) -> Link {
        let memory = try AnonymousMemory.create(name: "ioc", size: layout.totalSize, seal: .size)
        let mapping = try Mapping.map(memory.raw, count: layout.totalSize, writable: true)
        let ownBell = try Doorbell()
        let clientBell = try Doorbell()
        let clientCallerBell = try Doorbell()
        let welcome = Welcome(
            version: version, layout: layout, incarnation: incarnation, peer: peer, bodyMax: UInt64(bodyMax))
        let bytes = HandshakeFrame.bytes(
            .welcome, descriptors: Welcome.descriptorCount, body: welcome.encoded)
        let descriptors = [memory.raw, ownBell.raw, clientBell.raw, clientCallerBell.raw]
        let link = Link(
            socket: socket, memory: mapping, layout: layout, isServer: true, version: version, ownBell: ownBell,
            callerBell: clientCallerBell, peerBell: clientBell, bodyMax: bodyMax, scratch: scratch)
        // Before the client can write: else its first frame would ring no bell.
        _ = link.reader.announceSleep(bell: 1)
        var sent: Result<Int?, OSError> = .success(nil)
        bytes.withUnsafeBytes { raw in
            do throws(OSError) {
                sent = .success(try UnixSocket.send(link.socket.raw, raw, descriptors: descriptors))
            } catch {
                sent = .failure(error)
            }
        }
        withExtendedLifetime(memory) {}
        guard try sent.get() != nil else { throw OSError(code: 11, call: "sendmsg", subject: "welcome") }
        return link
    }

    /// The client's side: takes what came with the welcome. Owns and in the end closes the descriptors.
    static func accept(
        socket: consuming Descriptor, welcome: Welcome, descriptors: [Int32]
    ) throws(OSError) -> Link {
        guard descriptors.count == Welcome.descriptorCount else {
            for descriptor in descriptors { IO.close(descriptor) }
            throw OSError(
                code: 71, call: "recvmsg", subject: "welcome with \(descriptors.count) descriptors; 4 expected")
        }
        let memory = Descriptor(owning: descriptors[0])
        let peerBell = Doorbell(owning: Descriptor(owning: descriptors[1]))
        let ownBell = Doorbell(owning: Descriptor(owning: descriptors[2]))
        let callerBell = Doorbell(owning: Descriptor(owning: descriptors[3]))
        let size = try AnonymousMemory.sealedSize(memory.raw, atLeast: .size)
        guard size == welcome.layout.totalSize else {
            throw OSError(code: 71, call: "recvmsg", subject: "welcome with memory of \(size) bytes")
        }
        let mapping = try Mapping.map(memory.raw, count: size, writable: true)
        let layout = welcome.layout
        var inlineMax = 0
        for lane in Lane.allCases { inlineMax = max(inlineMax, layout.inlineMax(lane)) }
        return Link(
            socket: socket, memory: mapping, layout: layout, isServer: false, version: welcome.version,
            ownBell: ownBell,
            callerBell: callerBell, peerBell: peerBell, bodyMax: Int(welcome.bodyMax),
            scratch: Scratch(capacity: inlineMax))
    }

    // MARK: Sending

    /// Puts one frame on its way; ``ring()`` rings the bell. `header.length` and `header.descriptors` are set here.
    func send(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, descriptors: [Int32] = []
    ) -> SendOutcome {
        if descriptors.isEmpty, body.count <= writer.layout.inlineMax(header.lane) {
            var header = header
            header.length = UInt32(truncatingIfNeeded: body.count)
            return ringOutcome(writer.write(header, body, lane: header.lane))
        }
        return sendCarried(header, body, descriptors)
    }

    /// Wakes the other side if it sleeps, and says whether it did. Once after one or several sends.
    @inline(__always)
    @discardableResult
    func ring() -> Bool {
        let bell = writer.takeWake()
        if bell != 0 { ringBell(bell) }
        return bell != 0
    }

    private func ringBell(_ bell: UInt32) {
        if bell == 2, isServer { callerBell.ring() } else { peerBell.ring() }
    }

    /// Rings unconditionally: after taking frames while the other side waits for space.
    func ringForSpace() { peerBell.ring() }

    private func ringOutcome(_ outcome: RingWriter.Outcome) -> SendOutcome {
        switch outcome {
        case .written: .sent
        case .full: .full
        case .corrupt: .broken("the peer's position in the shared ring is impossible")
        }
    }

    private func sendCarried(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ descriptors: [Int32]
    ) -> SendOutcome {
        guard descriptors.count <= Self.descriptorsMax else {
            return .failed("\(descriptors.count) descriptors; at most \(Self.descriptorsMax) go with a frame")
        }
        guard body.count <= bodyMax else {
            return .failed("body of \(body.count) bytes; at most \(bodyMax) can be sent here")
        }
        carriedOut.removeAll { writer.hasConsumed($0.lane, upTo: $0.position) }
        guard carriedOut.count < Self.carriedMax, writer.hasRoom(header.lane, bytes: 2 * FrameHeader.size) else {
            return .full
        }
        if descriptors.isEmpty, body.count > Self.datagramBodyMax, let outcome = sendBulk(header, body) {
            return outcome
        }
        do throws(OSError) {
            guard body.count > Self.datagramBodyMax else {
                return try sendDatagram(header, body, length: body.count, descriptors)
            }
            let memory = try AnonymousMemory.create(name: "ioc-body", content: body)
            var header = header
            header.flags.insert(.large)
            let none = UnsafeRawBufferPointer(start: nil, count: 0)
            return try sendDatagram(header, none, length: body.count, descriptors + [memory.raw])
        } catch {
            return error.isPeerGone ? .broken("\(error)") : .failed("\(error)")
        }
    }

    /// Sends a large body by the memory that stays; nil when it must travel in a memory of its own.
    private func sendBulk(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) -> SendOutcome? {
        guard !isServer, version >= 2, body.count <= BulkMemory.bodyMax else { return nil }
        guard let bulkWriter else {
            // Who sends one large body need not keep pages for the next.
            if hasSentLarge { handOverBulk(header.lane) }
            hasSentLarge = true
            return nil
        }
        guard bulkWriter.put(body) else { return nil }
        var header = header
        header.length = UInt32(truncatingIfNeeded: body.count)
        header.flags.insert(.bulk)
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let outcome = ringOutcome(writer.write(header, none, lane: header.lane))
        if outcome != .sent { bulkWriter.takeBack() }
        return outcome
    }

    /// Nothing depends on its success; the server has it when it says that it has taken something.
    private func handOverBulk(_ lane: Lane) {
        do throws(OSError) {
            let made = try BulkWriter()
            let none = UnsafeRawBufferPointer(start: nil, count: 0)
            let header = FrameHeader(kind: .memory, lane: lane)
            guard try sendDatagram(header, none, length: 0, [made.memory.raw]) == .sent else { return }
            bulkWriter = made
        } catch {
            return
        }
    }

    private func sendDatagram(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, length: Int, _ descriptors: [Int32]
    ) throws(OSError) -> SendOutcome {
        var header = header
        header.length = UInt32(truncatingIfNeeded: length)
        header.descriptors = UInt8(descriptors.count)
        var writer = ByteWriter(reserving: Self.datagramPrefix + FrameHeader.size + body.count)
        writer.integer(carriages)
        writer.value(header)
        writer.raw(body)
        var sent: Result<Int?, OSError> = .success(nil)
        writer.bytes.withUnsafeBytes { raw in
            do throws(OSError) {
                sent = .success(try UnixSocket.send(socket.raw, raw, descriptors: descriptors))
            } catch {
                sent = .failure(error)
            }
        }
        guard try sent.get() != nil else { return .full }
        let placeholder = FrameHeader(kind: .carried, lane: header.lane, number: carriages)
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let outcome = self.writer.write(placeholder, none, lane: header.lane)
        guard outcome == .written else { return .broken("the shared ring was full after all") }
        carriages += 1
        carriedOut.append((header.lane, self.writer.position(header.lane)))
        return .sent
    }

    // MARK: Receiving

    /// Takes the next frame of `lane`, if there is one, and hands it over; body and mapping are valid only meanwhile,
    /// the descriptors are owned by the handler. Throws when the peer must be dropped.
    func receive(
        _ lane: Lane, _ handle: (FrameHeader, UnsafeRawBufferPointer, [Int32]) -> Void
    ) throws(DecodeError) -> Bool {
        guard let view = try reader.peek(lane) else { return false }
        if view.header.kind == .carried {
            let carriage = try takeCarriage(view.header.number)
            reader.consume(view, lane: lane)
            try open(carriage, lane, handle)
            return true
        }
        guard view.header.descriptors == 0, !view.header.flags.contains(.large) else {
            throw .badValue("a frame in a ring that claims descriptors")
        }
        if view.header.flags.contains(.bulk) {
            reader.consume(view, lane: lane)
            handle(view.header, try takeBulk(view.header), [])
            return true
        }
        let count = view.body.count
        guard count <= scratch.bytes.count else { throw .badValue("a frame of \(count) bytes in a ring") }
        if count > 0, let source = view.body.baseAddress, let target = scratch.bytes.baseAddress {
            target.copyMemory(from: source, byteCount: count)
        }
        reader.consume(view, lane: lane)
        handle(view.header, UnsafeRawBufferPointer(start: scratch.bytes.baseAddress, count: count), [])
        return true
    }

    private func takeBulk(_ header: FrameHeader) throws(DecodeError) -> UnsafeRawBufferPointer {
        guard let bulkReader, (1...BulkMemory.bodyMax).contains(Int(header.length)) else {
            throw .badValue("a body of \(header.length) bytes in a memory that was not handed over or is smaller")
        }
        let target = scratch.bulk()
        bulkReader.take(Int(header.length), into: target)
        return UnsafeRawBufferPointer(start: target, count: Int(header.length))
    }

    /// Reads what is on the socket into the stash; true when the peer has hung up.
    func drainSocket() throws(DecodeError) -> Bool {
        while true {
            switch try receiveDatagram() {
            case .none: return false
            case .some(false): return true
            case .some(true): continue
            }
        }
    }

    /// True: one datagram was stashed; false: hang-up; nil: nothing there.
    private func receiveDatagram() throws(DecodeError) -> Bool? {
        let capacity = Self.datagramPrefix + FrameHeader.size + Self.datagramBodyMax
        var received: Received?
        var isGone = false
        var bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            do throws(OSError) {
                received = try UnixSocket.receive(socket.raw, into: UnsafeMutableRawBufferPointer(buffer))
            } catch {
                isGone = true
            }
            count = min(capacity, received?.count ?? 0)
        }
        if isGone { return false }
        guard let received else { return nil }
        if received.count == 0 { return false }
        func refuse(_ text: Words) -> DecodeError {
            for descriptor in received.descriptors { IO.close(descriptor) }
            return .badValue(text)
        }
        guard !received.truncated, bytes.count >= Self.datagramPrefix else {
            throw refuse("a datagram of \(received.count) bytes; at most \(capacity) expected")
        }
        guard stash.count < 2 * Self.carriedMax else {
            throw refuse("more than \(stash.count) datagrams nobody asked for")
        }
        let number = bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        bytes.removeFirst(Self.datagramPrefix)
        stash.append(Carriage(number: number, bytes: bytes, descriptors: received.descriptors))
        return true
    }

    private func takeCarriage(_ number: UInt64) throws(DecodeError) -> Carriage {
        while true {
            if let index = stash.firstIndex(where: { $0.number == number }) { return stash.remove(at: index) }
            guard try receiveDatagram() == true else {
                throw .badValue("the ring names carriage \(number), the socket does not bring it")
            }
        }
    }

    private func open(
        _ carriage: Carriage, _ lane: Lane, _ handle: (FrameHeader, UnsafeRawBufferPointer, [Int32]) -> Void
    ) throws(DecodeError) {
        var opened: Result<Void, DecodeError> = .success(())
        carriage.bytes.withUnsafeBytes { raw in
            do throws(DecodeError) {
                try open(raw, carriage.descriptors, lane, handle)
            } catch {
                opened = .failure(error)
            }
        }
        if case .failure = opened { for descriptor in carriage.descriptors { IO.close(descriptor) } }
        try opened.get()
    }

    private func open(
        _ raw: UnsafeRawBufferPointer, _ descriptors: [Int32], _ lane: Lane,
        _ handle: (FrameHeader, UnsafeRawBufferPointer, [Int32]) -> Void
    ) throws(DecodeError) {
        var reader = ByteReader(raw)
        let header = try reader.value(FrameHeader.self)
        guard header.lane == lane, Int(header.descriptors) == descriptors.count else {
            throw .badValue("a carried frame with \(descriptors.count) descriptors that claims \(header.descriptors)")
        }
        if isServer, header.kind == .memory, header.flags.isEmpty, header.length == 0, descriptors.count == 1 {
            do throws(OSError) {
                bulkReader = try BulkReader(descriptors[0])
            } catch {
                throw .badValue("bulk memory: \(error)")
            }
            IO.close(descriptors[0])
            return
        }
        guard !header.flags.contains(.bulk) else { throw .badValue("a carried frame whose body is in bulk memory") }
        guard header.flags.contains(.large) else {
            let body = try reader.view(Int(header.length))
            try reader.finish()
            handle(header, body, descriptors)
            return
        }
        try reader.finish()
        guard let last = descriptors.last, Int(header.length) <= bodyMax else {
            throw .badValue("a large frame of \(header.length) bytes; at most \(bodyMax) expected")
        }
        let mapping: Mapping
        do throws(OSError) {
            // Sealed: nobody can shrink it under us (SIGBUS) or change it while it is decoded.
            let size = try AnonymousMemory.sealedSize(last, atLeast: .content)
            guard size == Int(header.length), size > 0 else {
                throw OSError(code: 71, call: "mmap", subject: "sealed memory of \(size) bytes, not \(header.length)")
            }
            mapping = try Mapping.map(last, count: size, writable: false)
        } catch {
            guard error.isOutOfMemory, header.kind == .reply else { throw .badValue("large body: \(error)") }
            // The call ends with that; the connection stands.
            for descriptor in descriptors { IO.close(descriptor) }
            var failure = header
            failure.kind = .failure
            failure.status = AisError.noMemory.rawValue
            return handle(failure, UnsafeRawBufferPointer(start: nil, count: 0), [])
        }
        IO.close(last)
        bodyMemory = mapping
        defer { bodyMemory = nil }
        handle(header, UnsafeRawBufferPointer(mapping.bytes), descriptors.dropLast())
    }
}
