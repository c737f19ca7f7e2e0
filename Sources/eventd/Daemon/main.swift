import AmfClient
import CliClient
import EOLoop
import EventProtocol
import IOCCluster
import LogClient
import OSAL

_ = Log.startDaemon("eventd")
let program = DaemonProgram(
    name: "eventd", summary: "The event service of this node: channels, subscriptions with filters, retained events.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/eventd        where clients connect
          $SAF_SHM_DIR/eventd/registry   the channels, for a restarted eventd
          $SAF_SHM_DIR/eventd/node       what clients have open, what they wait for, and retained events
          $SAF_RUN_DIR/cluster           the cluster; without it this node is alone
        ENVIRONMENT
          SAF_NODE_ID  the number of a node that is alone, 1 to 65535 (default: 1)
        LIMITS
          \(EventLimits.channelsMax) channels, events of \(EventLimits.eventSizeMax) octets, \
        \(EventLimits.queueMax) waiting events per open channel
        """)
program.run { loop, places in
    let shell = try EventShell(loop: loop, places: places, description: try EventConsole.description(places))
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "eventd")
    EventConsole.register(commands, of: shell)
    return {
        commands.close()
        component.close()
        shell.stop()
    }
}
