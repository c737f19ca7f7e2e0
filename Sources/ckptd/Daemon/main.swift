// ckptd: the checkpoint service of one node. See the README beside this folder.

import AmfClient
import CkptStore
import EOLoop
import IOC
import OSAL

let help = """
    usage: ckptd [--help | --version]
    The checkpoint service of this node. Started by amfd, or alone.
    SAF_RUN_DIR  its socket is ioc/ckptd there    SAF_SHM_DIR  checkpoints are in ckpt/ there (RAM files)
    SAF_LOG_STDERR=1  log to standard error, too

    """

@MainActor func run() throws {
    let places = Places.fromEnvironment()
    let loop = try Loop(name: "ckptd")
    let shell = try CkptShell(loop: loop, places: places, journal: Journal())
    try shell.serve(places: places)
    let stop = {
        shell.stop()
        loop.stop()
    }
    try loop.onSignals([.terminate, .interrupt]) { _ in stop() }
    let component = DaemonComponent(loop: loop, places: places, onTerminate: stop)
    loop.run()
    component.close()
}

switch CommandLine.arguments.dropFirst().first {
case "--help", "-h": StandardOutput.write(help)
case "--version": StandardOutput.write("ckptd 0.1.0 (layout 1)\n")
case .some(let argument):
    StandardError.write("ckptd: unknown argument \(argument)\n\(help)")
    Environment.exit(100)
case nil:
    do { try run() } catch {
        StandardError.write("ckptd: \(error)\n")
        Environment.exit(111)
    }
}
