import AmfProtocol
import EventClient
import EventProtocol
import OSAL
import SAFTypes

/// When a watcher of the node's state should look: whenever amfd tells of a change on its event channel. While eventd
/// is away nothing is heard; then every two seconds, and ``notice`` says so.
final class ChangeSignals: Sendable {
    /// One element stands for everything since the one before.
    let signals: AsyncStream<Void>

    private enum Hearing { case starting, hears, away }
    private struct State {
        var hearing = Hearing.starting
        var isChanged = true
    }

    private static let awayInterval = Duration.seconds(2)
    private let state = Lock(State())
    private let signal: AsyncStream<Void>.Continuation
    private let places: Places

    /// - Parameter ticks: also signals once a second, without a change.
    init(places: Places, ticks: Bool) {
        self.places = places
        (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        signal.yield()
        Task { await listen() }
        guard ticks else { return }
        Task {
            while true {
                try await Task.sleep(for: .seconds(1))
                signal.yield()
            }
        }
    }

    /// Why changes are seen late at the moment; empty when they are not.
    var notice: String {
        state.withLock { $0.hearing == .away ? "eventd is away: looking every 2 s until it is back" : "" }
    }

    /// Whether there was a change since the last call.
    func takeChange() -> Bool {
        state.withLock { state in
            defer { state.isChanged = false }
            return state.isChanged
        }
    }

    /// Something has changed, or may have.
    func changed() {
        state.withLock { $0.isChanged = true }
        signal.yield()
    }

    private func listen() async {
        while true {
            do throws(AisError) {
                try await hear()
            } catch {
                // eventd is not there, or has no room: what it would tell is looked for.
            }
            lost()
            try? await Task.sleep(for: Self.awayInterval)
        }
    }

    /// Until the subscription ends.
    private func hear() async throws(AisError) {
        let name = AmfNotification.channelName.description
        let channel = try await EventChannel.open(name, [.create, .subscriber], places: places, timeout: .seconds(2))
        defer { channel.close() }
        channel.onConnection { [self] isUp in if isUp { heard() } else { lost() } }
        let subscription = try await channel.subscribe(timeout: .seconds(2))
        heard()
        for await _ in subscription { heard() }
    }

    private func heard() {
        state.withLock { $0.hearing = .hears }
        changed()
    }

    private func lost() {
        let isNew = state.withLock { state in
            defer { state.hearing = .away }
            return state.hearing != .away
        }
        changed()
        guard isNew else { return }
        Task {
            while !notice.isEmpty {
                try await Task.sleep(for: Self.awayInterval)
                changed()
            }
        }
    }
}
