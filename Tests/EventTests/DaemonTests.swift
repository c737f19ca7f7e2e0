import CliClient
import CliProtocol
import EngineKit
import EventClient
import EventProtocol
import OSAL
import SAFTypes
import Testing

@Suite("eventd, a real process", .serialized)
struct DaemonTests {
    private func text(_ event: EventMessage?) -> String? {
        event.map { $0.isLost ? "LOST" : String(decoding: $0.data, as: UTF8.self) }
    }

    @Test(
        "kill -9 of eventd thirty times under load: each acknowledged event comes once and in order, or the mark does")
    func killUnderLoad() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        let harness = try DaemonHarness()
        let subscribers = try (1...2).map { try harness.subscriber("s\($0)", on: "load") }
        let publishers = try (1...3).map { try harness.publisher("p\($0)", on: "load") }
        try harness.eventually("the first events") { publishers.allSatisfy { $0.acknowledged > 0 } }
        for _ in 0..<30 {
            harness.pause(.microseconds(Int64.random(in: 0...120_000, using: &random)))
            harness.kill()
            try harness.start()
            if random.chance(percent: 70) {
                let before = publishers.map(\.acknowledged)
                try harness.eventually("seed \(seed): events go on") {
                    zip(publishers, before).allSatisfy { $0.acknowledged > $1 }
                }
            }
        }
        for publisher in publishers { publisher.stop() }
        for publisher in publishers {
            #expect(try harness.wait(for: publisher.pid) == .exited(code: 0), "seed \(seed): \(publisher.name)")
        }
        for path in subscribers.map(\.path) {
            let ends = publishers.map { "\($0.name):\($0.acknowledged - 1)" }
            try harness.eventually("seed \(seed): the last events") {
                let lines = harness.lines(path)
                return lines.contains("LOST") || ends.allSatisfy { lines.contains($0) }
            }
            let lines = harness.lines(path).dropFirst()
            for publisher in publishers {
                let numbers = lines.compactMap { line in
                    line.hasPrefix(publisher.name + ":") ? UInt64(line.dropFirst(publisher.name.count + 1)) : nil
                }
                #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "seed \(seed): once and in order")
                if !lines.contains("LOST") {
                    #expect(numbers == Array(0..<publisher.acknowledged), "seed \(seed): nothing is lost")
                }
            }
        }
    }

    @Test("A killed eventd repeats no retained event, keeps them for later subscribers, and keeps an unlink")
    func retainedAndUnlinked() async throws {
        let harness = try DaemonHarness()
        let places = harness.places
        let channel = try await EventChannel.open("c", [.publisher, .subscriber, .create], places: places)
        let kept = try await channel.publish(data: Array("kept".utf8), retention: .seconds(600))
        var events = try await channel.subscribe().makeAsyncIterator()
        #expect(text(await events.next()) == "kept")
        harness.kill()
        try harness.start()
        try await channel.publish(data: Array("second".utf8), timeout: .seconds(30))
        #expect(text(await events.next()) == "second", "the retained one does not come again")
        let late = try await EventChannel.open("c", [.subscriber], places: places)
        var lateEvents = try await late.subscribe().makeAsyncIterator()
        #expect(text(await lateEvents.next()) == "kept")

        try await EventChannel.unlink("c", places: places)
        harness.kill()
        try harness.start()
        await #expect(throws: AisError.notExist) {
            _ = try await EventChannel.open("c", [.subscriber], places: places, timeout: .seconds(30))
        }
        let other = try await EventChannel.open("c", [.publisher, .subscriber, .create], places: places)
        var otherEvents = try await other.subscribe().makeAsyncIterator()
        try await other.publish(data: Array("other".utf8))
        #expect(text(await otherEvents.next()) == "other", "another channel, without the old one's retained events")
        try await channel.publish(data: Array("third".utf8))
        #expect(text(await events.next()) == "third")
        #expect(text(await lateEvents.next()) == "third")
        try await channel.clearRetention(of: kept)
        channel.close()
        late.close()
        harness.kill()
        try harness.start()
        try await other.publish(data: Array("alone".utf8), timeout: .seconds(30))
        #expect(text(await otherEvents.next()) == "alone")
        // The closes were on their way when eventd was killed: they arrive at its next life.
        let deadline = MonotonicClock.now() + .seconds(30)
        while try await EventChannel.list(places: places).count > 1, MonotonicClock.now() < deadline {
            await Task.yield()
        }
        #expect(try await EventChannel.list(places: places).count == 1)
        other.close()
    }

    @Test("When what was kept is damaged, eventd begins anew, says so, and subscribers get the mark")
    func damaged() async throws {
        let harness = try DaemonHarness()
        let channel = try await EventChannel.open(
            "c", [.publisher, .subscriber, .create], places: harness.places)
        var events = try await channel.subscribe().makeAsyncIterator()
        try await channel.publish(data: Array("a".utf8))
        #expect(text(await events.next()) == "a")
        harness.kill()
        for file in ["node", "registry"] {
            let path = harness.places.shmDirectory + "/eventd/" + file
            let bytes = try File.readAll(path)
            try File.writeAtomically(path, bytes.map { $0 ^ 0x55 }, durable: false)
        }
        try harness.start()
        try await channel.publish(data: Array("b".utf8), timeout: .seconds(30))
        #expect(text(await events.next()) == "LOST")
        #expect(text(await events.next()) == "b")
        channel.close()
    }

    @Test("What a process that died had open is closed, also when it died while eventd was away")
    func deadProcess() async throws {
        let harness = try DaemonHarness()
        let publisher = try harness.publisher("p", on: "c")
        try harness.eventually("the first event") { publisher.acknowledged > 0 }
        try await EventChannel.unlink("c", places: harness.places)
        harness.kill()
        _ = try Process.kill(publisher.pid, .kill)
        _ = try harness.wait(for: publisher.pid)
        try harness.start()
        #expect(try await EventChannel.list(places: harness.places, timeout: .seconds(30)) == [])
    }

    @Test(
        "A stopped one holds nobody up, keeps its queue over kill -9, learns what it lost; the console shows it"
    )
    func stoppedSubscriber() async throws {
        let harness = try DaemonHarness()
        try harness.startConsole()
        let console = Console(places: harness.places)
        func ask(_ words: String...) throws -> String {
            let output = try console.run(["eventd"] + words, timeLimit: .seconds(30))
            #expect(output.status == .done, "\(words): \(output.text)")
            return output.text
        }
        let stopped = try harness.subscriber("stopped", on: "c")
        let running = try harness.subscriber("running", on: "c")
        let channel = try await EventChannel.open("c", [.publisher], places: harness.places)
        _ = try Process.kill(stopped.pid, .stop)
        // More than its window, its queue and its rings hold; the last one is the most important.
        let padding = [UInt8](repeating: UInt8(ascii: "."), count: 1_000)
        for number in 0..<1_500 {
            try await channel.publish(data: Array("\(number)".utf8) + padding)
            // At most what its own queue holds: what it lacks after that, it lacks because of the stopped one.
            guard (number + 1).isMultiple(of: 500) else { continue }
            try harness.eventually("the running one keeps up") { harness.lines(running.path).count == number + 2 }
        }
        harness.kill()
        try harness.start()
        try await channel.publish(data: Array("last".utf8), priority: .highest, timeout: .seconds(30))
        try harness.eventually("the running one") { harness.lines(running.path).last == "last" }
        #expect(harness.lines(running.path).count == 1_502)
        #expect(!harness.lines(running.path).contains("LOST"))
        let subscribers = try ask("subscribers", "c")
        #expect(subscribers.contains("pid \(stopped.pid)") && subscribers.contains("1000 waiting"), "\(subscribers)")
        #expect(try ask("subscribers", "other") == "nobody\n")
        #expect(try ask("channels").hasPrefix("c: 1 publishers, 2 subscribers, 1501 published, 0 retained"))
        #expect(try ask("status").contains("kept           yes"))
        _ = try Process.kill(stopped.pid, .continue)
        try harness.eventually("the mark and the last") {
            let lines = harness.lines(stopped.path)
            return lines.contains("last") && lines.contains("LOST")
        }
        let numbers = harness.lines(stopped.path).compactMap { line in
            Int(line.prefix { $0.isNumber })
        }
        #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "once and in order")
        console.close()
        channel.close()
    }
}
