import AmfClient
import CliShell
import EOLoop
import LogClient

let log = Log.startDaemon("cliserver").with(area: "CLI")
let program = DaemonProgram(
    name: "cliserver", summary: "The console: routes a command line to the daemon or component that owns the command.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/cliserver  where `saf` and the owners of commands connect
        Commands are run for root and for the user cliserver runs as.
        """)

program.run { loop, places in
    let daemon = try CliDaemon(loop: loop, places: places, version: DaemonProgram.version)
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    log.notice("the console is open")
    return {
        component.close()
        daemon.close()
    }
}
