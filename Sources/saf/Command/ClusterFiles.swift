import ArgumentParser
import IOCCluster
import IOCLinks
import OSAL
import SafCluster
import SafConfig

/// The files of a cluster on this machine, below SAF_CONFIG_DIR.
struct ClusterFiles {
    let folder: String

    static let here = ClusterFiles(folder: Tool.places.configDirectory)

    var cluster: String { folder + "/cluster.yaml" }
    var corosyncFolder: String { folder + "/corosync" }
    var corosyncKey: String { corosyncFolder + "/authkey" }
    var corosyncConfiguration: String { corosyncFolder + "/corosync.conf" }
    var authority: String { folder + "/authority" }
    var certificates: String { folder + "/certificates" }

    /// Reads cluster.yaml; every error on stderr, and status 2.
    func plan() throws -> ClusterPlan {
        guard File.exists(cluster) else {
            throw Tool.fail(
                """
                saf: there is no \(cluster): this machine belongs to no cluster.
                Make one with: saf cluster init NAME --node NAME=ADDRESS …; or join one with: saf cluster join FILE
                """, .refused)
        }
        let text: String
        do throws(OSError) {
            text = try File.readText(cluster, limit: 1 << 20)
        } catch {
            throw Tool.fail("saf: the cluster's configuration cannot be read: \(error)", .refused)
        }
        return try Self.plan(of: text, file: cluster)
    }

    /// Every error on stderr, and status 2.
    static func plan(of text: String, file: String) throws -> ClusterPlan {
        let outcome = ConfigLoader.load(
            models: [], cluster: ConfigSource(file: file, text: text), environment: ConfigFiles.environment)
        if let plan = outcome.cluster { return plan }
        for error in outcome.errors { StandardError.write("\(error)\n") }
        throw ExitCode(Tool.Status.refused.rawValue)
    }

    func write(key: [UInt8]) throws(OSError) {
        try File.makeDirectories(corosyncFolder, mode: 0o700)
        try File.writeAtomically(corosyncKey, key, durable: true, mode: 0o400)
    }

    /// Where corosync.conf goes, and what the user still has to do.
    ///
    /// - Parameter path: nil: beside the key.
    func write(corosync plan: ClusterPlan, to path: String?) throws(OSError) -> String {
        let target = path ?? corosyncConfiguration
        try File.makeDirectories(File.parent(of: target))
        try File.writeAtomically(target, text: CorosyncConfiguration.text(plan), durable: true)
        let start = "systemctl enable corosync && systemctl restart corosync"
        if target == CorosyncConfiguration.systemPath { return "\(start) (or, without systemd: corosync)" }
        return """
            cp \(target) \(CorosyncConfiguration.systemPath) && \(start)
            (or, without systemd: corosync -f -c \(target))
            """
    }
}
