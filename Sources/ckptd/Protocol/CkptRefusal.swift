/// The words with which ckptd refuses a request that has several parts.
public enum CkptRefusal {
    private static let prefix = "operation "

    public static func text(operation index: Int, _ reason: String) -> String { "\(prefix)\(index): \(reason)" }

    /// Which part was the first that could not be done (AIS: erroneousVectorIndex), if the words say so.
    public static func operationIndex(in text: String) -> Int? {
        // By bytes: comparing text would need tables of Unicode, which a C library has better no use for.
        let bytes = text.utf8
        guard bytes.starts(with: prefix.utf8) else { return nil }
        let rest = bytes.dropFirst(prefix.utf8.count)
        let digits = rest.prefix { $0 >= 0x30 && $0 <= 0x39 }
        guard !digits.isEmpty, digits.count < 10, digits.endIndex < rest.endIndex, rest[digits.endIndex] == 0x3a else {
            return nil
        }
        return digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }
}
