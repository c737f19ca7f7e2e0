import EOLoop
import EventProtocol
import LogClient

_ = Log.startDaemon("eventd")
let program = DaemonProgram(
    name: "eventd", summary: "The event service of this node: channels, subscriptions with filters, retained events.",
    details: """
        Files: SAF_SHM_DIR/eventd/ keeps channels and retained events across a restart.
        Limits: \(EventLimits.channelsMax) channels, events of \(EventLimits.eventSizeMax) octets, \
        \(EventLimits.queueMax) waiting events per open channel.
        """)
program.run { loop, places in
    let shell = try EventShell(loop: loop, places: places)
    return { shell.stop() }
}
