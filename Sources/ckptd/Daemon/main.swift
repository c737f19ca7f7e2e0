import AmfClient
import CliClient
import EOLoop
import LogClient

_ = Log.startDaemon("ckptd")
let program = DaemonProgram(
    name: "ckptd",
    summary: "The checkpoint service of this node: named state that outlives the processes that write it.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/ckptd   where clients connect
          $SAF_SHM_DIR/ckpt/       one RAM file per checkpoint; a restarted ckptd finds its data there
        """)
program.run { loop, places in
    let shell = try CkptShell(loop: loop, places: places, journal: Journal())
    try shell.serve(places: places)
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "ckptd")
    CkptConsole.register(commands, of: shell)
    return {
        commands.close()
        component.close()
        shell.stop()
    }
}
