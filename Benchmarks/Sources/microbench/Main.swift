import OSAL

@main
enum Main {
    static let groups: [(name: String, make: @Sendable () throws -> [Comparison])] = [
        ("osal", LockBenches.all), ("osal", TimerBenches.all), ("containers", ContainerBenches.all),
        ("types", WireBenches.all), ("ioc", MessageRingBenches.all), ("logd", LogRingBenches.all),
        ("amfd", ClusterBenches.all), ("replicated", ReplicatedBenches.all),
    ]

    static let help = """
        usage: microbench [--json] [BEGINNING-OF-A-NAME …]
        Measures single types of SwiftSAF, each beside a peer or floor in the same run. Without a name all are run.
        Example: microbench osal containers.ordered

        """

    static func main() {
        var (names, isJSON): ([String], Bool) = ([], false)
        for argument in CommandLine.arguments.dropFirst() {
            switch argument {
            case "--json": isJSON = true
            case "--help", "-h":
                StandardOutput.write(help)
                return
            case _ where argument.hasPrefix("-"):
                StandardError.write("microbench: unknown option \(argument)\n\(help)")
                Environment.exit(64)
            default: names.append(argument)
            }
        }
        Environment.exit(run(names, isJSON: isJSON) ? 0 : 1)
    }

    private static func run(_ names: [String], isJSON: Bool) -> Bool {
        var found = 0
        var isGood = true
        if !isJSON { StandardOutput.write(Table.header) }
        for group in groups {
            do {
                for comparison in try group.make() {
                    guard names.isEmpty || names.contains(where: { comparison.name.hasPrefix($0) }) else { continue }
                    found += 1
                    let figure = try Harness.measure(comparison)
                    StandardOutput.write(isJSON ? Table.json(figure) : Table.line(figure))
                }
            } catch {
                StandardError.write("microbench: \(group.name): \(error)\n")
                isGood = false
            }
        }
        if found == 0 {
            StandardError.write("microbench: no bench begins with \(names.joined(separator: " or "))\n")
            isGood = false
        }
        return isGood
    }
}
