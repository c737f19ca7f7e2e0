import EngineKit
import Testing

@Suite("Instants and durations")
struct InstantTests {
    @Test(
        "A duration in nanoseconds is cut towards zero, and saturates",
        arguments: [
            (.zero, 0), (.nanoseconds(1), 1), (.nanoseconds(-1), -1), (.seconds(3), 3_000_000_000),
            (Duration(secondsComponent: 0, attosecondsComponent: 1_999_999_999), 1),
            (Duration(secondsComponent: 0, attosecondsComponent: -1_999_999_999), -1),
            (.nanoseconds(Int64.max), .max), (.nanoseconds(Int64.min), .min),
            (.nanoseconds(Int64.max) + .nanoseconds(1), .max), (.nanoseconds(Int64.min) - .nanoseconds(1), .min),
            (.seconds(Int64.max), .max), (.seconds(Int64.min), .min),
        ] as [(Duration, Int64)])
    func nanoseconds(duration: Duration, expected: Int64) { #expect(duration.nanoseconds == expected) }

    @Test("A sum saturates at both ends of time; a difference has a sign")
    func arithmetic() {
        let instant = Instant(nanoseconds: 5)
        #expect(instant + .nanoseconds(-6) == .start)
        #expect(instant + .nanoseconds(2) == Instant(nanoseconds: 7))
        #expect(Instant(nanoseconds: .max - 1) + .seconds(1) == .distantFuture)
        #expect(instant - Instant(nanoseconds: 7) == .nanoseconds(-2))
        #expect(Instant(nanoseconds: 7) - instant == .nanoseconds(2))
    }
}
