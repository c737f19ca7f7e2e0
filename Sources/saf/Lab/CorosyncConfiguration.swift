/// The corosync.conf of a lab. Source: corosync.conf(5), votequorum(5).
enum CorosyncConfiguration {
    /// - Parameters:
    ///   - keyFile: where every node has the common key, as the node sees it.
    ///   - logFile: as the node sees it.
    static func text(_ options: LabOptions, keyFile: String, logFile: String) -> String {
        """
        totem {
        \(totem(options, keyFile: keyFile))
        }
        nodelist {
        \(options.allNodes.map { node($0, options) }.joined(separator: "\n"))
        }
        quorum {
        \(quorum(options).map { "  " + $0 }.joined(separator: "\n"))
        }
        system {
          sched_rr: \(options.isRealtime ? "yes" : "no")
        }
        logging {
          to_stderr: no
          to_syslog: no
          to_logfile: yes
          logfile: \(logFile)
          timestamp: hires
        }

        """
    }

    private static func totem(_ options: LabOptions, keyFile: String) -> String {
        var lines = ["version: 2", "cluster_name: \(options.name)", "transport: knet", "token: \(options.token)"]
        if options.planes > 1 { lines.append("link_mode: active") }
        if options.isEncrypted {
            lines += ["crypto_cipher: aes256", "crypto_hash: sha256", "keyfile: \(keyFile)"]
        } else {
            lines += ["crypto_cipher: none", "crypto_hash: none"]
        }
        if options.token < 500 {
            // The default is half the token; below knet's fixed heartbeat of 200 ms every link flaps.
            for plane in options.allPlanes {
                lines += ["interface {", "  linknumber: \(plane)", "  knet_ping_timeout: 1000", "}"]
            }
        }
        return lines.map { "  " + $0 }.joined(separator: "\n")
    }

    private static func node(_ node: Int, _ options: LabOptions) -> String {
        let addresses = options.allPlanes.map { "ring\($0)_addr: \(LabOptions.address(of: node, plane: $0))" }
        let lines = ["nodeid: \(node)", "name: \(LabOptions.nodeName(node))"] + addresses
        return "  node {\n" + lines.map { "    " + $0 }.joined(separator: "\n") + "\n  }"
    }

    private static func quorum(_ options: LabOptions) -> [String] {
        var lines = ["provider: corosync_votequorum"]
        if options.isTwoNode ?? (options.nodes == 2 && !options.hasAutoTieBreaker) {
            // Without wait_for_all: 0 a node of a two-node lab that starts alone would wait for the other.
            lines += ["two_node: 1", "wait_for_all: 0"]
        }
        if options.hasAutoTieBreaker { lines.append("auto_tie_breaker: 1") }
        if options.nodes == 1 { lines.append("expected_votes: 1") }
        return lines
    }
}
