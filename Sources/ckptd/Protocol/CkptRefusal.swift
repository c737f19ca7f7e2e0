/// The words with which ckptd refuses a request that has several parts.
public enum CkptRefusal {
    private static let prefix: StaticString = "operation "

    public static func text(operation index: Int, _ reason: String) -> String { "\(prefix)\(index): \(reason)" }

    /// Which part was the first that could not be done (AIS: erroneousVectorIndex), if the words (UTF-8) say so.
    public static func operationIndex(in words: [UInt8]) -> Int? {
        // By bytes: comparing text would need tables of Unicode, which a C library has better no use for.
        let start = prefix.utf8CodeUnitCount
        guard words.count > start else { return nil }
        for index in 0..<start where words[index] != prefix.utf8Start[index] { return nil }
        var number = 0
        for index in start..<words.count {
            switch words[index] {
            case 0x30...0x39 where index < start + 9: number = number * 10 + Int(words[index] - 0x30)
            case 0x3a: return index > start ? number : nil
            default: return nil
            }
        }
        return nil
    }
}
