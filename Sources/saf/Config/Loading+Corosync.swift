import SafCluster

private let algorithmWords: [(String, QuorumDevice.Algorithm)] = QuorumDevice.Algorithm.allCases.map {
    ($0.rawValue, $0)
}

extension Loading {
    /// What only corosync must know.
    func readCorosync(_ map: MapReader, into settings: inout CorosyncSettings) {
        if let flag = map.flag("realtime") { settings.isRealtime = flag }
        if let isEncrypted: Bool = map.word("corosyncSecurity", [("aes256", true), ("none", false)]) {
            settings.isEncrypted = isEncrypted
        }
        if let file = map.text("corosyncLog") {
            settings.logFile = file
            if !file.hasPrefix("/") {
                map.report(map.position(of: "corosyncLog"), "corosyncLog: a whole path expected, '\(file)' found")
            }
        }
        guard let node = map.node("quorum") else { return }
        let inner = MapReader(node, what: "quorum", file: map.file, at: node.position, diagnostics)
        settings.quorum.twoNode = inner.flag("twoNode")
        if let flag = inner.flag("autoTieBreaker") { settings.quorum.autoTieBreaker = flag }
        settings.quorum.expectedVotes = inner.number("expectedVotes", 1...1_024)
        settings.quorum.waitForAll = inner.flag("waitForAll")
        settings.quorum.device = device(inner)
        inner.finish()
    }

    private func device(_ map: MapReader) -> QuorumDevice? {
        guard let node = map.node("qdevice") else { return nil }
        let inner = MapReader(node, what: "qdevice", file: map.file, at: node.position, diagnostics)
        let host = inner.text("host")
        let algorithm: QuorumDevice.Algorithm = inner.word("algorithm", algorithmWords) ?? .ffsplit
        let isEncrypted = inner.flag("tls") ?? true
        inner.finish()
        guard let host, !host.isEmpty else {
            inner.report(node.position, "the key 'host' (where corosync-qnetd runs) is missing")
            return nil
        }
        return QuorumDevice(host: host, algorithm: algorithm, isEncrypted: isEncrypted)
    }
}
