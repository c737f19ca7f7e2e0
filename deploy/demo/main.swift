import CkptClient
import EngineKit
import OSAL
import SafLab
import SafStage

let options = Options.fromArguments()
Interruption.cleanUpNodes()
if options.isCluster, let obstacle = ClusterLab.obstacle() {
    StandardError.write("demo: skipped: \(obstacle)\n")
    Environment.exit(3)
}
do {
    let isGood = try options.isCluster ? demonstrateCluster(options) : demonstrate(options)
    Environment.exit(isGood ? 0 : 1)
} catch {
    StandardError.write("demo: \(error)\n")
    Environment.exit(1)
}
