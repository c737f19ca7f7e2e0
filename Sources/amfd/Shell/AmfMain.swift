import AmfEngine
import OSAL

/// The program.
public enum AmfMain {
    public static let version = "0.1.0"

    /// Runs amfd or its guard; returns the exit status.
    public static func run(arguments: [String]) -> Int32 {
        SignalNumber.pipe.ignore()
        let places = Places.fromEnvironment()
        do {
            let executable = Environment.executablePath ?? arguments.first ?? "amfd"
            let options = try AmfOptions(arguments: Array(arguments.dropFirst()), executable: executable)
            switch options.mode {
            case .help: StandardOutput.write(AmfOptions.help)
            case .version: StandardOutput.write("amfd (SwiftSAF) \(version)\n")
            case .guard: return try Guard(options: options, places: places).run()
            case .daemon: return try AmfDaemon(options: options, places: places).run()
            }
            return 0
        } catch let error as OptionError {
            Say.error("amfd: \(error.text)")
            return GuardEngine.permanentExitCode
        } catch let refusal as Refusal {
            Say.error("amfd: \(refusal.text)")
            return refusal.isPermanent ? GuardEngine.permanentExitCode : 1
        } catch {
            Say.error("amfd: \(error)")
            return 1
        }
    }
}
