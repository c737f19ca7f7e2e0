import EngineKit

internal import COSAL
internal import Glibc

/// This node's clocks. Only shells read them; engines are told the time.
public enum MonotonicClock {
    /// Now, on CLOCK_MONOTONIC: not moved by setting the date, does not count suspend.
    public static func now() -> Instant { Instant(nanoseconds: read(CLOCK_MONOTONIC)) }

    /// Time since boot with suspend counted (CLOCK_BOOTTIME); not comparable with ``now()``.
    public static func bootTime() -> Instant { Instant(nanoseconds: read(CLOCK_BOOTTIME)) }

    /// UTC, nanoseconds since 1970-01-01; jumps when somebody sets the date.
    public static func wallNanoseconds() -> Int64 { Int64(clamping: read(CLOCK_REALTIME)) }

    @inline(never)
    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000 &+ UInt64(bitPattern: Int64(time.tv_nsec))
    }

    /// A moment of UTC as a calendar shows it in the system's time zone (TZ, /etc/localtime).
    public static func calendar(wallNanoseconds: Int64, utc: Bool = false) -> CalendarTime {
        var seconds = time_t(wallNanoseconds / 1_000_000_000)
        var nanosecond = wallNanoseconds % 1_000_000_000
        if nanosecond < 0 { (seconds, nanosecond) = (seconds - 1, nanosecond + 1_000_000_000) }
        var parts = tm()
        if utc { gmtime_r(&seconds, &parts) } else { localtime_r(&seconds, &parts) }
        return CalendarTime(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday),
            hour: Int(parts.tm_hour), minute: Int(parts.tm_min), second: Int(parts.tm_sec), nanosecond: Int(nanosecond),
            weekday: Int(parts.tm_wday), secondsEastOfUTC: Int(parts.tm_gmtoff))
    }
}

/// A moment as people write it. Months and days count from 1, weekdays from Sunday = 0.
public struct CalendarTime: Equatable, Sendable {
    public var year, month, day, hour, minute, second, nanosecond, weekday, secondsEastOfUTC: Int
}
