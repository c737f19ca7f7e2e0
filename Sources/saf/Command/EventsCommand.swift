import AmfProtocol
import ArgumentParser
import CliProtocol
import EventClient
import EventProtocol
import OSAL
import SAFTypes
import SafText

struct EventsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Shows the events of a channel.",
        discussion: """
            Without a channel: amfd's state changes; the last hundred of an hour are
            retained. Retained events come first; with --follow new ones are shown
            until interrupted, without it the command ends after a second of silence.
            Times are UTC, as in the log.

            Example: saf events --follow
            Example: saf events --channels
            """)

    @Option(help: "The channel's name.", completion: Completions.channels) var channel: String?
    @Flag(name: .shortAndLong, help: "Goes on until interrupted.") var follow = false
    @Flag(help: "One JSON object a line.") var json = false
    @Flag(help: "Lists the channels instead.") var channels = false

    func validate() throws {
        if channels, follow || channel != nil {
            throw ValidationError("--channels lists the channels and ends; give it without --follow and --channel")
        }
    }

    func run() async throws {
        try Tool.requireNode()
        if channels { return try await list() }
        let name = channel ?? AmfNotification.channelName.description
        do throws(AisError) {
            let opened = try await EventChannel.open(name, [.subscriber], places: Tool.places)
            let subscription = try await opened.subscribe()
            if !follow { stopAfterSilence(subscription) }
            var isEmpty = true
            for await event in subscription {
                isEmpty = false
                StandardOutput.write(text(event) + "\n")
            }
            opened.close()
            if isEmpty {
                StandardError.write("saf: nothing is retained on '\(name)'; new events are shown with --follow\n")
            }
        } catch {
            if error == .notExist {
                throw Tool.fail(
                    "saf: there is no channel '\(name)' on this node\nThe channels there are: saf events --channels")
            }
            throw Tool.explain(CallErrorText.of(error), doing: "events of \(name)", by: .eventd)
        }
    }

    private func stopAfterSilence(_ subscription: EventSubscription) {
        Task {
            try? await Task.sleep(for: .seconds(1))
            subscription.unsubscribe()
        }
    }

    private func list() async throws {
        do throws(AisError) {
            for channel in try await EventChannel.list(places: Tool.places) {
                if json {
                    let value: JSONValue = [
                        "name": .string(channel.name.description), "publishers": .integer(Int64(channel.publishers)),
                        "subscribers": .integer(Int64(channel.subscribers)),
                        "retained": .integer(Int64(channel.retained)),
                        "published": .integer(Int64(clamping: channel.published)),
                        "dropped": .integer(Int64(clamping: channel.dropped)),
                    ]
                    StandardOutput.write(value.text() + "\n")
                } else {
                    StandardOutput.write(
                        "\(channel.name)  \(channel.publishers) publishers, \(channel.subscribers) subscribers, "
                            + "\(channel.published) published, \(channel.retained) retained, \(channel.dropped) "
                            + "dropped\n"
                    )
                }
            }
        } catch {
            throw Tool.explain(CallErrorText.of(error), doing: "events --channels", by: .eventd)
        }
    }

    private func text(_ event: EventMessage) -> String {
        let time = Tool.time(event.publishTime)
        if event.isLost {
            return json ? #"{"lost":true}"# : "\(time)  some events were lost here: this reader was too slow"
        }
        if let change = try? AmfNotification(decoding: event.data) { return text(change, time) }
        let patterns = event.patterns.map(PrintableBytes.text)
        if json {
            let value: JSONValue = [
                "time": .integer(event.publishTime), "id": .integer(Int64(clamping: event.id)),
                "publisher": .string(PrintableBytes.text(event.publisherName)),
                "patterns": .array(patterns.map { .string($0) }),
                "data": .string(PrintableBytes.text(event.data)),
            ]
            return value.text()
        }
        return
            "\(time)  \(PrintableBytes.text(event.publisherName))  [\(patterns.joined(separator: " "))]  "
            + "\(PrintableBytes.text(event.data))"
    }

    private func text(_ change: AmfNotification, _ time: String) -> String {
        if json {
            let value: JSONValue = [
                "time": .integer(change.time), "attribute": .string("\(change.attribute)"),
                "dn": .string(change.dn.description),
                "assignee": change.assignee.map { .string($0.description) } ?? .null, "old": .string(change.oldText),
                "new": .string(change.newText), "text": .string(change.text),
            ]
            return value.text()
        }
        let to = change.assignee.map { " on \($0)" } ?? ""
        let old = change.oldText.isEmpty ? "none" : change.oldText
        let new = change.newText.isEmpty ? "none" : change.newText
        let states = change.attribute == .error ? "" : ": \(old) → \(new)"
        return
            "\(time)  \(change.attribute)  \(change.dn)\(to)\(states)\(change.text.isEmpty ? "" : "  " + change.text)"
    }
}
