import CkptLayout
import OSAL

// directwriter kills ROUNDS SEED: writers of direct sections that are killed at random instructions; says "ok" and what
// it saw, or the first thing that was wrong. `together`: the same while three others go on writing. `told`: while
// somebody looks what is to be told.
let arguments = CommandLine.arguments
guard arguments.count == 4, let rounds = Int(arguments[2]), let seed = UInt64(arguments[3]) else { Environment.exit(2) }
do {
    let field = try KillingField(seed: seed, isTold: arguments[1] == "told")
    switch arguments[1] {
    case "kills": StandardOutput.write(try field.killAlone(rounds: rounds) + "\n")
    case "told": StandardOutput.write(try field.killTold(rounds: rounds) + "\n")
    case "together": StandardOutput.write(try field.killTogether(rounds: rounds) + "\n")
    default: Environment.exit(2)
    }
} catch {
    StandardError.write("directwriter, seed \(seed): \(error)\n")
    Environment.exit(1)
}
