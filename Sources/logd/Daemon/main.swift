import AmfClient
import CliClient
import EOLoop
import IOCCluster
import LogClient
import LogShell
import OSAL

let program = DaemonProgram(
    name: "logd", summary: "Log streams: takes the records of all processes out of shared memory and writes the files.",
    details: """
        FILES
          $SAF_RUN_DIR/ioc/logd             where clients connect
          $SAF_SHM_DIR/log/ring.PID.START   one process's records
          $SAF_SHM_DIR/log/doorbell         with which a writer wakes logd
          $SAF_SHM_DIR/log/filter           severities and rules set at run time
          $SAF_SHM_DIR/log/batch            what is being written, for a restarted logd
          $SAF_SHM_DIR/log/spool            records of global streams until the owner of their files has them
          $SAF_STATE_DIR/log                a controller's ledger of the global streams
          $SAF_LOG_DIR/STREAM_TIME.log      the lines; STREAM is system, application or, on controllers, a global one
          $SAF_LOG_DIR/STREAM.log           leads to the newest
          $SAF_CONFIG_DIR/logfilter.txt     filter rules; read at the start and when it changes
        ENVIRONMENT
          SAF_LOG_FILE_BYTES   when a file is full (default: 5000000)
          SAF_LOG_FILES        how many files of a stream are kept (default: 4)
          SAF_LOG_OUTPUT_RATE  bytes a second of one component's stdout and stderr (default: 262144)
          SAF_LOG_SPOOL_BYTES  bytes of the spool; made a power of two (default: 8388608)
          SAF_LOG_LEDGER_BYTES bytes of the ledger that are kept (default: 67108864)
        """)

_ = Log.startDaemon("logd")
program.run { loop, places in
    let daemon = try LogDaemon(
        loop: loop, places: places, description: try ClusterDescription.load(places), options: .fromEnvironment())
    let component = DaemonComponent(loop: loop, places: places) { loop.stop() }
    let commands = LoopCommands(loop: loop, places: places, owner: "logd")
    LogConsole.register(commands, of: daemon)
    let rules = RulesFile(loop: loop, places: places) { daemon.setRules($0) }
    return {
        rules.close()
        commands.close()
        component.close()
        daemon.close()
    }
}
