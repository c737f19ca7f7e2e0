import EOLoop
import EngineKit
import IOCCluster
import OSAL
import SAFTypes

/// Runs fence agents: the programs that cut a node off for certain. Loop thread only.
///
/// The protocol is that of the fence-agents: `name=value` lines on standard input, exit status 0 when it is done.
/// Source: https://github.com/ClusterLabs/fence-agents/blob/main/doc/FenceAgentAPI.md.
final class Fencer {
    private let loop: Loop
    private let settings: FencingSettings
    private var running: [NodeID: Run] = [:]

    static let folder = "/usr/sbin"
    static let parametersMax = 64 << 10

    private final class Run {
        let then: (String?) -> Void
        var left: [FencingDevice]
        var failures: [String] = []
        var pidfd: SharedDescriptor?
        var output: SharedDescriptor?
        var watch: WatchID?
        var timer: LoopTimer?
        var isLate = false
        init(_ devices: [FencingDevice], _ then: @escaping (String?) -> Void) { (left, self.then) = (devices, then) }
    }

    init(loop: Loop, settings: FencingSettings) { (self.loop, self.settings) = (loop, settings) }

    /// Tries the node's devices in their order.
    ///
    /// - Parameter then: nil, the node is off; else why it may not be.
    func fence(_ node: NodeID, then: @escaping (String?) -> Void) {
        guard running[node] == nil else { return }
        running[node] = Run(settings.devices.filter { $0.node == node }, then)
        tryNext(node)
    }

    private func tryNext(_ node: NodeID) {
        guard let run = running[node] else { return }
        guard !run.left.isEmpty else {
            running[node] = nil
            return run.then(run.failures.isEmpty ? "it has no device" : run.failures.joined(separator: "; "))
        }
        let device = run.left.removeFirst()
        do throws(OSError) {
            try start(device, run, node)
        } catch {
            run.failures.append("\(device.agent): \(error)")
            tryNext(node)
        }
    }

    private func start(_ device: FencingDevice, _ run: Run, _ node: NodeID) throws(OSError) {
        let path = device.agent.hasPrefix("/") ? device.agent : "\(Self.folder)/\(device.agent)"
        let input = ContiguousArray(Self.input(try File.readAll(device.parametersFile, limit: Self.parametersMax)))
        let memory = SharedDescriptor(try AnonymousMemory.create(name: "saf-fence", size: 0, seal: .none))
        _ = try input.withUnsafeBufferPointer { (bytes) throws(OSError) in
            try IO.write(memory.raw, UnsafeRawBufferPointer(bytes), at: 0)
        }
        let output = SharedDescriptor(try AnonymousMemory.create(name: "saf-fence-output", size: 0, seal: .none))
        var options = SpawnOptions(path: path, arguments: [path])
        options.descriptors = [
            DescriptorMapping(memory.raw, as: 0), DescriptorMapping(output.raw, as: 1),
            DescriptorMapping(output.raw, as: 2),
        ]
        options.newSession = true
        let process = try Process.spawn(options)
        let pid = process.pid
        run.isLate = false
        run.output = output
        run.pidfd = SharedDescriptor(process.takePidfd())
        run.watch = try loop.watch(run.pidfd?.raw ?? -1, .read) { [unowned self] _ in ended(node, device, pid) }
        run.timer = loop.schedule(after: settings.timeout) {
            run.isLate = true
            _ = try? Process.killGroup(pid)  // ended in between is as good
        }
    }

    /// What the file says; without an action in it the node is switched off.
    static func input(_ parameters: [UInt8]) -> [UInt8] {
        let lines = parameters.split(separator: UInt8(ascii: "\n"))
        let hasAction = lines.contains { $0.starts(with: "action=".utf8) }
        let text = lines.flatMap { $0 + [UInt8(ascii: "\n")] }
        return hasAction ? text : Array("action=off\n".utf8) + text
    }

    private func ended(_ node: NodeID, _ device: FencingDevice, _ pid: Int32) {
        guard let run = running[node] else { return }
        if let watch = run.watch { loop.unwatch(watch) }
        if let timer = run.timer { loop.cancel(timer) }
        (run.watch, run.timer, run.pidfd) = (nil, nil, nil)
        _ = try? Process.killGroup(pid)  // what it left running; usually nothing
        let status = Process.reap(pid) ?? .unknown
        if status == .exited(code: 0), !run.isLate {
            running[node] = nil
            return run.then(nil)
        }
        let why = run.isLate ? "did not end within \(settings.timeout)" : "\(status)"
        run.failures.append("\(device.agent) \(why)\(said(run.output))")
        tryNext(node)
    }

    private func said(_ output: SharedDescriptor?) -> String {
        guard let output else { return "" }
        var bytes = [UInt8](repeating: 0, count: 300)
        // What cannot be read is left out: it is for people only.
        let count = bytes.withUnsafeMutableBytes { (try? IO.read(output.raw, into: $0, at: 0)) ?? 0 }
        let text = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n").joined(separator: " ")
        return text.isEmpty ? "" : ": \(text)"
    }
}
