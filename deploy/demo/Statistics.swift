import EngineKit

extension [Duration] {
    /// The value below which `fraction` of the sorted values lie; zero when there are none.
    func percentile(_ fraction: Double) -> Duration {
        guard !isEmpty else { return .zero }
        let sorted = sorted()
        return sorted[Swift.min(sorted.count - 1, Int((Double(sorted.count) * fraction).rounded(.down)))]
    }
}

extension Duration {
    /// For people: three digits and a fitting unit.
    var short: String {
        let nanoseconds = Double(self.nanoseconds)
        func digits(_ value: Double) -> String {
            let scale = value >= 100 ? 1.0 : value >= 10 ? 10.0 : 100.0
            let rounded = (value * scale).rounded() / scale
            return rounded == rounded.rounded() ? String(Int(rounded)) : String(rounded)
        }
        switch nanoseconds {
        case ..<1_000: return digits(nanoseconds) + " ns"
        case ..<1_000_000: return digits(nanoseconds / 1_000) + " µs"
        case ..<1_000_000_000: return digits(nanoseconds / 1_000_000) + " ms"
        default: return digits(nanoseconds / 1_000_000_000) + " s"
        }
    }
}
