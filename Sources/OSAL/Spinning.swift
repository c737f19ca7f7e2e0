/// How long this process may poll before it sleeps.
public enum Spinning {
    /// The environment variable with the limit in microseconds, 0 to 1000; 0 never polls.
    public static let variable: SystemString = "SAF_SPIN_MICROSECONDS"
    static let standardMicroseconds = 40
    static let networkMicroseconds = 100
    static let microsecondsMax = 1000

    /// The limit of this process: nothing with a single CPU, where polling keeps the other side from running.
    public static let limit = limit(setting: Environment.get(variable), cpuCount: Environment.cpuCount)

    /// The limit where answers of other machines are waited for: a round trip over TCP, where sleeping costs two
    /// wake-ups more. For daemons with links (``Loop/pollLonger(upTo:)``) and for callers, whose daemon may ask others.
    public static let networkLimit = limit(
        setting: Environment.get(variable), cpuCount: Environment.cpuCount, standard: networkMicroseconds)

    static func limit(setting: SystemString?, cpuCount: Int, standard: Int = standardMicroseconds) -> Duration {
        guard cpuCount > 1 else { return .zero }
        guard let setting, let microseconds = Int(setting) else { return .microseconds(standard) }
        return .microseconds(min(max(0, microseconds), microsecondsMax))
    }
}
