import CkptClient
import EngineKit
import OSAL
import SafStage

let options = Options.fromArguments()
Interruption.cleanUpNodes()
do {
    Environment.exit(try demonstrate(options) ? 0 : 1)
} catch {
    StandardError.write("demo: \(error)\n")
    Environment.exit(1)
}
