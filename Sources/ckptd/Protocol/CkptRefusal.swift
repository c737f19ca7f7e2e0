/// The words with which ckptd refuses a request that has several parts.
public enum CkptRefusal {
    private static let prefix = "operation "

    public static func text(operation index: Int, _ reason: String) -> String { "\(prefix)\(index): \(reason)" }

    /// Which part was the first that could not be done (AIS: erroneousVectorIndex), if the words say so.
    public static func operationIndex(in text: String) -> Int? {
        guard text.hasPrefix(prefix), let colon = text.firstIndex(of: ":") else { return nil }
        return Int(text[text.index(text.startIndex, offsetBy: prefix.count)..<colon])
    }
}
