import AmfProtocol
import EOLoop
import EngineKit
import IOCCluster
import OSAL
import SAFTypes

/// Gets the cluster and the application model from `saf config compile`, a short-lived process of its own: amfd links
/// no parser, and what the parser does to its memory it does to its own. Loop thread only.
final class ModelCompiler {
    /// The checked model, or what is wrong with it.
    typealias Outcome = Result<CompiledModel, ModelRefusal>

    struct CompiledModel: Hashable, Sendable {
        let cluster: ClusterDescription
        let model: AmfModel
        /// What single components will not start for, a line for each; empty: nothing.
        let warnings: String
    }

    /// A line for each error: FILE:LINE:COLUMN: text.
    struct ModelRefusal: Error, Hashable, Sendable {
        let text: String
        /// Known when only the model is wrong.
        var cluster: ClusterDescription?
    }

    static let timeLimit: Duration = .seconds(30)
    /// Of either output; a model of 10,000 components is about 5 MiB.
    static let outputMax = 64 << 20

    private let loop: Loop
    private let program: String
    private var run: Run?
    /// Asked again while one runs, which may have read the files before they were changed.
    private var next: ((Outcome) -> Void)?

    private final class Run {
        let pid: Int32
        let pidfd: SharedDescriptor
        let output: SharedDescriptor
        let errors: SharedDescriptor
        var watch: WatchID?
        var timer: LoopTimer?
        var isLate = false

        init(pid: Int32, pidfd: SharedDescriptor, output: SharedDescriptor, errors: SharedDescriptor) {
            (self.pid, self.pidfd, self.output, self.errors) = (pid, pidfd, output, errors)
        }
    }

    init(loop: Loop, plan: SpawnPlan) {
        self.loop = loop
        program = plan.path("saf")
    }

    /// Compiles; calls while one is running make one more after it, for the last of them.
    func compile(then: @escaping (Outcome) -> Void) {
        guard run == nil else {
            next = then
            return
        }
        do throws(OSError) {
            let run = try Self.start(program)
            let pid = run.pid
            self.run = run
            run.watch = try loop.watch(run.pidfd.raw, .read) { [unowned self] _ in finish(then) }
            run.timer = loop.schedule(after: Self.timeLimit) { [unowned self] in
                self.run?.isLate = true
                _ = try? Process.killGroup(pid)  // ended in between is as good
            }
        } catch {
            then(.failure(ModelRefusal(text: "cannot run \(program) config compile: \(error)")))
        }
    }

    /// The same without a loop: waits until it has ended, or is killed at the time limit.
    static func compileNow(_ plan: SpawnPlan) -> Outcome {
        let program = plan.path("saf")
        do throws(OSError) {
            let run = try start(program)
            let deadline = MonotonicClock.now() + timeLimit
            run.isLate = try !IO.waitUntil(run.pidfd.raw, readable: true, deadline: deadline)
            _ = try? Process.killGroup(run.pid)  // ended in between is as good
            if run.isLate {
                _ = try IO.waitUntil(run.pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(5))
            }
            return end(run)
        } catch {
            return .failure(ModelRefusal(text: "cannot run \(program) config compile: \(error)"))
        }
    }

    private static func start(_ program: String) throws(OSError) -> Run {
        let output = SharedDescriptor(try AnonymousMemory.create(name: "saf-model", size: 0, seal: .none))
        let errors = SharedDescriptor(try AnonymousMemory.create(name: "saf-model-errors", size: 0, seal: .none))
        var options = SpawnOptions(path: program, arguments: [program, "config", "compile"])
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(errors.raw, as: 2)]
        options.limits = [ResourceLimit(.fileBytes, UInt64(outputMax))]
        let process = try Process.spawn(options)
        let pid = process.pid
        return Run(pid: pid, pidfd: SharedDescriptor(process.takePidfd()), output: output, errors: errors)
    }

    private static func end(_ run: Run) -> Outcome {
        let status = Process.reap(run.pid) ?? .unknown
        return outcome(status, isLate: run.isLate, output: content(run.output), errors: content(run.errors))
    }

    private func finish(_ then: (Outcome) -> Void) {
        guard let run else { return }
        self.run = nil
        if let watch = run.watch { loop.unwatch(watch) }
        if let timer = run.timer { loop.cancel(timer) }
        _ = try? Process.killGroup(run.pid)  // what it left running; usually nothing
        then(Self.end(run))
        if let next {
            self.next = nil
            compile(then: next)
        }
    }

    static func outcome(_ status: ExitStatus, isLate: Bool, output: [UInt8], errors: [UInt8]) -> Outcome {
        let text = String(decoding: errors, as: UTF8.self).split(separator: "\n").joined(separator: "\n")
        if isLate { return .failure(ModelRefusal(text: "saf config compile did not end within \(timeLimit)")) }
        guard status == .exited(code: 0) else {
            // What it gave all the same: the cluster, when only the model is wrong.
            let known = try? CompiledConfiguration(decoding: output)
            let reason = text.isEmpty ? "saf config compile \(status)" : text
            return .failure(ModelRefusal(text: reason, cluster: known?.cluster))
        }
        do throws(DecodeError) {
            let configuration = try CompiledConfiguration(decoding: output)
            let model = try AmfModel(decoding: configuration.model ?? [])
            return .success(CompiledModel(cluster: configuration.cluster, model: model, warnings: text))
        } catch {
            return .failure(ModelRefusal(text: "saf config compile gave no configuration of this version: \(error)"))
        }
    }

    private static func content(_ memory: SharedDescriptor) -> [UInt8] {
        // A memory of our own of at most outputMax octets; what cannot be read counts as empty and is refused above.
        guard let size = try? File.stat(descriptor: memory.raw).size, size > 0, size <= outputMax else {
            return []
        }
        var bytes = [UInt8](repeating: 0, count: size)
        let count = bytes.withUnsafeMutableBytes { (try? IO.read(memory.raw, into: $0, at: 0)) ?? 0 }
        return Array(bytes.prefix(count))
    }
}
