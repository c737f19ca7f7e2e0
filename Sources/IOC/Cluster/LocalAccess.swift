public import OSAL

/// Who may connect to a daemon of this node: the users and groups of ``AccessRule`` by their numbers, looked up once,
/// because a daemon does not wait for a directory of accounts while it serves.
public struct LocalAccess: Sendable {
    private let isOpen: Bool
    private let users: [UInt32]
    private let groups: [UInt32]
    /// Names that this machine does not know: they admit nobody.
    public let unknown: [String]

    public init(_ rule: AccessRule) {
        isOpen = rule.isOpen
        let (users, groups) = (
            rule.users.map { ($0, Environment.account(named: $0)?.userID) },
            rule.groups.map { ($0, Environment.groupID(named: $0)) }
        )
        self.users = [0, Environment.userID] + users.compactMap(\.1)
        self.groups = groups.compactMap(\.1)
        unknown = (users + groups).filter { $0.1 == nil }.map(\.0)
    }

    /// That of this node's cluster. With a description that cannot be read nobody but root and this process's own user
    /// is admitted.
    ///
    /// May wait for the disk and for the accounts: at a daemon's start.
    public static func ofNode(_ places: Places) -> LocalAccess {
        do throws(ClusterDescriptionError) {
            return LocalAccess(try ClusterDescription.load(places).access)
        } catch {
            return LocalAccess(AccessRule(users: ["0"]))
        }
    }

    /// - Parameter groups: all groups of the process.
    public func admits(user: UInt32, groups: [UInt32]) -> Bool {
        isOpen || users.contains(user) || groups.contains { self.groups.contains($0) }
    }
}
