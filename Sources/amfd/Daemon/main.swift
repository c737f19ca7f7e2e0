import AmfShell
import OSAL

Environment.exit(AmfMain.run(arguments: CommandLine.arguments))
