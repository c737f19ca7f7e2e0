// A component for tests: testcomponent MODE [ARGUMENT]
//   run [MIB]    registers, takes every assignment; holds MIB of memory; `run` components follow hot
//   silent       never registers
//   exit [CODE]  ends at once
//   flood        registers, then prints without end
//   hold [MIB]   holds the life lock in the page on descriptor 3, says "held" on descriptor 4, waits to be killed
//   thread       holds the life lock there on a thread that then ends, and waits
//   measure N    kills the active of the running node N times and prints how long the standby waited
//   model MIB    writes the model for it, as saf config compile does
//   deaf         registers, then never answers
//   services     run, and uses the log, a checkpoint and an event channel once; says so on stdout
//   permits      run, and takes two permits of the named semaphore "shared" for good
//   offspring    run, with a child in a session of its own
//   unhealthy    run, and answers every health check with a failure
//   confirms     run, and confirms its health by itself
//   act FILE     run, and while it is active appends a line to FILE each millisecond: node, begin of its life, time
//   write FILE   run, and while it is active writes a checkpoint; each acknowledged write is such a line, others say
//                what was refused (see CheckpointActor)
//   output       writes 4 MiB to stdout with nobody reading, says how much was taken on descriptor 4

//
// Under the name of a daemon of the middleware it stands in for it, under the name saf it answers `config compile` with
// the files model.bin or errors.txt of $SAF_CONFIG_DIR.

import AmfClient
import OSAL

let arguments = CommandLine.arguments
let mode = arguments.count > 1 ? arguments[1] : ""
let number = arguments.count > 2 ? Int(arguments[2]) ?? 0 : 0

switch arguments[0].split(separator: "/").last ?? "" {
case "saf": Behaviour.compile()
case "clmd", "logd", "ckptd", "eventd", "cliserver": Behaviour.daemon()
default: break
}
switch mode {
case "measure": Measure.failovers(number)
case "model": Measure.writeModel(mebibytes: number)
case "echo": Measure.echo()
case "deaf": await Behaviour.deaf()
case "run": await Behaviour.run(mebibytes: number)
case "act": await Behaviour.act(arguments.count > 2 ? arguments[2] : "/dev/null")
case "write": await Behaviour.write(arguments.count > 2 ? arguments[2] : "/dev/null")
case "flood": await Behaviour.run { Behaviour.flood() }
case "services": await Behaviour.run { await Behaviour.useServices() }
case "permits": await Behaviour.run { Behaviour.takePermits() }
case "offspring": await Behaviour.run { Behaviour.startChild() }
case "unhealthy": await Behaviour.run(isHealthy: false)
case "confirms": await Behaviour.run(confirms: true)
case "silent": Behaviour.waitForEver()
case "exit": Environment.exit(Int32(number))
case "hold": Behaviour.hold(mebibytes: number)
case "thread": Behaviour.holdOnThread()
case "output": Behaviour.output()
default:
    StandardError.write("testcomponent: unknown mode \(mode)\n")
    Environment.exit(64)
}
