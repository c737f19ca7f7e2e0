import EOLoop
import EngineKit
import IOCCluster
import OSAL
import SAFTypes
import SwiftSAF

enum Behaviour {
    static func run(
        mebibytes: Int = 0, isHealthy: Bool = true, confirms: Bool = false, then extra: () async -> Void = {}
    ) async {
        let memory = touch(mebibytes)
        do {
            let component = try await Component.register()
            do throws(AisError) {
                try await component.onHealthcheck(
                    key: "default", invoked: confirms ? .byComponent(.milliseconds(50)) : .byAmf
                ) { isHealthy }
            } catch {
                if error != .notExist { throw error }  // not every model has one
            }
            await extra()
            let stamp = ActiveStamp(creating: false)  // there during measurements only
            for await assignment in component.assignments {
                if case .set(.active, _) = assignment.action { stamp?.mark() }
                assignment.complete()
                if case .set(.quiescing, let csi) = assignment.action { component.quiescingComplete(csi.name) }
                if assignment.action == .terminate { break }
            }
            // The answer leaves on the library's thread; amfd kills what does not end.
            waitForEver(atMost: .milliseconds(200))
        } catch {
            StandardError.write("testcomponent: cannot register: \(error)\n")
            Environment.exit(1)
        }
        withExtendedLifetime(memory) {}
        Environment.exit(0)
    }

    static func deaf() async {
        let component = try? await Component.register()  // a test that needs it sees that it is not there
        waitForEver()
        withExtendedLifetime(component) {}
    }

    static func daemon() -> Never {
        do {
            let loop = try Loop(name: "stand-in")
            let component = DaemonComponent(loop: loop, places: .fromEnvironment()) { loop.stop() }
            try loop.onSignals([.terminate]) { _ in loop.stop() }
            loop.run()
            component.close()
            Environment.exit(0)
        } catch {
            StandardError.write("stand-in: \(error)\n")
            Environment.exit(1)
        }
    }

    static func compile() -> Never {
        let directory = Places.fromEnvironment().configDirectory
        if let errors = try? File.readText(directory + "/errors.txt") {
            StandardError.write(errors)
            Environment.exit(1)
        }
        let model = (try? File.readAll(directory + "/model.bin")) ?? []  // none: amfd refuses the empty answer
        // The cluster that the node's folder already has, if there is one.
        if !model.isEmpty, let cluster = try? ClusterDescription.load(.fromEnvironment()) {
            let compiled = CompiledConfiguration(cluster: cluster, model: model).encoded
            compiled.withUnsafeBytes { try? IO.writeAll(1, $0) }
        }
        Environment.exit(0)
    }

    static func useServices() async {
        do {
            let attributes = CreationAttributes.singleSection(of: 64)
            let checkpoint = try await Checkpoint.open("own-\(Environment.processID)", creating: attributes)
            try await checkpoint.overwrite(.defaultSection, [7])
            let back = try await checkpoint.readAll().sections.first?.data ?? []
            let channel = try await EventChannel.open("own", [.publisher, .create])
            try await channel.publish(data: [1])
            Log.notice("services: logged by itself")
            StandardOutput.write("services: checkpoint \(back.first ?? 0), event published\n")
            do {
                _ = try await EventChannel.list()
                StandardOutput.write("services: listed all channels\n")
            } catch {
                StandardOutput.write("services: may not list (\(error))\n")
            }
        } catch {
            StandardOutput.write("services: \(error)\n")
        }
    }

    static func takePermits() {
        guard let semaphore = try? RobustSemaphore.named("shared", permits: 4) else { return }  // the test sees it
        _ = (semaphore.tryAcquire(), semaphore.tryAcquire())
    }

    static func startChild() {
        var options = SpawnOptions(path: Environment.executablePath ?? "")
        options.arguments = ["testcomponent", "silent"]
        options.newSession = true
        _ = try? Process.spawn(options)  // the test sees that it is not there
    }

    static func flood() {
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 999) + [UInt8(ascii: "\n")]
        _ = try? OSThread.spawn(name: "flood") {
            // A full pipe refuses; that is what is tested.
            while true { line.withUnsafeBytes { _ = try? IO.write(1, $0) } }
        }
    }

    /// Memory that the kernel must free at our death.
    private static func touch(_ mebibytes: Int) -> UnsafeMutableRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, mebibytes << 20), alignment: 4096)
        bytes.initializeMemory(as: UInt8.self, repeating: 7)
        return bytes
    }

    private static func holdLock() -> LifeLock? {
        guard let mapping = try? Mapping.map(3, count: Mapping.pageBytes, writable: true) else { return nil }
        let lock = LifeLock(at: Unmanaged.passRetained(mapping).takeUnretainedValue().base)
        guard (try? lock.hold()) != nil else { return nil }
        Futex.wake(UnsafePointer(lock.word))
        return lock
    }

    private static func say(_ text: String) {
        var text = text
        text.withUTF8 { _ = try? IO.write(4, UnsafeRawBufferPointer($0)) }  // a test that does not hear it fails
    }

    static func hold(mebibytes: Int) {
        let memory = touch(mebibytes)
        say(holdLock() == nil ? "failed" : "held")
        waitForEver()
        withExtendedLifetime(memory) {}
    }

    static func holdOnThread() {
        let thread = try? OSThread.spawn(name: "holder") { say(holdLock() == nil ? "failed" : "held") }
        thread?.join()
        waitForEver()
    }

    static func output() {
        let chunk = [UInt8](repeating: UInt8(ascii: "x"), count: 4096)
        var taken = 0
        for _ in 0..<1024 { chunk.withUnsafeBytes { taken += ((try? IO.write(1, $0)) ?? nil) ?? 0 } }
        say("\(taken)")
        waitForEver()
    }

    static func pause(_ duration: Duration) { waitForEver(atMost: duration) }

    static func waitForEver(atMost limit: Duration = .seconds(600)) {
        var word: UInt32 = 0
        let deadline = MonotonicClock.now() + limit
        while MonotonicClock.now() < deadline { _ = try? Futex.wait(&word, expected: 0, deadline: deadline) }
    }
}
