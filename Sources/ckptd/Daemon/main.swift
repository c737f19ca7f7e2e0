import AmfClient
import CliClient
import EOLoop
import IOCCluster
import LogClient

_ = Log.startDaemon("ckptd")
let program = DaemonProgram(
    name: "ckptd",
    summary: "The checkpoint service of this node: named state that outlives the processes that write it, and nodes.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/ckptd   where clients connect
          $SAF_SHM_DIR/ckpt/       one RAM file per checkpoint; a restarted ckptd finds its data there
          $SAF_SHM_DIR/ckpt/directory, lineage   on several nodes: what all of them know of all checkpoints
          $SAF_STATE_DIR/checkpoints   on controllers: the directory on disk, for when all nodes begin anew
          $SAF_STATE_DIR/checkpoint-data   the persistent checkpoints with a replica on this node
          $SAF_RUN_DIR/cluster     the cluster; without it this node is alone
        """)
program.run { loop, places in
    let shell = try CkptShell(
        loop: loop, places: places, description: try ClusterDescription.load(places), journal: Journal())
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
