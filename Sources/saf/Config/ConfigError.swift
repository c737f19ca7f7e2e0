/// A place in a text file; lines and columns start at 1, columns count Unicode scalars.
public struct SourcePosition: Hashable, Comparable, Sendable {
    public var line: Int
    public var column: Int

    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    public static func < (left: SourcePosition, right: SourcePosition) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}

/// What is wrong with a configuration file: where, which thing, and what was expected.
public struct ConfigError: Error, Hashable, Sendable, CustomStringConvertible {
    public var file: String
    public var position: SourcePosition
    public var message: String
    /// The model can be run all the same; only the component it names cannot be started.
    public var isWarning: Bool

    public init(file: String, position: SourcePosition, message: String, isWarning: Bool = false) {
        self.file = file
        self.position = position
        self.message = message
        self.isWarning = isWarning
    }

    /// `FILE:LINE:COLUMN: MESSAGE`, as compilers write it and editors read it.
    public var description: String { "\(file):\(position.line):\(position.column): \(message)" }
}

extension ConfigError: Comparable {
    public static func < (left: ConfigError, right: ConfigError) -> Bool {
        (left.file, left.position, left.message) < (right.file, right.position, right.message)
    }
}
