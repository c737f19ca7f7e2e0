// swift-tools-version: 6.3
import PackageDescription

// One folder per service with up to four rooms; every room is a target, so a wrong import does not build
// (Tests/TidyTests holds the same table for what the compiler lets through).

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

/// For the ground rooms and those that a failover runs through: their generic and small functions are compiled into
/// their users. Without it a generic type used from another module runs unspecialised: a container up to 200 times
/// slower (starting a timer: 2 µs instead of 10 ns), a replicated engine with its metadata looked up anew each time.
let inlined: [SwiftSetting] = strict + [.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))]

func ground(_ name: String, _ path: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target
{
    .target(name: name, dependencies: dependencies, path: "Sources/\(path)", exclude: exclude, swiftSettings: inlined)
}

func room(_ name: String, _ path: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/\(path)", exclude: exclude, swiftSettings: strict)
}

func program(_ name: String, _ path: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, exclude: exclude, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude, swiftSettings: strict)
}

/// `SAF_TESTS=AmfTests,EOTests swift build --build-tests` builds only these test targets and the rooms they need: much
/// quicker while working in a room. A target that is no test may be named, too.
let chosenTargets = Context.environment["SAF_TESTS"].map { $0.split(separator: ",").map(String.init) }

/// The chosen targets and what they depend on, directly or not.
func needed(_ chosen: [String], of targets: [Target]) -> [Target] {
    var kept: Set<String> = []
    var open = chosen
    while let name = open.popLast() {
        guard kept.insert(name).inserted, let target = targets.first(where: { $0.name == name }) else { continue }
        for dependency in target.dependencies {
            switch dependency {
            case .targetItem(let name, _), .byNameItem(let name, _): open.append(name)
            default: break
            }
        }
    }
    return targets.filter { kept.contains($0.name) }
}

let base: [Target.Dependency] = ["EngineKit", "SAFTypes"]
let client: [Target.Dependency] = base + ["OSAL", "EOLoop", "IOC"]
let daemon: [Target.Dependency] = client + ["Containers", "IOCGroups", "EOReplicated", "LogClient"]

