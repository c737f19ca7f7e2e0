/// A YAML value with its place. What Yams composes, without what a configuration does not need.
struct ConfigNode: Sendable {
    indirect enum Value: Sendable {
        case null
        /// `isPlain`: written without quotes.
        case scalar(String, isPlain: Bool)
        case list([ConfigNode])
        case map([Entry])
    }

    struct Entry: Sendable {
        var key: String
        var keyPosition: SourcePosition
        var value: ConfigNode
    }

    var value: Value
    var position: SourcePosition

    /// What the value is, for "… expected, … found".
    var kind: String {
        switch value {
        case .null: "nothing"
        case .scalar(let text, _): "'\(text.count > 40 ? String(text.prefix(37)) + "…" : text)'"
        case .list: "a list"
        case .map: "a map"
        }
    }
}
