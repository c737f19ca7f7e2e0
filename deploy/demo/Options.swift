import OSAL

/// What `demo` was asked to do.
struct Options {
    var isCluster = false
    /// Nil: as many as the demonstration usually takes.
    var kills: Int?
    var seed = UInt64.random(in: 1...999_999)
    var input: String?
    var megabytes: Int?
    var example = "deploy/examples/wordcount"
    var keepsFolder = false
    /// Part of the names of the faults that are wanted; empty: all.
    var only = ""

    static let help = """
        USAGE: demo [--cluster] [--kills N] [--seed N] [--input FILE] [--megabytes N] [--example DIR] [--keep]
                    [--only TEXT]

        Runs the word-count service, active and standby, on one node, and kills it while it works:
        the active component, every daemon, amfd and the guard, with SIGKILL at random moments.
        Then compares the result with `tr | sort | uniq -c`.

        With --cluster on three nodes of this machine, two with the service and one payload, each with
        its own corosync: nodes are killed, frozen and cut off, networks cut, corosync stopped and
        killed, and all of the above killed on any of them; an observer outside watches that never two
        are active at once. Needs root.

          --kills N       how many kills (default 40; of a cluster 135 faults: about 4 minutes)
          --seed N        repeats the plan: the same targets at the same places of the text (default: random, printed)
          --input FILE    the text (default: a licence text of this machine); repeated to the size below
          --megabytes N   the size of the text (default 36: about 20 seconds; of a cluster 192, cut when it was enough)
          --example DIR   where model.yaml of the example is (default deploy/examples/wordcount)
          --keep          keep the folder of the run, with all logs
          --only TEXT     of a cluster, only the faults whose names contain this: frozen, ckptd, network

        Exit status: 0 the result is identical; 1 it is not, two were active at once, or something did not
        recover; 2 usage; 3 skipped: this machine cannot show a cluster.
        """

    /// Prints what is wrong and exits with 2 when the arguments cannot be understood.
    static func fromArguments() -> Options {
        var options = Options()
        var arguments = CommandLine.arguments.dropFirst()
        func refuse(_ text: String) -> Never {
            StandardError.write("demo: \(text)\n\(help)\n")
            Environment.exit(2)
        }
        func value(of name: String) -> String {
            guard let value = arguments.popFirst() else { refuse("\(name) needs a value") }
            return value
        }
        func number<Value: FixedWidthInteger>(of name: String, _ range: ClosedRange<Value>) -> Value {
            let text = value(of: name)
            guard let number = Value(text), range.contains(number) else {
                refuse("\(name) \(text): a number from \(range.lowerBound) to \(range.upperBound) expected")
            }
            return number
        }
        while let argument = arguments.popFirst() {
            switch argument {
            case "--cluster": options.isCluster = true
            case "--kills": options.kills = number(of: argument, 0...100_000)
            case "--seed": options.seed = number(of: argument, 0...UInt64.max)
            case "--input": options.input = value(of: argument)
            case "--megabytes": options.megabytes = number(of: argument, 1...10_000)
            case "--example": options.example = value(of: argument)
            case "--only": options.only = value(of: argument)
            case "--keep": options.keepsFolder = true
            case "--help", "-h":
                StandardOutput.write(help + "\n")
                Environment.exit(0)
            default: refuse("unknown argument \(argument)")
            }
        }
        return options
    }
}
