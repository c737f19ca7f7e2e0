import LogClient
import OSAL
import SAFTypes

extension Component {
    /// Registers this process and runs `body`: the whole `main` of most components.
    ///
    /// Where that cannot be, or when `body` throws, the process ends with status 1 and a sentence about why, instead of
    /// a stack trace: in the log, and on stderr when it was not started by amfd, which recovers what it has started.
    public static func run(_ body: @Sendable (Component) async throws -> Void) async {
        let component: Component
        do throws(AisError) {
            component = try await register()
        } catch {
            let name = Environment.executablePath?.split(separator: "/").last ?? "component"
            StandardError.write("\(name): \(explanation(of: error))\n")
            Environment.exit(1)
        }
        do {
            try await body(component)
        } catch {
            Log.error("\(component.name) ends: \(error)", area: "AMF")
            Environment.exit(1)
        }
    }

    private static func explanation(of error: AisError) -> String {
        error == .notExist
            ? "not started by amfd; put it into a model and start amfd --guard"
            : "amfd did not register it (\(error)); the log says why: saf log tail"
    }
}
