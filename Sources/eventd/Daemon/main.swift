import AmfClient
import CliClient
import EOLoop
import EventProtocol
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
        ENVIRONMENT
          SAF_NODE_ID  the node's number, 1 to 65535 (default: 1)
        LIMITS
          \(EventLimits.channelsMax) channels, events of \(EventLimits.eventSizeMax) octets, \
        \(EventLimits.queueMax) waiting events per open channel
        """)
program.run { loop, places in
    let shell = try EventShell(loop: loop, places: places, node: EventConsole.nodeID(Environment.get("SAF_NODE_ID")))
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "eventd")
    EventConsole.register(commands, of: shell)
    return {
        commands.close()
        component.close()
        shell.stop()
    }
}
