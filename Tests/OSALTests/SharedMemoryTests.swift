import EngineKit
import Synchronization
import Testing

@testable import OSAL

@Suite struct SharedMemoryTests {
    @Test(
        "What one mapping of a file writes another one reads, and a read-only one cannot be made writable by accident")
    func sharedFile() throws {
        let scratch = try Scratch("/dev/shm")
        let file = try SharedFile.create(scratch("page"), size: 8192, mode: 0o640) {
            $0.base.storeBytes(of: 7, as: UInt32.self)
        }
        #expect(try File.stat(scratch("page")).mode == 0o640)
        let reader = try SharedFile.open(scratch("page"), writable: false)
        #expect(reader.mapping.count == 8192 && reader.mapping.base.load(as: UInt32.self) == 7)
        file.mapping.base.atomic(UInt64.self, at: 64).pointee.store(99, ordering: .releasing)
        #expect(reader.mapping.base.atomic(UInt64.self, at: 64).pointee.load(ordering: .acquiring) == 99)
        #expect(throws: OSError.self) { try Mapping.map(reader.raw, count: 8192, writable: true) }
        #expect(try File.list(scratch.path) == ["page"])
    }

    @Test("An exclusive creation meets a file that is there; otherwise it replaces it, and old mappings stay valid")
    func replacing() throws {
        let scratch = try Scratch("/dev/shm")
        let old = try SharedFile.create(scratch("page"), size: 4096, mode: 0o600) {
            $0.base.storeBytes(of: 1, as: UInt8.self)
        }
        do {
            _ = try SharedFile.create(scratch("page"), size: 4096, mode: 0o600, exclusive: true)
            Issue.record("created")
        } catch { #expect(error.isExisting) }
        let new = try SharedFile.create(scratch("page"), size: 4096, mode: 0o600)
        #expect(old.mapping.base.load(as: UInt8.self) == 1 && new.mapping.base.load(as: UInt8.self) == 0)
        #expect(try File.list(scratch.path) == ["page"])
    }

    @Test("An empty or missing file is refused by name")
    func unusable() throws {
        let scratch = try Scratch()
        try File.writeAtomically(scratch("empty"), [], durable: false)
        for name in ["empty", "missing"] {
            do {
                _ = try SharedFile.open(scratch(name), writable: false)
                Issue.record("opened")
            } catch { #expect(error.description.contains(name)) }
        }
    }

    @Test(
        "A full file system is ENOSPC when the file is made, with nothing left behind",
        .enabled(if: canMount, "needs root to mount a tmpfs"))
    func fileSystemFull() throws {
        let scratch = try Scratch()
        try #require(runs("/bin/mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", scratch.path]))
        defer { _ = runs("/bin/umount", [scratch.path]) }
        _ = try SharedFile.create(scratch("fits"), size: 16384, mode: 0o600)
        do {
            _ = try SharedFile.create(scratch("large"), size: 1 << 20, mode: 0o600)
            Issue.record("created")
        } catch { #expect(error.isNoSpace && error.description.contains(scratch("large"))) }
        do {
            try File.writeAtomically(scratch("fits"), [UInt8](repeating: 1, count: 1 << 20), durable: true)
            Issue.record("written")
        } catch { #expect(error.isNoSpace) }
        #expect(try File.list(scratch.path) == ["fits"] && File.stat(scratch("fits")).size == 16384)
        #expect(try File.freeBytes(scratch.path) <= 65536)
    }

    @Test("A ring mapped twice shows a record across its end in one piece")
    func mirrored() throws {
        let memory = try anonymousMemory(name: "ring", size: 3 * 4096)
        let mapping = try Mapping.mirrored(memory.raw, headerBytes: 4096, dataBytes: 8192, writable: true)
        let data = mapping.base + 4096
        (data + 8190).copyMemory(from: bytes("wrap"), byteCount: 4)
        #expect(data.load(as: UInt8.self) == UInt8(ascii: "a") && mapping.base.load(as: UInt8.self) == 0)
        #expect(Array(UnsafeRawBufferPointer(start: data + 8190, count: 4)).text == "wrap")
        #expect(throws: OSError.self) {
            try Mapping.mirrored(memory.raw, headerBytes: 4096, dataBytes: .max, writable: true)
        }
    }

    @Test("Only sealed memory is taken from a peer")
    func seals() throws {
        let open = try anonymousMemory(name: "open", size: 100, seal: .none)
        do {
            _ = try AnonymousMemory.sealedSize(open.raw)
            Issue.record("accepted")
        } catch { #expect(error.isNotPermitted) }
        let sized = try anonymousMemory(name: "sized", size: 100)
        #expect(try AnonymousMemory.sealedSize(sized.raw) == 100)
        #expect(throws: OSError.self) { _ = try AnonymousMemory.sealedSize(sized.raw, atLeast: .content) }
        #expect(throws: OSError.self) { try AnonymousMemory.seal(sized.raw, .content) }
        let payload = try AnonymousMemory.create(name: "payload", content: bytes("payload"))
        #expect(try AnonymousMemory.sealedSize(payload.raw, atLeast: .content) == 7)
        #expect(throws: OSError.self) { try bytes("x").withUnsafeBytes { try IO.writeAll(payload.raw, $0) } }
        let pipe = try makePipe()
        #expect(throws: OSError.self) { _ = try AnonymousMemory.sealedSize(pipe.first.raw) }
    }
}

/// Whether this user may mount a tmpfs here.
let canMount: Bool = {
    guard Environment.userID == 0, let scratch = try? Scratch() else { return false }
    guard runs("/bin/mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", scratch.path]) else { return false }
    return runs("/bin/umount", [scratch.path])
}()

func runs(_ program: String, _ arguments: [String]) -> Bool {
    guard let child = try? Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments)) else {
        return false
    }
    return wait(for: child.pid, child.rawPidfd) == .exited(code: 0)
}

@Suite struct FutexTests {
    @Test("A word that differs is nothing to wait for; one that stays ends at the deadline")
    func waiting() throws {
        var word: UInt32 = 5
        #expect(try Futex.wait(&word, expected: 4, deadline: nil) == .changed)
        let deadline = MonotonicClock.now() + .milliseconds(10)
        #expect(try Futex.wait(&word, expected: 5, deadline: deadline) == .timedOut)
        #expect(MonotonicClock.now() >= deadline)
        #expect(Futex.wake(&word) == 0)
    }

