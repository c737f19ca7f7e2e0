import IOC
import LogEngine
public import LogProtocol
import OSAL
public import SAFTypes

// Requests about global streams.

extension LogDaemon {
    func askedByWriter(_ request: Request, _ body: UnsafeRawBufferPointer) {
        do throws(DecodeError) {
            switch try LogRequest(code: request.code, body: body) {
            case .open(let name, let attributes): open(request, name, attributes)
            case .close(let stream): close(request, stream)
            default: request.fail(.invalidParam, "request \(request.code) is none of a writer's")
            }
        } catch {
            request.fail(.invalidParam, "logd cannot read request \(request.code): \(error)")
        }
    }

    private func opener(_ request: Request, of id: StreamID) -> StreamOpeners.Opener {
        let info = request.peer.info
        return StreamOpeners.Opener(process: info.credentials.pid, startTime: info.startTime, stream: id)
    }

    private func open(_ request: Request, _ name: SaName, _ attributes: StreamAttributes?) {
        let global = global
        // The well-known ones are open for everybody, and need no registry.
        if let (_, stream) = global.host.core.streams.first(where: { $0.value.name == name }), stream.isWellKnown {
            guard attributes == nil else {
                return request.fail(.invalidParam, "\(name) is always there; its attributes are not to be given")
            }
            return request.reply(OpenedStream(stream: stream.number).encoded)
        }
        if let fault = attributes?.fault { return request.fail(.invalidParam, fault) }
        global.propose(.open(name, attributes, by: global.description.localNode)) { [unowned self] result in
            switch result {
            case .failure(let error): request.fail(error.code, error.text)
            case .success(let id):
                guard let id, let stream = global.host.core.streams[id] else {
                    return request.fail(.tryAgain, "stream \(name) was closed in the same moment")
                }
                guard global.openers.add(opener(request, of: id)) else {
                    return request.fail(.noResources, "\(StreamOpeners.openersMax) streams are open on this node")
                }
                request.reply(OpenedStream(stream: stream.number).encoded)
            }
        }
    }

    private func close(_ request: Request, _ stream: LogStream) {
        if let id = global.host.core.stream(numbered: stream) {
            global.openers.remove(opener(request, of: id))
        }
        request.reply([])
    }

    func tailGlobal(
        _ request: Request, _ stream: LogStream, _ filter: LineFilter, backlog: Int, follows: Bool
    ) {
        guard let id = global.host.core.stream(numbered: stream), let registered = global.host.core.streams[id] else {
            return request.fail(.notExist, "there is no \(stream)")
        }
        guard global.worker != nil else {
            let owner = global.engine.ownership.owner.map { "; ask node \($0.node.rawValue)" } ?? ""
            return request.fail(.notExist, "this node keeps no files of global streams\(owner)")
        }
        tails.begin(
            request, filter, fileName: registered.attributes.fileName, backlog: backlog, follows: follows)
    }

    /// The global streams, with what the other nodes answer.
    public func globalStatus(then: @escaping (GlobalStatus) -> Void) { global.status(then: then) }

    /// As the cluster's description names it.
    public func name(of node: NodeID) -> String {
        global.description.node(node)?.name.description ?? "node \(node.rawValue)"
    }

    func setGlobalSeverity(_ request: Request, _ stream: LogStream, _ severity: LogSeverity?) {
        guard let id = global.host.core.stream(numbered: stream) else {
            return request.fail(.notExist, "there is no \(stream)")
        }
        global.propose(.setSeverities(id, severity.map { SeveritySet(upTo: $0) } ?? .all)) { result in
            switch result {
            case .success: request.reply([])
            case .failure(let error): request.fail(error.code, error.text)
            }
        }
    }
}
