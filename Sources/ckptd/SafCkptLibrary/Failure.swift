import CSAF
import CkptLibrary
import SAFTypes

/// Why a function of the interface fails: a code of ours, or whatever a serialiser said.
struct Failure: Error {
    let code: SaAisErrorT

    init(_ error: AisError) { code = SaAisErrorT(rawValue: error.rawValue) }
    init(_ error: LibraryCheckpointError) { self.init(error.code) }

    /// What a serialiser returned.
    static func check(_ code: SaAisErrorT) throws(Failure) { if code != SA_AIS_OK { throw Failure(said: code) } }

    private init(said code: SaAisErrorT) { self.code = code }
}

/// Runs the body of a function of the interface; the only place where failures become codes.
func result(_ body: () throws(Failure) -> Void) -> SaAisErrorT {
    do throws(Failure) {
        try body()
        return SA_AIS_OK
    } catch {
        return error.code
    }
}

/// What the checkpoint throws is a failure of the call.
func stored<Result>(_ body: () throws(LibraryCheckpointError) -> Result) throws(Failure) -> Result {
    do throws(LibraryCheckpointError) { return try body() } catch { throw Failure(error) }
}
