import AmfClient
import CliClient
import ClmShell
import EOLoop
import IOCCluster
import LogClient
import OSAL
import SAFTypes

let log = Log.startDaemon("clmd").with(area: "CLM")
let program = DaemonProgram(
    name: "clmd", summary: "Membership of the cluster and the table of names: who is here, and who provides what.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/clmd           where clients connect
          $SAF_RUN_DIR/cluster            the cluster's description; without it the node is alone
          $SAF_RUN_DIR/clmd.member        this life of the node, for a restarted clmd
          $SAF_STATE_DIR/clmd.member      the last view number, for a restarted node
          $SAF_SHM_DIR/clmd.names         nodes and names, for a restarted clmd
        ENVIRONMENT of a node alone
          SAF_NODE_NAME  the node's name (default: the host's)
          SAF_NODE_ID    the node's number (default: 1)
        """)

program.run { loop, places in
    let description = try ClusterDescription.load(places)
    let daemon = try ClmDaemon(loop: loop, places: places, description: description) { log.warning($0) }
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "clmd")
    ClmConsole.register(commands, of: daemon)
    log.notice("node \(description.local.name), id \(description.localNode), is in view \(daemon.viewNumber)")
    return {
        daemon.leave { loop.stop() }
        loop.run()
        commands.close()
        component.close()
        daemon.close()
    }
}
