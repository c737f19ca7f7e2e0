// One function per severity, for a log and for this process.

extension Log {
    /// The system is unusable.
    public func emergency(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.emergency, message(), area: area, context: context, file: file, line: line) }

    /// Action must be taken at once.
    public func alert(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.alert, message(), area: area, context: context, file: file, line: line) }

    /// A critical condition.
    public func critical(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.critical, message(), area: area, context: context, file: file, line: line) }

    /// Something was lost.
    public func error(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.error, message(), area: area, context: context, file: file, line: line) }

    /// Recovered from, or bad input.
    public func warning(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.warning, message(), area: area, context: context, file: file, line: line) }

    /// Normal but significant: an operator would write it in the diary.
    public func notice(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.notice, message(), area: area, context: context, file: file, line: line) }

    /// What a support engineer wants.
    public func info(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.info, message(), area: area, context: context, file: file, line: line) }

    /// What a developer wants.
    public func debug(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.debug, message(), area: area, context: context, file: file, line: line) }

    /// Entering and leaving functions.
    public func trace(
        _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil, file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.trace, message(), area: area, context: context, file: file, line: line) }
}

extension Log {
    /// The system is unusable.
    public static func emergency(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.emergency, message(), area: area, context: context, file: file, line: line) }

    /// Action must be taken at once.
    public static func alert(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.alert, message(), area: area, context: context, file: file, line: line) }

    /// A critical condition.
    public static func critical(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.critical, message(), area: area, context: context, file: file, line: line) }

    /// Something was lost.
    public static func error(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.error, message(), area: area, context: context, file: file, line: line) }

    /// Recovered from, or bad input.
    public static func warning(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.warning, message(), area: area, context: context, file: file, line: line) }

    /// Normal but significant: an operator would write it in the diary.
    public static func notice(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.notice, message(), area: area, context: context, file: file, line: line) }

    /// What a support engineer wants.
    public static func info(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.info, message(), area: area, context: context, file: file, line: line) }

    /// What a developer wants.
    public static func debug(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.debug, message(), area: area, context: context, file: file, line: line) }

    /// Entering and leaving functions.
    public static func trace(
        _ message: @autoclosure () -> String, area: String = "", context: String = "", file: StaticString = #fileID,
        line: UInt32 = #line
    ) { record(.trace, message(), area: area, context: context, file: file, line: line) }
}
