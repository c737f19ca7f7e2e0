import Testing

/// The table of Sources/README.md: which room may import what. The compiler lets an undeclared import through.
enum Rooms {
    static let ground: Set<String> = ["SAFTypes", "Containers"]
    static let pure = ground.union(["EngineKit", "IOCGroups", "EOReplicated"])
    static let running = pure.union(["OSAL", "EOLoop", "EOHost", "IOC", "IOCCluster", "Synchronization"])
    static let services = [
        "Amf": "amfd", "Clm": "clmd", "Ckpt": "ckptd", "Log": "logd", "Event": "eventd", "Cli": "cliserver",
    ]
    static let clients = Set(services.keys.map { $0 + "Client" })
    static let protocols = Set(services.keys.map { $0 + "Protocol" })

    /// The longest prefix of a file's folder decides.
    static let allowed: [String: Set<String>] = {
        var table: [String: Set<String>] = [
            "Sources/OSAL": ["COSAL", "Glibc", "EngineKit", "Synchronization"],
            "Sources/Containers": [],
            "Sources/SAF/SAFTypes": [],
            "Sources/SAF/Handles": ["SAFTypes", "OSAL", "Synchronization"],
            "Sources/SAF/SwiftSAF": clients.union(protocols).union(["SAFTypes", "ExecutionObject", "CkptLibrary"]),
            "Sources/SAF/SAFLogging": ["LogClient", "LogProtocol", "Logging"],
            "Sources/EO/EngineKit": [],
            "Sources/DBAL": ground.union(["CSQLite", "CBerkeleyDB", "CGDBM", "OSAL"]),
            "Sources/EO/Loop": ground.union(["EngineKit", "OSAL", "Synchronization"]),
            "Sources/EO/Replicated": ["EngineKit", "SAFTypes", "IOCGroups", "Containers"],
            "Sources/EO/Host": [
                "EngineKit", "SAFTypes", "OSAL", "EOLoop", "EOReplicated", "IOCGroups", "IOCCluster", "IOCCorosync",
                "Synchronization",
            ],
            "Sources/EO/ExecutionObject": running.union(["CliProtocol", "CliClient"]),
            "Sources/IOC/Groups": ["EngineKit", "SAFTypes", "Containers"],
            "Sources/IOC/Cluster": ["SAFTypes", "OSAL"],
            "Sources/IOC/Corosync": [
                "EngineKit", "SAFTypes", "OSAL", "IOCGroups", "IOCCluster", "CCorosync", "Synchronization",
            ],
            "Sources/IOC/Transport": ["EngineKit", "SAFTypes", "OSAL", "EOLoop", "Containers", "Synchronization"],
            "Sources/IOC/Links": ground.union(["EngineKit", "OSAL", "EOLoop", "IOC", "IOCCluster"]),
            "Sources/saf/Cluster": ["SAFTypes", "IOCCluster"],
            "Sources/saf/Config": ground.union([
                "EngineKit", "OSAL", "AmfProtocol", "CliProtocol", "IOCCluster", "SafCluster", "Yams",
            ]),
            "Sources/saf/Text": ["SAFTypes", "AmfProtocol", "CliProtocol"],
            "Sources/saf/Stage": ["EngineKit", "OSAL"],
            "Sources/saf/Lab": ["EngineKit", "OSAL", "SAFTypes", "IOC", "IOCCluster", "IOCLinks", "SafCluster"],
            "Sources/saf/Bench": running.union(clients).union(protocols).union(["SafStage", "SafLab", "IOCCorosync"]),
            "Sources/saf/Command": running.union(clients).union(protocols).union([
                "ArgumentParser", "SafConfig", "SafCluster", "SafText", "SafBench", "IOCCorosync", "IOCLinks", "DBAL",
            ]),
        ]
        for (name, folder) in services {
            let own: Set<String> = [
                "\(name)Protocol", "\(name)Engine", "\(name)Client", "\(name)Store", "\(name)Shell",
            ]
            table["Sources/\(folder)/Protocol"] = ground
            table["Sources/\(folder)/Engine"] = pure.union(["\(name)Protocol"])
            table["Sources/\(folder)/Store"] = pure.union(["\(name)Protocol", "OSAL", "Synchronization"])
            table["Sources/\(folder)/Client"] = running.union(["\(name)Protocol"])
            table["Sources/\(folder)/Shell"] = running.union(["IOCLinks"]).union(own).union(clients).union(protocols)
            table["Sources/\(folder)/Daemon"] = running.union(["IOCLinks"]).union(own).union(clients).union(protocols)
        }
        // A C library: no thread, no loop, nothing that Embedded Swift lacks.
        table["Sources/ckptd/SaCkpt"] = [
            "CSAF", "SAFTypes", "SAFHandles", "EngineKit", "OSAL", "IOC", "CkptProtocol", "CkptClient",
            "Synchronization",
        ]
        table["Sources/ckptd/SafCkptLibrary"] = ["CSAF", "SAFTypes", "SAFHandles", "OSAL", "DBAL", "CkptLibrary"]
        table["Sources/cliserver/Shell"]?.insert("SafText")
        table["Sources/ckptd/Layout"] = ["SAFTypes", "EngineKit", "OSAL", "Synchronization", "CkptProtocol"]
        table["Sources/ckptd/Library"] = ["SAFTypes", "OSAL", "Synchronization", "DBAL"]
        table["Sources/ckptd/Store"]?.formUnion(["DBAL", "CkptLayout"])
        table["Sources/ckptd/Client"]?.insert("CkptLayout")
        table["Sources/ckptd/Daemon"]?.insert("CkptLayout")
        table["Sources/ckptd/Daemon"]?.insert("DBAL")
        table["Sources/amfd/Shell"]?.insert("IOCCorosync")  // the lease has a group without a replicated engine
        table["Sources/amfd/Client"]?.formUnion(["LogClient", "ExecutionObject"])
        return table
    }()
}

@Suite("Imports")
struct ImportTests {
    @Test("Every file imports only what its room may")
    func table() {
        var seen = 0
        for file in SourceTree.swift where file.path.hasPrefix("Sources/") {
            let room = Rooms.allowed.keys.filter { file.folder == $0 || file.folder.hasPrefix($0 + "/") }.max {
                $0.count < $1.count
            }
            guard let room, let allowed = Rooms.allowed[room] else {
                Issue.record("\(file.path) stands in no room of the table")
                continue
            }
            seen += 1
            for (line, module) in file.imports where !allowed.contains(module) {
                Issue.record("\(file.path):\(line): \(room) may not import \(module)")
            }
        }
        #expect(seen > 50, "the tree was not found: \(seen) files below \(SourceTree.root)")
    }

    @Test("Only OSAL imports Glibc, and nobody Dispatch; the examples are users' programs")
    func systemModules() {
        for file in SourceTree.swift
        where !file.path.hasPrefix("Sources/OSAL/") && !file.path.hasPrefix("deploy/examples/") {
            for (line, module) in file.imports where ["Glibc", "Musl", "Dispatch", "COSAL", "Darwin"].contains(module) {
                Issue.record("\(file.path):\(line): imports \(module)")
            }
        }
    }

    @Test("C stands only in the shim and in the headers of the C libraries")
    func onlyShim() {
        for file in SourceTree.shim {
            #expect(file.path.hasPrefix("Sources/OSAL/CShim/") || file.path.hasPrefix("Sources/SAF/Headers/"))
        }
    }
}
