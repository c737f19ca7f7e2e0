// What an application imports: `import SwiftSAF` brings the Swift API of every service, and the words they are spoken
// in.
//
// Component (availability), Checkpoint, LibraryCheckpoint, EventChannel, Log, ClusterClient (membership and names),
// ExecutionObject (console commands). Errors of all of them: AisError.
@_exported import AmfClient
@_exported import AmfProtocol
@_exported import CkptClient
@_exported import CkptLibrary
@_exported import CkptProtocol
@_exported import ClmClient
@_exported import ClmProtocol
@_exported import CliClient
@_exported import CliProtocol
@_exported import EventClient
@_exported import EventProtocol
@_exported import ExecutionObject
@_exported import LogClient
@_exported import SAFTypes
