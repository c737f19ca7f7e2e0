/// Wrong arguments.
struct UsageError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

extension [String] {
    /// Takes the next word.
    mutating func take(_ what: String) throws -> String {
        guard !isEmpty else { throw UsageError("\(what) is missing") }
        return removeFirst()
    }

    mutating func takeNumber(_ what: String) throws -> Int {
        let text = try take(what)
        guard let number = Int(text) else { throw UsageError("\(what): a number expected, not \"\(text)\"") }
        return number
    }

    /// Takes the next word where it is a number.
    mutating func takeNumberIfAny() -> Int? {
        guard let number = first.flatMap({ Int($0) }) else { return nil }
        removeFirst()
        return number
    }

    /// Takes `--name VALUE` wherever it stands.
    mutating func takeOption(_ name: String) throws -> String? {
        guard let place = firstIndex(of: name) else { return nil }
        guard place + 1 < count else { throw UsageError("\(name) needs a value") }
        let value = self[place + 1]
        removeSubrange(place...place + 1)
        return value
    }

    mutating func takeNumberOption(_ name: String) throws -> Int? {
        guard let text = try takeOption(name) else { return nil }
        guard let number = Int(text) else { throw UsageError("\(name): a number expected, not \"\(text)\"") }
        return number
    }

    /// Takes `--name` wherever it stands.
    mutating func takeFlag(_ name: String) -> Bool {
        guard let place = firstIndex(of: name) else { return false }
        remove(at: place)
        return true
    }

    func end() throws {
        if let first { throw UsageError("\"\(first)\" is not expected here") }
    }
}
