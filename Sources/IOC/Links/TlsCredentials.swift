import OSAL

/// The certificates of a folder as they are now: a renewed one is used from the next handshake on, without a restart.
final class TlsCredentials {
    private static let files = ["ca.pem", "node.pem", "node.key"]

    private let folder: String
    private var context: TlsContext
    private var status: [FileStatus?]

    init(folder: String) throws(LinkError) {
        self.folder = folder
        status = Self.status(of: folder)
        context = try TlsContext(folder: folder)
    }

    /// For the next session. Files that changed and cannot be used are reported; those before them stay in use, and
    /// the next handshake tries again: a renewal is being written, perhaps.
    ///
    /// Three calls of stat(2) for each handshake, and small files of this machine to read after a change.
    func current(_ trouble: (String) -> Void) -> TlsContext {
        let status = Self.status(of: folder)
        guard status != self.status else { return context }
        do throws(LinkError) {
            context = try TlsContext(folder: folder)
            self.status = status
        } catch {
            trouble("the certificates have changed, those before stay in use: \(error)")
        }
        return context
    }

    /// Asked before the files are read: what is written meanwhile is seen as a change the next time.
    private static func status(of folder: String) -> [FileStatus?] {
        files.map { try? File.stat("\(folder)/\($0)") }  // a missing file is a status, too
    }
}
