internal import DBAL
public import SAFTypes

/// Why a call on a library checkpoint failed; the text names the file or the data set, and what was expected.
public struct LibraryCheckpointError: Error, Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// It was written in a version that this program has no serializer for; or there is none for the one asked for.
        case unknownVersion
        /// The bytes are not what was written.
        case damaged
        /// There is none, and none was to be made.
        case notExist
        /// No space on the disk; nothing was changed.
        case full
        /// Another process has it open.
        case inUse
        /// A file of another program, or of a later version of this one; not touched.
        case otherFormat
        /// The database engine is not on this machine.
        case missing
        /// A name, a key or a value that cannot be.
        case invalid
        /// A serializer refused.
        case serializer
        /// This process can have no more memory; nothing was changed.
        case noMemory
        case closed
        /// Anything else; nothing was changed.
        case failed
    }

    public var kind: Kind
    public var text: Words

    package init(_ kind: Kind, _ text: Words) {
        self.kind = kind
        self.text = text
    }

    init(_ error: DatabaseError) {
        let kind: Kind =
            switch error.kind {
            case .full: .full
            case .damaged: .damaged
            case .otherFormat: .otherFormat
            case .absent: .notExist
            case .inUse: .inUse
            case .missing: .missing
            case .tooBig: .invalid
            case .noMemory: .noMemory
            case .closed: .closed
            case .failed: .failed
            }
        self.init(kind, error.text)
    }

    /// As AIS calls it.
    public var code: AisError {
        switch kind {
        case .unknownVersion: .version
        case .damaged, .serializer: .library
        case .failed: .failedOperation
        case .notExist: .notExist
        case .full: .noSpace
        case .inUse: .busy
        case .otherFormat: .version
        case .missing: .notSupported
        case .invalid: .invalidParam
        case .noMemory: .noMemory
        case .closed: .badHandle
        }
    }
}

#if !SAF_LIBRARY
    extension LibraryCheckpointError: CustomStringConvertible {
        public var description: String { text }
    }
#endif
