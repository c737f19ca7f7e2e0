import AmfProtocol
import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// Gets the application model from `saf config compile`, a short-lived process of its own: amfd links no parser, and
/// what the parser does to its memory it does to its own. Loop thread only.
final class ModelCompiler {
    /// The checked model, or what is wrong with it.
    typealias Outcome = Result<CompiledModel, ModelRefusal>

    struct CompiledModel: Hashable, Sendable {
        let model: AmfModel
        /// What single components will not start for, a line for each; empty: nothing.
        let warnings: String
    }

    /// A line for each error: FILE:LINE:COLUMN: text.
    struct ModelRefusal: Error, Hashable, Sendable { let text: String }

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
            let output = SharedDescriptor(try AnonymousMemory.create(name: "saf-model", size: 0, seal: .none))
            let errors = SharedDescriptor(try AnonymousMemory.create(name: "saf-model-errors", size: 0, seal: .none))
            var options = SpawnOptions(path: program, arguments: [program, "config", "compile"])
            options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(errors.raw, as: 2)]
            options.limits = [ResourceLimit(.fileBytes, UInt64(Self.outputMax))]
            let process = try Process.spawn(options)
            let pid = process.pid
            let run = Run(pid: pid, pidfd: SharedDescriptor(process.takePidfd()), output: output, errors: errors)
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

    private func finish(_ then: (Outcome) -> Void) {
        guard let run else { return }
        self.run = nil
        if let watch = run.watch { loop.unwatch(watch) }
        if let timer = run.timer { loop.cancel(timer) }
        _ = try? Process.killGroup(run.pid)  // what it left running; usually nothing
        let status = Process.reap(run.pid) ?? .unknown
        then(Self.outcome(status, isLate: run.isLate, output: content(run.output), errors: content(run.errors)))
        if let next {
            self.next = nil
            compile(then: next)
        }
    }

    static func outcome(_ status: ExitStatus, isLate: Bool, output: [UInt8], errors: [UInt8]) -> Outcome {
        let text = String(decoding: errors, as: UTF8.self).split(separator: "\n").joined(separator: "\n")
        if isLate { return .failure(ModelRefusal(text: "saf config compile did not end within \(timeLimit)")) }
        guard status == .exited(code: 0) else {
            return .failure(ModelRefusal(text: text.isEmpty ? "saf config compile \(status)" : text))
        }
        do throws(DecodeError) {
            return .success(CompiledModel(model: try AmfModel(decoding: output), warnings: text))
        } catch {
            return .failure(ModelRefusal(text: "saf config compile gave no model of this version: \(error)"))
        }
    }

    private func content(_ memory: SharedDescriptor) -> [UInt8] {
        // A memory of our own of at most outputMax octets; what cannot be read counts as empty and is refused above.
        guard let size = try? File.stat(descriptor: memory.raw).size, size > 0, size <= Self.outputMax else {
            return []
        }
        var bytes = [UInt8](repeating: 0, count: size)
        let count = bytes.withUnsafeMutableBytes { (try? IO.read(memory.raw, into: $0, at: 0)) ?? 0 }
        return Array(bytes.prefix(count))
    }
}
