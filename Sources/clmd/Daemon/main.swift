import AmfClient
import CliClient
import ClmShell
import EOLoop
import LogClient
import OSAL
import SAFTypes

let log = Log.startDaemon("clmd").with(area: "CLM")
let program = DaemonProgram(
    name: "clmd", summary: "Membership of the cluster and the table of names: who is here, and who provides what.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/clmd           where clients connect
          $SAF_RUN_DIR/clmd.member        this node's view, for a restarted clmd
          $SAF_STATE_DIR/clmd.member      the last view number, for a restarted node
          $SAF_SHM_DIR/clmd.names         the name table, for a restarted clmd
        ENVIRONMENT
          SAF_NODE_NAME  the node's name (default: the host's)
          SAF_NODE_ID    the node's number, 1 to 65535 (default: 1)
        """)

program.run { loop, places in
    let nodeID = try ClmConsole.nodeID(Environment.get("SAF_NODE_ID"))
    let daemon = try ClmDaemon(loop: loop, places: places, nodeID: nodeID) { log.warning($0) }
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "clmd")
    ClmConsole.register(commands, of: daemon)
    log.notice("node \(places.nodeName), id \(nodeID), is in view \(daemon.viewNumber)")
    return {
        commands.close()
        component.close()
        daemon.close()
    }
}
