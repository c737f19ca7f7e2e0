import LogProtocol

/// What the environment says of a writer, and what of it is not understood: that keeps its default.
struct WriterSettings: Hashable, Sendable {
    var ringBytes = RingLayout.capacityDefault
    var severity = LogSeverity.notice
    var hasTime = true
    /// For people, one sentence each.
    var mistakes: [String] = []

    /// - Parameter value: of a variable; nil or empty: not set.
    init(_ value: (String) -> String?) {
        func set(_ name: String) -> String? { value(name).flatMap { $0.isEmpty ? nil : $0 } }
        if let text = set("CL_LOG_SEVERITY") {
            if let severity = LogSeverity(name: text) {
                self.severity = severity
            } else {
                let choices = LogSeverity.allCases.map(\.description).joined(separator: ", ")
                mistakes.append("CL_LOG_SEVERITY is '\(text)'; one of \(choices) expected; NOTICE is used")
            }
        }
        if let text = set("SAF_LOG_RING_BYTES") {
            if let bytes = Int(text), (RingLayout.capacityMin...RingLayout.capacityMax).contains(bytes) {
                ringBytes = bytes
            } else {
                mistakes.append(
                    "SAF_LOG_RING_BYTES is '\(text)'; a whole number from \(RingLayout.capacityMin) to "
                        + "\(RingLayout.capacityMax) expected; \(ringBytes) is used")
            }
        }
        if let text = set("CL_LOG_TIME_ENABLE") {
            if text == "0" || text == "1" {
                hasTime = text == "1"
            } else {
                mistakes.append("CL_LOG_TIME_ENABLE is '\(text)'; 0 or 1 expected; 1 is used")
            }
        }
    }
}
