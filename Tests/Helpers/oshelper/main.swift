import EngineKit
import OSAL
import Synchronization

// The other process of OSAL's tests: takes something, says so in a line, and keeps it until it is killed or its input
// ends.

func say(_ text: String) { StandardOutput.write(text + "\n") }

func untilInputEnds() throws(OSError) {
    var byte: UInt8 = 0
    while try withUnsafeMutableBytes(of: &byte, { (buffer) throws(OSError) in try IO.read(0, into: buffer) }) != 0 {}
}

/// Takes and gives permits for ever. `inside` holds one word per permit: who thinks he has it.
func churn(_ semaphore: RobustSemaphore, inside: SharedFile) throws(OSError) {
    let own = UInt64(UInt32(bitPattern: Environment.processID))
    while true {
        guard let permit = try semaphore.acquire(deadline: nil) else { continue }
        let word = inside.mapping.base.atomic(UInt64.self, at: permit.index * 8)
        word.pointee.store(own, ordering: .sequentiallyConsistent)
        for _ in 0..<50 { pause() }
        let found = word.pointee.load(ordering: .sequentiallyConsistent)
        if found != own {
            say("permit \(permit.index) given to \(own) and \(found)")
            Environment.exit(3)
        }
        semaphore.release(permit)
    }
}

func run(_ arguments: [String]) throws(OSError) {
    let path = arguments.count > 2 ? arguments[2] : ""
    switch arguments.dropFirst().first {
    case "hold-mutex":
        let file = try SharedFile.open(path, writable: true)
        say("\(try RobustMutex(at: file.mapping.base).lock())")
        try untilInputEnds()
    case "hold-life":
        let file = try SharedFile.open(path, writable: true)
        let lock = LifeLock(at: file.mapping.base)
        try lock.hold()
        say("held")
        try untilInputEnds()
        try lock.release()
        say("released")
    case "hold-permits":
        let semaphore = try RobustSemaphore.open(path)
        for _ in 0..<(Int(arguments[3]) ?? 1) { _ = try semaphore.acquire(deadline: nil) }
        say("held")
        try untilInputEnds()
    case "churn-permits":
        try churn(RobustSemaphore.open(path), inside: SharedFile.open(arguments[3], writable: true))
    case "lock-file":
        let lock = try File.fileLock(path)
        say(lock == nil ? "refused" : "held")
        try untilInputEnds()
    case "signals":
        let signals = try SignalDescriptor(blocking: [.user1, .terminate])
        say("ready")
        while try IO.waitUntil(signals.raw, readable: true, deadline: nil) {
            guard let signal = signals.next() else { continue }
            say("\(signal.signal) from \(signal.pid)")
            if signal.signal == .terminate { return }
        }
    case "start-mortal":
        var options = SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "3600"])
        options.deathSignal = .kill
        say("\(try Process.spawn(options).pid)")
        try untilInputEnds()
    case "descriptors":
        let listed = try File.list("/proc/self/fd")
        // The one that listed them is closed again.
        say(listed.filter { File.exists("/proc/self/fd/" + $0) }.joined(separator: " "))
        say(try File.readLink("/proc/self/fd/7"))
    default:
        StandardError.write("oshelper: unknown command\n")
        Environment.exit(2)
    }
}

do { try run(CommandLine.arguments) } catch {
    StandardError.write("oshelper: \(error)\n")
    Environment.exit(1)
}
