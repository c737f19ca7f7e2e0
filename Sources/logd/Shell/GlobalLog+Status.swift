import EOHost
import IOCGroups
import IOCLinks
import LogEngine
import LogProtocol
import SAFTypes

// What is said of the global streams.

extension GlobalLog {
    var nodeStatus: GlobalNodeStatus {
        GlobalNodeStatus(
            node: description.localNode, keepsFiles: worker != nil, incarnation: spool.incarnation,
            accepted: spool.committed.count, acknowledged: spool.released.count, spoolBytes: UInt64(spool.bytes),
            lost: lost, ledger: engine.state.number, committed: engine.committed, written: engine.published,
            lastError: worker?.lastError ?? "")
    }

    /// Asks the other nodes, too; those that do not answer in time are left out.
    func status(then: @escaping (GlobalStatus) -> Void) {
        let others = (host.view?.members ?? []).map(\.node).filter { $0 != description.localNode }
        guard let links, !others.isEmpty else { return then(status([])) }
        var (found, open) = ([GlobalNodeStatus](), others.count)
        for node in others {
            links.call(Self.statusCode, [], to: node, timeout: Self.statusTimeout) { [weak self] result in
                if case .success(let body) = result, let status = try? GlobalNodeStatus(decoding: body) {
                    found.append(status)
                }
                open -= 1
                if open == 0, let self { then(self.status(found.sorted { $0.node < $1.node })) }
            }
        }
    }

    private func status(_ others: [GlobalNodeStatus]) -> GlobalStatus {
        let core = host.core
        let streams = core.streams.map { id, stream in
            GlobalStreamStatus(
                name: stream.name, attributes: stream.attributes, stream: stream.number,
                records: engine.state.counts[id] ?? 0, openers: stream.openers)
        }
        return GlobalStatus(
            registry: "\(host.status)", owner: core.owner, epoch: core.epoch, inSync: core.inSync, streams: streams,
            nodes: [nodeStatus] + others)
    }
}
