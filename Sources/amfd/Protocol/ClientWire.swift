import SAFTypes

/// Version of requests, pushes and replies between a process and the amfd of its node.
public let amfWireVersion: UInt16 = 1

extension AmfRequest {
    /// Request codes of amfd's IOC endpoint; 1…19.
    public enum Code: UInt16, Sendable, CaseIterable {
        case register = 1, response, healthcheckStart, healthcheckConfirm, healthcheckStop, errorReport, errorClear
        case quiescingComplete, haStateGet, unregister, admin, status, loadModel, stopNode
    }

    public var code: Code {
        switch self {
        case .register: .register
        case .response: .response
        case .healthcheckStart: .healthcheckStart
        case .healthcheckConfirm: .healthcheckConfirm
        case .healthcheckStop: .healthcheckStop
        case .errorReport: .errorReport
        case .errorClear: .errorClear
        case .quiescingComplete: .quiescingComplete
        case .haStateGet: .haStateGet
        case .unregister: .unregister
        case .admin: .admin
        case .status: .status
        case .loadModel: .loadModel
        case .stopNode: .stopNode
        }
    }

    /// The body of the frame whose code is ``code``.
    public var body: [UInt8] {
        var writer = ByteWriter()
        writer.integer(amfWireVersion)
        encodeFields(to: &writer)
        return writer.bytes
    }

    private func encodeFields(to writer: inout ByteWriter) {
        switch self {
        case .register(let registration): writer.value(registration)
        case .response(let answer), .quiescingComplete(let answer): writer.value(answer)
        case .healthcheckStart(let component, let key, let invocation, let recovery):
            writer.value(component)
            writer.string(key)
            writer.integer(invocation.rawValue)
            writer.integer(recovery.rawValue)
        case .healthcheckConfirm(let component, let key, let error):
            writer.value(component)
            writer.string(key)
            writer.integer(error?.rawValue ?? 0)
        case .healthcheckStop(let component, let key):
            writer.value(component)
            writer.string(key)
        case .errorReport(let component, let recovery):
            writer.value(component)
            writer.integer(recovery.rawValue)
        case .errorClear(let component), .unregister(let component): writer.value(component)
        case .haStateGet(let component, let csi):
            writer.value(component)
            writer.value(csi)
        case .admin(let operation, let name, let isForced):
            writer.integer(operation.rawValue)
            writer.value(name)
            writer.bool(isForced)
        case .loadModel(let model): writer.value(model)
        case .status, .stopNode: break
        }
    }

    /// Throws for an unknown code or version too: the caller answers INVALID_PARAM or VERSION.
    public init(code: UInt16, body: UnsafeRawBufferPointer) throws(DecodeError) {
        guard let code = Code(rawValue: code) else { throw .badValue("request code \(code) is unknown") }
        var reader = ByteReader(body)
        try checkVersion(&reader)
        self = try Self.decode(code, &reader)
        try reader.finish()
    }

    private static func decode(_ code: Code, _ reader: inout ByteReader) throws(DecodeError) -> AmfRequest {
        switch code {
        case .register: return .register(try reader.value())
        case .response: return .response(try reader.value())
        case .quiescingComplete: return .quiescingComplete(try reader.value())
        case .healthcheckStart:
            return .healthcheckStart(
                component: try reader.value(), key: try reader.string(max: Limits.healthcheckKeyMax),
                try HealthcheckInvocation.decode(from: &reader), recovery: try RecommendedRecovery.decode(from: &reader)
            )
        case .healthcheckConfirm:
            return .healthcheckConfirm(
                component: try reader.value(), key: try reader.string(max: Limits.healthcheckKeyMax),
                try decodeOutcome(&reader))
        case .healthcheckStop:
            return .healthcheckStop(
                component: try reader.value(), key: try reader.string(max: Limits.healthcheckKeyMax))
        case .errorReport:
            return .errorReport(component: try reader.value(), recovery: try RecommendedRecovery.decode(from: &reader))
        case .errorClear: return .errorClear(component: try reader.value())
        case .unregister: return .unregister(component: try reader.value())
        case .haStateGet: return .haStateGet(component: try reader.value(), csi: try reader.value())
        case .admin:
            return .admin(
                try AdminOperation.decode(from: &reader), try reader.value(), isForced: try reader.bool())
        case .loadModel: return .loadModel(try reader.value())
        case .status: return .status
        case .stopNode: return .stopNode
        }
    }
}

extension Limits {
    /// SA_AMF_HEALTHCHECK_KEY_MAX.
    public static let healthcheckKeyMax = 32
}

private func checkVersion(_ reader: inout ByteReader) throws(DecodeError) {
    let version = try reader.integer(UInt16.self)
    guard version == amfWireVersion else { throw .badValue("version \(version); \(amfWireVersion) expected") }
}

/// u32: 0 is OK, else an AisError.
private func decodeOutcome(_ reader: inout ByteReader) throws(DecodeError) -> AisError? {
    let raw = try reader.integer(UInt32.self)
    if raw == 0 { return nil }
    guard let error = AisError(rawValue: raw) else { throw .badValue("error \(raw) is unknown") }
    return error
}

extension InvocationAnswer: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(invocation)
        writer.integer(error?.rawValue ?? 0)
    }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        invocation = try reader.value()
        error = try decodeOutcome(&reader)
    }
}

extension HeldAssignment: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&csi)
        try coder.raw(&haState)
    }
}

extension Registration: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&component)
        try coder.integer(&pid)
        try coder.list(&held)
        try coder.list(&answers)
    }
}

extension RegisterReply: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&node)
        try coder.integer(&incarnation)
        try coder.integer(&lifeLockOffset)
    }
}

extension CSIDescriptor: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&flags)
        try coder.optional(&csi)
        try coder.list(&attributes)
        try coder.raw(&transition)
        try coder.optional(&activeComponent)
        try coder.integer(&standbyRank)
    }
}

extension AmfPush {
    /// Push codes; 101…104.
    public enum Code: UInt16, Sendable, CaseIterable { case csiSet = 101, csiRemove, terminate, healthcheck }

    public var code: Code {
        switch self {
        case .csiSet: .csiSet
        case .csiRemove: .csiRemove
        case .terminate: .terminate
        case .healthcheck: .healthcheck
        }
    }

    public var body: [UInt8] {
        var writer = ByteWriter()
        writer.integer(amfWireVersion)
        writer.value(invocation)
        switch self {
        case .csiSet(_, let component, let haState, let descriptor):
            writer.value(component)
            writer.integer(haState.rawValue)
            writer.value(descriptor)
        case .csiRemove(_, let component, let csi):
            writer.value(component)
            writer.optional(csi)
        case .terminate(_, let component): writer.value(component)
        case .healthcheck(_, let component, let key):
            writer.value(component)
            writer.string(key)
        }
        return writer.bytes
    }

    public init(code: UInt16, body: UnsafeRawBufferPointer) throws(DecodeError) {
        guard let code = Code(rawValue: code) else { throw .badValue("push code \(code) is unknown") }
        var reader = ByteReader(body)
        try checkVersion(&reader)
        let invocation = try reader.value(InvocationID.self)
        let component = try reader.value(SaName.self)
        switch code {
        case .csiSet:
            self = .csiSet(
                invocation, component: component, try HAState.decode(from: &reader), try reader.value())
        case .csiRemove: self = .csiRemove(invocation, component: component, csi: try reader.optional())
        case .terminate: self = .terminate(invocation, component: component)
        case .healthcheck:
            self = .healthcheck(
                invocation, component: component, key: try reader.string(max: Limits.healthcheckKeyMax))
        }
        try reader.finish()
    }
}