    @Test("Waiters are woken in another mapping of the same memory")
    func waking() throws {
        let memory = try anonymousMemory(name: "word", size: 4096)
        let near = try Mapping.map(memory.raw, count: 4096, writable: true)
        let far = try Mapping.map(memory.raw, count: 4096, writable: true)
        let thread = try OSThread.spawn(name: "waiter") {
            let word = near.base.atomic(UInt32.self)
            while word.pointee.load(ordering: .acquiring) == 0 {
                _ = try? Futex.wait(near.base.assumingMemoryBound(to: UInt32.self), expected: 0, deadline: soon)
            }
        }
        far.base.atomic(UInt32.self).pointee.store(1, ordering: .releasing)
        Futex.wake(far.base.assumingMemoryBound(to: UInt32.self))
        thread.join()
    }

    @Test("Of many words the one that is woken or differs is named")
    func waitAny() throws {
        let memory = try anonymousMemory(name: "words", size: 4096)
        let mapping = try Mapping.map(memory.raw, count: 4096, writable: true)
        let words = (0..<128).map { index in
            (word: UnsafePointer((mapping.base + index * 4).assumingMemoryBound(to: UInt32.self)), expected: UInt32(0))
        }
        #expect(try Futex.waitAny(words, deadline: MonotonicClock.now() + .milliseconds(5)) == nil)
        let thread = try OSThread.spawn(name: "waker") {
            mapping.base.atomic(UInt32.self, at: 77 * 4).pointee.store(1, ordering: .releasing)
            Futex.wake((mapping.base + 77 * 4).assumingMemoryBound(to: UInt32.self))
        }
        #expect(try Futex.waitAny(words, deadline: soon) == 77)
        thread.join()
        #expect(try Futex.waitAny(words, deadline: soon) == 77, "it still differs")
        #expect(throws: OSError.self) { _ = try Futex.waitAny(words + words.prefix(1), deadline: soon) }
    }
}
