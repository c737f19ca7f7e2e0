/// The failure a SAF caller may see. Raw values: SaAisErrorT (saAis.h); 1, SA_AIS_OK, is no error.
public enum AisError: UInt32, Error, Hashable, Sendable, CaseIterable {
    case library = 2
    case version = 3
    case initialization = 4
    case timeout = 5
    case tryAgain = 6
    case invalidParam = 7
    case noMemory = 8
    case badHandle = 9
    case busy = 10
    case access = 11
    case notExist = 12
    case nameTooLong = 13
    case exist = 14
    case noSpace = 15
    case interrupt = 16
    case nameNotFound = 17
    case noResources = 18
    case notSupported = 19
    case badOperation = 20
    case failedOperation = 21
    case messageError = 22
    case queueFull = 23
    case queueNotAvailable = 24
    case badFlags = 25
    case tooBig = 26
    case noSections = 27
    case noOp = 28
    case repairPending = 29
    case noBindings = 30
    case unavailable = 31
    case accessDenied = 38
    case notReady = 39
    case deployment = 40
}

extension AisError: CustomStringConvertible {
    /// The name as in saAis.h, with what it usually means for the caller.
    public var description: String {
        switch self {
        case .library: "SA_AIS_ERR_LIBRARY (internal error of the library)"
        case .version: "SA_AIS_ERR_VERSION (version not supported)"
        case .initialization: "SA_AIS_ERR_INIT (callback or initialisation missing)"
        case .timeout: "SA_AIS_ERR_TIMEOUT (no answer in time; the outcome is unknown)"
        case .tryAgain: "SA_AIS_ERR_TRY_AGAIN (not possible now, try again later)"
        case .invalidParam: "SA_AIS_ERR_INVALID_PARAM (a parameter is wrong)"
        case .noMemory: "SA_AIS_ERR_NO_MEMORY (out of memory)"
        case .badHandle: "SA_AIS_ERR_BAD_HANDLE (handle is closed or was never open)"
        case .busy: "SA_AIS_ERR_BUSY (in use)"
        case .access: "SA_AIS_ERR_ACCESS (access not allowed)"
        case .notExist: "SA_AIS_ERR_NOT_EXIST (does not exist)"
        case .nameTooLong: "SA_AIS_ERR_NAME_TOO_LONG (name is too long)"
        case .exist: "SA_AIS_ERR_EXIST (exists already)"
        case .noSpace: "SA_AIS_ERR_NO_SPACE (no space left)"
        case .interrupt: "SA_AIS_ERR_INTERRUPT (interrupted)"
        case .nameNotFound: "SA_AIS_ERR_NAME_NOT_FOUND (name not found)"
        case .noResources: "SA_AIS_ERR_NO_RESOURCES (a resource is exhausted)"
        case .notSupported: "SA_AIS_ERR_NOT_SUPPORTED (not supported)"
        case .badOperation: "SA_AIS_ERR_BAD_OPERATION (not allowed in this state)"
        case .failedOperation: "SA_AIS_ERR_FAILED_OPERATION (the operation failed)"
        case .messageError: "SA_AIS_ERR_MESSAGE_ERROR (communication error)"
        case .queueFull: "SA_AIS_ERR_QUEUE_FULL (queue is full)"
        case .queueNotAvailable: "SA_AIS_ERR_QUEUE_NOT_AVAILABLE (queue not available)"
        case .badFlags: "SA_AIS_ERR_BAD_FLAGS (unknown or contradicting flags)"
        case .tooBig: "SA_AIS_ERR_TOO_BIG (too big)"
        case .noSections: "SA_AIS_ERR_NO_SECTIONS (no more sections)"
        case .noOp: "SA_AIS_ERR_NO_OP (nothing to do)"
        case .repairPending: "SA_AIS_ERR_REPAIR_PENDING (done, but a repair is pending)"
        case .noBindings: "SA_AIS_ERR_NO_BINDINGS (no bindings)"
        case .unavailable: "SA_AIS_ERR_UNAVAILABLE (this node is not a member of the cluster)"
        case .accessDenied: "SA_AIS_ERR_ACCESS_DENIED (access denied)"
        case .notReady: "SA_AIS_ERR_NOT_READY (not ready)"
        case .deployment: "SA_AIS_ERR_DEPLOYMENT (deployment error)"
        }
    }
}
