import AmfProtocol
import SAFTypes

// The byte form of commands: kind u8 · fields. The version is in the frame of the replicated engine.

extension ClusterEvent: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .addition(let model):
            writer.integer(UInt8(1))
            writer.value(model)
        case .model(let model):
            writer.integer(UInt8(8))
            writer.value(model)
        case .nodeJoined(let node, let incarnation, let living):
            writer.integer(UInt8(2))
            writer.value(node)
            writer.integer(incarnation)
            writer.list(living)
        case .nodeLeft(let node, let incarnation):
            writer.integer(UInt8(3))
            writer.value(node)
            writer.integer(incarnation)
        case .report(let node, let report):
            writer.integer(UInt8(4))
            writer.value(node)
            writer.value(report)
        case .admin(let ticket, let operation, let name):
            writer.integer(UInt8(5))
            writer.value(ticket)
            writer.integer(operation.rawValue)
            writer.value(name)
        case .stopNode(let node):
            writer.integer(UInt8(6))
            writer.value(node)
        case .timer(let timer):
            writer.integer(UInt8(7))
            writer.integer(timer.key)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .addition(try reader.value())
        case 2:
            self = .nodeJoined(
                try reader.value(), incarnation: try reader.integer(), living: try reader.list(max: Limits.elementsMax))
        case 3: self = .nodeLeft(try reader.value(), incarnation: try reader.integer())
        case 4: self = .report(try reader.value(), try reader.value())
        case 5: self = .admin(try reader.value(), try AdminOperation.decode(from: &reader), try reader.value())
        case 6: self = .stopNode(try reader.value())
        case 7:
            let key = try reader.integer(UInt64.self)
            guard let timer = ClusterTimer(key: key) else { throw .badValue("timer \(key) is unknown") }
            self = .timer(timer)
        case 8: self = .model(try reader.value())
        default: throw .badValue("command \(kind); 1…8 expected")
        }
    }
}

extension LivingComponent: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(component)
        writer.integer(instance)
        writer.integer(pid)
        writer.integer(startedAt)
        writer.integer(lastInstance)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        component = try reader.value()
        instance = try reader.integer()
        pid = try reader.integer()
        startedAt = try reader.integer()
        lastInstance = try reader.integer()
    }
}

extension NodeReport: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .instantiated(let name, let instance, let pid, let startedAt):
            Self.head(1, name, instance, &writer)
            writer.integer(pid)
            writer.integer(startedAt)
        case .adopted(let name, let instance, let pid, let startedAt, let held):
            Self.head(2, name, instance, &writer)
            writer.integer(pid)
            writer.integer(startedAt)
            writer.list(held)
        case .instantiationDelayed(let name, let instance, let reason):
            Self.head(3, name, instance, &writer)
            writer.string(reason)
        case .instantiationFailed(let name, let instance, let reason):
            Self.head(4, name, instance, &writer)
            writer.string(reason)
        case .uninstantiated(let name, let instance): Self.head(5, name, instance, &writer)
        case .terminationFailed(let name, let instance, let reason):
            Self.head(6, name, instance, &writer)
            writer.string(reason)
        case .failed(let name, let instance, let recovery, let isDead, let cause):
            Self.head(7, name, instance, &writer)
            writer.integer(recovery.rawValue)
            writer.bool(isDead)
            writer.integer(cause.rawValue)
        case .answered(let name, let instance, let invocation):
            Self.head(8, name, instance, &writer)
            writer.value(invocation)
        case .quiescingComplete(let name, let instance): Self.head(9, name, instance, &writer)
        case .errorCleared(let name): Self.head(10, name, 0, &writer)
        case .exited(let name, let instance, let reason):
            Self.head(11, name, instance, &writer)
            writer.string(reason)
        }
    }

    private static func head(
        _ kind: UInt8, _ name: SaName, _ instance: InstanceNumber, _ writer: inout ByteWriter
    ) {
        writer.integer(kind)
        writer.value(name)
        writer.integer(instance)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        let name = try reader.value(SaName.self)
        let instance = try reader.integer(InstanceNumber.self)
        switch kind {
        case 1:
            self = .instantiated(name, instance, pid: try reader.integer(), startedAt: try reader.integer())
        case 2:
            self = .adopted(
                name, instance, pid: try reader.integer(), startedAt: try reader.integer(),
                held: try reader.list(max: Limits.elementsMax))
        case 3: self = .instantiationDelayed(name, instance, reason: try reader.string(max: Limits.textMax))
        case 4: self = .instantiationFailed(name, instance, reason: try reader.string(max: Limits.textMax))
        case 5: self = .uninstantiated(name, instance)
        case 6: self = .terminationFailed(name, instance, reason: try reader.string(max: Limits.textMax))
        case 7:
            self = .failed(
                name, instance, recovery: try RecommendedRecovery.decode(from: &reader), isDead: try reader.bool(),
                cause: try FailureCause.decode(from: &reader))
        case 8: self = .answered(name, instance, try reader.value())
        case 9: self = .quiescingComplete(name, instance)
        case 10:
            guard instance == 0 else { throw .badValue("instance \(instance) of errorCleared; 0 expected") }
            self = .errorCleared(name)
        case 11: self = .exited(name, instance, reason: try reader.string(max: Limits.textMax))
        default: throw .badValue("report \(kind); 1…11 expected")
        }
    }
}
