import OSAL
import SAFTypes

/// A call that did not succeed.
public struct CallError: Error, Hashable, Sendable {
    public let code: AisError
    /// The daemon's own words when it sent some, else what was missing.
    public let text: Words
    #if SAF_LIBRARY
        /// The daemon's own words: they may say more than a code does to the client itself.
        public let said: [UInt8]
    #else
        /// A daemon said so; else nothing was heard of it.
        public let isAnswer: Bool
    #endif

    public init(_ code: AisError, _ text: Words) {
        self.code = code
        self.text = text
        #if SAF_LIBRARY
            said = []
        #else
            isAnswer = false
        #endif
    }

    /// What a daemon answered.
    public init(_ code: AisError, said: UnsafeRawBufferPointer) {
        self.code = code
        text = Words(decoding: said, as: UTF8.self)
        #if SAF_LIBRARY
            self.said = Array(said)
        #else
            isAnswer = true
        #endif
    }
}

#if !SAF_LIBRARY
    extension CallError: CustomStringConvertible {
        public static func == (left: CallError, right: CallError) -> Bool {
            left.code == right.code && left.text == right.text
        }

        public func hash(into hasher: inout Hasher) {
            hasher.combine(code)
            hasher.combine(text)
        }

        public var description: String { text.isEmpty ? "\(code)" : "\(text): \(code)" }
    }
#endif

/// The answer to a call.
public struct Reply: Sendable {
    private let bytes: [UInt8]
    /// A large body stays where the server has put it, sealed: to copy it could end the process for want of memory.
    private let memory: Mapping?
    /// Owned by the receiver: wrap each in a `Descriptor` or close it.
    public let descriptors: [Int32]

    public init(body: [UInt8], descriptors: [Int32]) {
        (bytes, memory) = (body, nil)
        self.descriptors = descriptors
    }

    init(memory: Mapping, descriptors: [Int32]) {
        (bytes, self.memory) = ([], memory)
        self.descriptors = descriptors
    }

    /// A copy, if it is large.
    public var body: [UInt8] { memory.map { Array($0.bytes) } ?? bytes }

    /// The body where it lies, however large it is.
    public func withBody(_ use: (UnsafeRawBufferPointer) -> Void) {
        guard let memory else { return bytes.withUnsafeBytes(use) }
        withExtendedLifetime(memory) { use(UnsafeRawBufferPointer(memory.bytes)) }
    }
}

/// A message of the server that answers nothing.
public struct Push: Hashable, Sendable {
    public let code: UInt16
    public let lane: Lane
    public let body: [UInt8]
    /// Owned by the receiver: wrap each in a `Descriptor` or close it.
    public let descriptors: [Int32]
}

public struct ClientOptions: Sendable {
    /// The most a blocking caller polls before it sleeps: the server may have to ask other nodes.
    public var spin = Spinning.networkLimit
    /// Calls outstanding at a time; beyond, TRY_AGAIN.
    public var callsMax = 1024
    /// Pushes that wait for the handler; beyond, they are dropped and counted.
    public var pushesMax = 8192
    /// Bytes of pushes that wait for the handler.
    public var pushBytesMax = 16 << 20
    /// The first pause before another attempt to connect, where waiting for the server's socket to appear is no use:
    /// it is there and does not welcome us, or its directory cannot be watched. Doubled each time.
    public var retryFirst: Duration = .milliseconds(2)
    /// The longest such pause while a call waits.
    public var retryMax: Duration = .milliseconds(100)
    /// The longest such pause while nobody waits.
    public var retryIdleMax: Duration = .seconds(5)
    /// A server that accepted must welcome within this, else the attempt is given up.
    public var welcomeTimeout: Duration = .seconds(2)
    /// Set-up calls in `onEstablished` may take so long, all together.
    public var setUpTimeout: Duration = .seconds(5)

    public init() {}
}

/// The numbers of calls that still want their answers. Numbers grow; the server may forget all before the oldest.
struct OutstandingNumbers: Sendable {
    private(set) var last: UInt64 = 0
    private var live: [UInt64] = []

    mutating func issue() -> UInt64 {
        last += 1
        live.append(last)
        return last
    }

    mutating func finish(_ number: UInt64) {
        if let index = live.firstIndex(of: number) { live.remove(at: index) }
    }

    /// No answer up to this number is wanted any more.
    var acknowledged: UInt64 { live.first.map { $0 - 1 } ?? last }
    var count: Int { live.count }
}