let package = Package(
    name: "SwiftSAF",
    products: [
        .library(name: "SwiftSAF", targets: ["SwiftSAF"]),
        .library(name: "SAFLogging", targets: ["SAFLogging"]),
        .library(
            name: "SAFFoundationRooms", targets: ["OSAL", "EngineKit", "EOLoop", "IOC", "Containers", "SAFTypes"]),
        // For Benchmarks/, besides the rooms above.
        .library(
            name: "SAFEngineRooms",
            targets: ["IOCGroups", "EOReplicated", "AmfProtocol", "AmfEngine", "LogProtocol", "LogClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // The ground everything stands on.
        .target(
            name: "COSAL", path: "Sources/OSAL/CShim", exclude: ["glibc"],
            cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]),
        // The headers of the C libraries.
        .target(
            name: "CSAF", path: "Sources/SAF/Headers", exclude: ["README.md"], publicHeadersPath: ".",
            cSettings: [.unsafeFlags(["-std=c11", "-Wall", "-Wextra", "-Werror"])]),
        ground("OSAL", "OSAL", ["COSAL", "EngineKit"], exclude: ["CShim", "README.md"]),
        ground("Containers", "Containers", [], exclude: ["README.md"]),
        ground("SAFTypes", "SAF/SAFTypes"),
        ground("EngineKit", "EO/EngineKit"),
        ground("EOLoop", "EO/Loop", ["OSAL", "EngineKit", "SAFTypes", "Containers"]),
        ground("IOCGroups", "IOC/Groups", base, exclude: ["README.md"]),
        ground("IOC", "IOC/Transport", base + ["OSAL", "EOLoop", "Containers"]),
        room(
            "IOCLinks", "IOC/Links", base + ["OSAL", "EOLoop", "IOC", "IOCCluster", "Containers"],
            exclude: ["README.md"]),
        ground("EOReplicated", "EO/Replicated", base + ["IOCGroups"]),
        room("IOCCluster", "IOC/Cluster", ["SAFTypes", "OSAL"]),
        .systemLibrary(name: "CCorosync", path: "Sources/IOC/Corosync/CCorosync"),
        room(
            "IOCCorosync", "IOC/Corosync", base + ["OSAL", "IOCGroups", "IOCCluster", "CCorosync"],
            exclude: ["CCorosync", "README.md"]),
        ground(
            "EOHost", "EO/Host",
            base + ["OSAL", "EOLoop", "EOReplicated", "IOCGroups", "IOCCluster", "IOCCorosync"]),
        room("ExecutionObject", "EO/ExecutionObject", client + ["CliProtocol", "CliClient"]),

        // Databases.
        .systemLibrary(name: "CSQLite", path: "Sources/DBAL/CSQLite"),
        .systemLibrary(name: "CBerkeleyDB", path: "Sources/DBAL/CBerkeleyDB"),
        .systemLibrary(name: "CGDBM", path: "Sources/DBAL/CGDBM"),
        room(
            "DBAL", "DBAL", ["CSQLite", "CBerkeleyDB", "CGDBM", "OSAL", "SAFTypes", "Containers"],
            exclude: ["CSQLite", "CBerkeleyDB", "CGDBM", "README.md"]),

        // amfd: availability.
        ground("AmfProtocol", "amfd/Protocol", ["SAFTypes", "Containers"]),
        ground("AmfEngine", "amfd/Engine", base + ["AmfProtocol", "Containers"]),
        room("AmfClient", "amfd/Client", client + ["AmfProtocol", "LogClient", "ExecutionObject"]),
        room(
            "AmfShell", "amfd/Shell",
            daemon + [
                "AmfProtocol", "AmfEngine", "AmfClient", "ClmClient", "EventProtocol", "EventClient", "LogProtocol",
                "CliClient",
                "CliProtocol", "EOHost", "IOCCluster", "IOCCorosync", "IOCLinks",
            ]),
        program("amfd", "Sources/amfd/Daemon", daemon + ["AmfShell"]),

        // clmd: membership and the IOC name table.
        room("ClmProtocol", "clmd/Protocol", ["SAFTypes", "Containers"]),
        room("ClmEngine", "clmd/Engine", base + ["ClmProtocol", "Containers"]),
        room("ClmClient", "clmd/Client", client + ["ClmProtocol"]),
        room(
            "ClmShell", "clmd/Shell",
            client + [
                "Containers", "IOCGroups", "IOCCluster", "EOReplicated", "EOHost", "ClmProtocol", "ClmEngine",
            ]),
        program(
            "clmd", "Sources/clmd/Daemon", daemon + ["ClmShell", "ClmProtocol", "IOCCluster", "AmfClient", "CliClient"]),

        // ckptd: checkpoints.
        room("CkptProtocol", "ckptd/Protocol", ["SAFTypes", "Containers"]),
        room("CkptEngine", "ckptd/Engine", base + ["CkptProtocol", "Containers", "EOReplicated"]),
        room("CkptClient", "ckptd/Client", client + ["CkptProtocol", "CkptLayout"]),
        ground("CkptLayout", "ckptd/Layout", ["SAFTypes", "EngineKit", "OSAL", "CkptProtocol"]),
        room("CkptStore", "ckptd/Store", base + ["OSAL", "CkptProtocol", "CkptLayout", "Containers", "DBAL"]),
        room("CkptLibrary", "ckptd/Library", ["SAFTypes", "OSAL", "DBAL"]),
        program(
            "ckptd", "Sources/ckptd/Daemon",
            daemon + [
                "EOHost", "IOCCluster", "IOCLinks", "DBAL", "CkptProtocol", "CkptLayout", "CkptEngine", "CkptStore",
                "LogProtocol", "AmfClient", "CliClient", "CliProtocol", "ClmClient", "ClmProtocol",
            ]),

        // logd: log streams.
        room("LogProtocol", "logd/Protocol", ["SAFTypes", "Containers"]),
        room("LogEngine", "logd/Engine", base + ["LogProtocol", "Containers"]),
        room("LogClient", "logd/Client", client + ["LogProtocol"]),
        room(
            "LogShell", "logd/Shell",
            client + [
                "Containers", "IOCGroups", "IOCCluster", "IOCLinks", "EOReplicated", "EOHost", "LogProtocol",
                "LogEngine", "LogClient",
            ]),
        program(
            "logd", "Sources/logd/Daemon",
            daemon + [
                "LogShell", "LogProtocol", "LogEngine", "IOCCluster", "AmfClient", "CliClient", "CliProtocol",
            ]),

        // eventd: event channels.
        room("EventProtocol", "eventd/Protocol", ["SAFTypes", "Containers"]),
        room("EventEngine", "eventd/Engine", base + ["EventProtocol", "Containers"]),
        room("EventClient", "eventd/Client", client + ["EventProtocol"]),
        program(
            "eventd", "Sources/eventd/Daemon",
            daemon + [
                "EOHost", "IOCCluster", "IOCLinks", "EventProtocol", "EventEngine", "LogProtocol", "AmfClient",
                "CliClient", "CliProtocol",
            ]),

        // cliserver and saf: the console.
        room("CliProtocol", "cliserver/Protocol", ["SAFTypes", "Containers"]),
        room("CliEngine", "cliserver/Engine", base + ["CliProtocol", "Containers"]),
        room("CliClient", "cliserver/Client", client + ["CliProtocol"]),
        room(
            "CliShell", "cliserver/Shell",
            client + ["IOCCluster", "CliProtocol", "CliEngine", "AmfProtocol", "SafText"]),
        program("cliserver", "Sources/cliserver/Daemon", daemon + ["CliShell", "CliProtocol", "AmfClient"]),
        room(
            "SafConfig", "saf/Config",
            base + [
                "OSAL", "AmfProtocol", "CliProtocol", "IOCCluster", "SafCluster",
                .product(name: "Yams", package: "Yams"),
            ],
            exclude: ["README.md"]),
        room("SafStage", "saf/Stage", ["OSAL", "EngineKit"]),
        room("SafCluster", "saf/Cluster", ["SAFTypes", "IOCCluster"], exclude: ["README.md"]),
        room("SafLab", "saf/Lab", ["OSAL", "EngineKit", "SAFTypes", "IOC", "IOCCluster", "IOCLinks", "SafCluster"]),
        room("SafText", "saf/Text", ["SAFTypes", "AmfProtocol", "CliProtocol"]),
        room(
            "SafBench", "saf/Bench",
            client + [
                "SafStage", "SafLab", "IOCGroups", "IOCCluster", "IOCCorosync", "AmfClient", "AmfProtocol",
                "CkptClient", "LogClient", "EventClient", "ClmClient", "CliClient",
            ]),
        program(
            "saf", "Sources/saf/Command",
            client + [
                "SafConfig", "SafCluster", "SafText", "SafBench", "DBAL", "IOCCluster", "IOCCorosync", "IOCLinks",
                "CliProtocol", "CliClient",
                "AmfProtocol", "AmfClient",
                "CkptClient",
                "LogClient", "EventClient", "ClmClient",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // What an application links.
        room(
            "SwiftSAF", "SAF/SwiftSAF",
            [
                "SAFTypes", "AmfClient", "AmfProtocol", "CkptClient", "CkptProtocol", "CkptLibrary",
                "LogClient", "EventClient", "EventProtocol", "ClmClient", "ClmProtocol", "CliClient", "CliProtocol",
                "ExecutionObject",
            ]),
        room(
            "SAFLogging", "SAF/SAFLogging",
            ["LogClient", "LogProtocol", .product(name: "Logging", package: "swift-log")]),

        // The demonstration.
        program("hello", "deploy/examples/hello", ["SwiftSAF"], exclude: ["README.md", "model.yaml"]),
        program("wordcount", "deploy/examples/wordcount", ["SwiftSAF"], exclude: ["README.md", "model.yaml"]),
        program(
            "demo", "deploy/demo",
            [
                "OSAL", "EngineKit", "SAFTypes", "IOC", "SafStage", "SafLab", "CkptClient", "AmfClient", "AmfProtocol",
            ]),

        // Several nodes on one machine: deploy/lab.
        program("saflab", "deploy/clusterlab", ["SafLab", "OSAL", "EngineKit"]),

        // A component that behaves as a test wants.
        program(
            "testcomponent", "Tests/Helpers/testcomponent", base + ["OSAL", "EOLoop", "IOCCluster", "SwiftSAF"]),

        tests("TidyTests", ["OSAL"]),
        tests("OSALTests", ["OSAL", "EngineKit", "oshelper"]),
        program("oshelper", "Tests/Helpers/oshelper", ["OSAL", "EngineKit"]),
        tests("ContainersTests", ["Containers"]),
        tests("DBALTests", ["DBAL", "OSAL", "EngineKit", "dbwriter"]),
        program("dbwriter", "Tests/Helpers/dbwriter", ["DBAL", "OSAL"]),
        tests("SAFTypesTests", ["SAFTypes"]),
        tests("EOTests", ["EngineKit", "EOLoop", "EOReplicated", "EOHost", "IOCGroups", "OSAL", "SAFTypes"]),
        tests(
            "ClusterTests",
            base + [
                "OSAL", "EOLoop", "EOReplicated", "EOHost", "IOCGroups", "IOCCluster", "IOCCorosync", "SafLab",
                "SafCluster", "groupmember", "clmmember", "eventd", "eventworker", "logd", "logwriter",
                "ckptd", "ckptworker", "linkpeer", "AmfProtocol",
                "AmfClient", "IOC", "amfd", "clmd", "cliserver", "saf", "testcomponent",
            ]),
        program(
            "groupmember", "Tests/Helpers/groupmember",
            base + ["OSAL", "EOLoop", "EOReplicated", "EOHost", "IOCGroups", "IOCCluster", "IOCCorosync"]),
        program("clmmember", "Tests/Helpers/clmmember", ["ClmClient", "ClmProtocol", "IOC", "OSAL", "SAFTypes"]),
        tests("IOCTests", ["IOC", "EOLoop", "OSAL", "SAFTypes", "EngineKit"]),
        tests("LinkTests", ["IOCLinks", "IOC", "IOCCluster", "EOLoop", "OSAL", "SAFTypes", "EngineKit", "linkpeer"]),
        program(
            "linkpeer", "Tests/Helpers/linkpeer",
            ["IOCLinks", "IOC", "IOCCluster", "EOLoop", "OSAL", "SAFTypes", "EngineKit"]),
        tests(
            "AmfTests",
            [
                "AmfProtocol", "AmfEngine", "AmfClient", "AmfShell", "SAFTypes", "EngineKit", "OSAL", "IOC", "EOLoop",
                "EOReplicated", "IOCGroups", "IOCCluster",
            ],
            exclude: ["Scenarios"]),
        tests(
            "ClmTests",
            [
                "ClmProtocol", "ClmEngine", "ClmClient", "ClmShell", "SAFTypes", "EngineKit", "OSAL", "EOLoop", "IOC",
                "EOReplicated", "IOCGroups", "IOCCluster",
            ]),
        tests("CkptLayoutTests", ["CkptLayout", "CkptProtocol", "SAFTypes", "EngineKit", "OSAL", "directwriter"]),
        program("librarywriter", "Tests/Helpers/librarywriter", ["CkptLibrary", "DBAL", "OSAL", "SAFTypes"]),
        tests("CkptLibraryTests", ["CkptLibrary", "DBAL", "SAFTypes", "EngineKit", "OSAL", "librarywriter"]),
        program(
            "directwriter", "Tests/Helpers/directwriter",
            ["CkptLayout", "CkptProtocol", "SAFTypes", "EngineKit", "OSAL"]),
        tests(
            "CkptTests",
            [
                "CkptProtocol", "CkptLayout", "CkptEngine", "CkptStore", "CkptClient", "SAFTypes", "EngineKit", "OSAL",
                "IOC",
                "IOCGroups", "EOReplicated", "Containers", "DBAL", "ckptd", "ckptworker", "ClmClient", "clmd",
            ]),
        tests(
            "CApiTests",
            [
                "CkptClient", "CkptLibrary", "CkptProtocol", "OSAL", "EngineKit", "SAFTypes", "IOCCluster", "ClmClient",
                "ckptd", "clmd",
            ],
            exclude: ["Programs", "README.md"]),
        tests(
            "LogTests",
            [
                "LogProtocol", "LogEngine", "LogClient", "LogShell", "SAFLogging", "SAFTypes", "EngineKit", "EOLoop",
                "OSAL",
                "IOC", "IOCGroups", "IOCCluster", "EOReplicated", "Containers", "logd", "logwriter",
                .product(name: "Logging", package: "swift-log"),
            ]),
        program("logwriter", "Tests/Helpers/logwriter", ["EngineKit", "LogClient", "LogProtocol", "OSAL", "SAFTypes"]),
        tests(
            "EventTests",
            [
                "EventProtocol", "EventEngine", "EventClient", "SAFTypes", "EngineKit", "OSAL", "IOC", "IOCGroups",
                "EOReplicated", "CliProtocol", "CliClient", "eventd", "cliserver", "eventworker",
            ]),
        program(
            "ckptworker", "Tests/Helpers/ckptworker", ["CkptClient", "CkptProtocol", "EngineKit", "OSAL", "SAFTypes"]),
        program("eventworker", "Tests/Helpers/eventworker", ["EventClient", "EventProtocol", "OSAL", "SAFTypes"]),
        tests(
            "CliTests",
            [
                "CliProtocol", "CliEngine", "CliClient", "CliShell", "SafConfig", "SafCluster", "IOCCluster", "SafText",
                "AmfProtocol", "SAFTypes",
                "ExecutionObject", "EngineKit", "OSAL", "EOLoop", "IOC", "CkptClient", "CkptProtocol",
            ]),
        tests(
            "ProcessTests",
            client + [
                "IOCCluster", "LogProtocol", "SwiftSAF", "SafStage", "SafLab", "AmfProtocol", "AmfClient", "CkptClient",
                "EventClient",
                "LogClient",
                "ClmClient",
                "CliClient",
            ]),
    ]
)

if let chosenTargets {
    package.targets = needed(chosenTargets, of: package.targets)
    package.products = []
}

// The C libraries: `make libraries` (`SAF_LIBRARIES=embedded swift build …`) builds libSaCkpt from the same sources as
// Embedded Swift (140 KB, needs libc only); `make libraries LIBRARIES=static` with the whole language and
// its runtime inside (megabytes): the fallback, should Embedded Swift fail one day. Files left out are those of daemons,
// and those that need a thread or `async`, which a C library does not bring along.
if let kind = Context.environment["SAF_LIBRARIES"] {
    let isEmbedded = kind == "embedded"
    // Small: one trap per function instead of one per check (the checks stay); what many functions have in common is in
    // one place (the outliner); closures are passed, not copied together with what they are passed to; no calls of the
    // checks for exclusive access, which do nothing in Embedded Swift. `make libraries` has the rest: one optimisation
    // over all rooms when they are linked, and no debug information. Large functions are not put into larger ones, and
    // Array.append(_:) is in one place for each type.
    let small = [
        "-wmo", "-Osize", "-enforce-exclusivity=unchecked", "-Xfrontend", "-function-sections", "-Xfrontend",
        "-mergeable-traps", "-Xfrontend", "-disable-stack-protector", "-Xllvm", "-enable-machine-outliner=always",
        "-Xllvm", "-sil-disable-pass=closure-specialize", "-Xllvm", "-sil-inline-overall-caller-block-limit=12",
        "-Xllvm", "-sil-inline-never-functions=Sa6appendyyxn",
    ]
    let flags = isEmbedded ? small : ["-cross-module-optimization"]
    var settings: [SwiftSetting] = strict + [.define("SAF_LIBRARY"), .unsafeFlags(flags)]
    if isEmbedded { settings += [.enableExperimentalFeature("Embedded")] }

    func library(
        _ name: String, _ path: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []
    ) -> Target {
        .target(
            name: name, dependencies: dependencies, path: "Sources/\(path)", exclude: exclude, swiftSettings: settings)
    }

    // Nobody may unload it: Swift's data does not survive that. Packed relocations are 12 KB less; they need glibc 2.36,
    // which Swift's random numbers need anyway. Retaining is a call, not 20 bytes in each of 400 places.
    let common = [
        "-z", "nodelete", "-z", "defs", "--gc-sections", "--icf=all", "-z", "pack-relative-relocs", "-mllvm",
        "-enable-machine-outliner=always", "-mllvm", "-inline-threshold=-50",
    ]

    /// The functions of a C library, each of which is a product of its own.
    func interface(
        _ name: String, _ path: String, _ dependencies: [Target.Dependency], needs: [String] = []
    ) -> Target {
        let target = library(name, path, ["CSAF", "SAFTypes", "OSAL", "SAFHandles"] + dependencies)
        target.exclude = ["lib\(name).map", "README.md"]
        let map = "\(Context.packageDirectory)/Sources/\(path)/lib\(name).map"
        let own = ["-soname", "lib\(name).so.1", "--version-script=\(map)"] + common
        target.linkerSettings = [
            .unsafeFlags(
                ["-use-ld=lld"] + own.flatMap { ["-Xlinker", $0] } + (isEmbedded ? [] : ["-static-stdlib"]))
        ]
        target.linkerSettings? += needs.map { .linkedLibrary($0) }
        return target
    }

    package.dependencies = []
    package.products = ["SaCkpt", "SafCkptLibrary"].map { .library(name: $0, type: .dynamic, targets: [$0]) }
    package.targets = [
        .target(
            name: "COSAL", path: "Sources/OSAL/CShim",
            exclude: ["glibc", "namespace.c", "packet.c", "spawn.c", "terminal.c"],
            cSettings: [
                .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-ffunction-sections"])
            ]),
        .target(name: "CSAF", path: "Sources/SAF/Headers", exclude: ["README.md"], publicHeadersPath: "."),
        library("EngineKit", "EO/EngineKit"),
        library("SAFTypes", "SAF/SAFTypes"),
        library(
            "OSAL", "OSAL", ["COSAL", "EngineKit"] + (isEmbedded ? ["Glibc"] : []),
            exclude: [
                "CShim", "README.md", "DynamicLibrary.swift", "File+Whole.swift", "Namespaces.swift", "Network.swift",
                "PacketSocket.swift", "Process.swift", "PseudoTerminal.swift", "RobustMutex.swift",
                "RobustSemaphore.swift", "ServiceManager.swift", "SharedFile.swift", "Signals.swift",
                "SocketAddress.swift", "Spawn.swift", "StandardOutput.swift", "StarterThread.swift", "TcpSocket.swift",
                "TerminalMode.swift",
                "Thread.swift", "TimingWheel.swift", "UnixSocket+Listening.swift",
            ]),
        library(
            "IOC", "IOC/Transport", ["SAFTypes", "EngineKit", "OSAL"],
            exclude: [
                "Arrivals.swift", "ClientRuntime.swift", "Connection+Async.swift", "Connection+Runtime.swift",
                "LoopConnection.swift", "Peer.swift", "ReplyMemory.swift", "Server.swift",
            ]),
        library("CkptProtocol", "ckptd/Protocol", ["SAFTypes"]),
        library(
            "CkptLayout", "ckptd/Layout", ["SAFTypes", "EngineKit", "OSAL", "CkptProtocol"],
            exclude: [
                "DirectLook.swift", "OpenerEntry.swift", "Root.swift", "SectionEntry.swift", "StoreError.swift",
                "Superblock.swift",
            ]),
        library(
            "CkptClient", "ckptd/Client", ["SAFTypes", "EngineKit", "OSAL", "IOC", "CkptProtocol", "CkptLayout"],
            exclude: [
                "Checkpoint+Async.swift", "Checkpoint+MappedAsync.swift", "CheckpointService+Admin.swift",
                "CheckpointService+Async.swift",
                "CheckpointSequence.swift", "SectionMirror+Async.swift", "Checkpoint+Looking+Async.swift",
                "Checkpoint+Replicas.swift", "Sections.swift", "BinaryCoding.swift", "BinaryCoding+Encoder.swift",
                "BinaryCoding+Decoder.swift", "Checkpoint+Codable.swift",
            ]),
        library("SAFHandles", "SAF/Handles", ["SAFTypes", "OSAL"]),
        interface("SaCkpt", "ckptd/SaCkpt", ["EngineKit", "IOC", "CkptProtocol", "CkptLayout", "CkptClient"]),
        .systemLibrary(name: "CSQLite", path: "Sources/DBAL/CSQLite"),
        library(
            "DBAL", "DBAL", ["CSQLite", "OSAL", "SAFTypes"],
            exclude: [
                "CSQLite", "CBerkeleyDB", "CGDBM", "README.md", "BerkeleyDatabase.swift", "BerkeleyLibrary.swift",
                "ChangeLog.swift", "DatabaseEngine.swift", "GdbmDatabase.swift", "GdbmImage.swift",
                "GdbmLibrary.swift",
            ]),
        library(
            "CkptLibrary", "ckptd/Library", ["SAFTypes", "OSAL", "DBAL"],
            exclude: ["LibraryCheckpoint.swift", "LibraryUpdate.swift", "Serializer.swift"]),
        interface("SafCkptLibrary", "ckptd/SafCkptLibrary", ["CkptLibrary", "DBAL"], needs: ["sqlite3"]),
    ]
    if isEmbedded {
        package.targets.append(.systemLibrary(name: "Glibc", path: "Sources/OSAL/CShim/glibc"))
    }
}
