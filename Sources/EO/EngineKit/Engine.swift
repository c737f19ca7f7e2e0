/// A pure decision maker: the same state, event and `now` give the same state and effects on every machine.
///
/// An engine reads no clock, draws no chance but from a stored ``SeededRandom``, logs nothing, never suspends and
/// holds no closure, class or descriptor. Its effects are plain data, performed by a shell in the order returned.
public protocol Engine {
    associatedtype Event
    associatedtype Effect
    mutating func handle(_ event: Event, at now: Instant) -> [Effect]
}

/// Stops the process when our own reasoning was wrong; on in release builds, and says why.
///
/// Never for anything a caller, a peer, a file or shared memory can cause.
@inline(__always)
public func invariant(
    _ holds: @autoclosure () -> Bool, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    line: UInt = #line
) {
    #if SAF_LIBRARY
        if !holds() { fatalError() }
    #else
        if !holds() { fatalError("invariant: \(message())", file: file, line: line) }
    #endif
}
