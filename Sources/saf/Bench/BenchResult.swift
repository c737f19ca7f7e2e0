/// One figure of a bench, beside the floor that was measured in the same run.
public struct BenchResult: Sendable {
    /// What was measured: `ipc.hot`.
    public var name: String
    /// Unit of p50, p99, max, floor and bound: `ns`, `µs`, `ms`, `MiB`, `1/s`, `MB/s`, `%`, `B`.
    public var unit: String
    public var p50: Double
    public var p99: Double
    public var max: Double
    /// Operations a second, where that makes sense.
    public var rate: Double?
    /// What the machine itself needs for the comparable thing; same unit.
    public var floor: Double?
    /// p50 must stay below this to hold, or above when ``isLeast``; same unit. Nil: for information.
    public var bound: Double?
    /// More is better: the bound is the least that p50 may be.
    public var isLeast = false
    /// One sentence about what was compared.
    public var note: String

    public init(
        name: String, unit: String, samples: Samples, rate: Double? = nil, floor: Double? = nil, bound: Double? = nil,
        note: String = ""
    ) {
        self.name = name
        self.unit = unit
        p50 = samples.percentile(0.5)
        p99 = samples.percentile(0.99)
        max = samples.max
        self.rate = rate
        self.floor = floor
        self.bound = bound
        self.note = note
    }

    /// A figure of which more is better, such as a throughput.
    public init(name: String, unit: String, samples: Samples, atLeast bound: Double, note: String = "") {
        self.init(name: name, unit: unit, samples: samples, bound: bound, note: note)
        isLeast = true
    }

    public var ratio: Double? { floor.flatMap { $0 > 0 ? p50 / $0 : nil } }
    /// Nil when there is no bound.
    public var holds: Bool? { bound.map { isLeast ? p50 >= $0 : p50 <= $0 } }

    /// One object with the keys name, unit, p50, p99, max, rate, floor, ratio, bound, holds; absent values are null.
    public var json: String {
        func number(_ value: Double?) -> String { value.map { Self.plain($0) } ?? "null" }
        let holds = holds.map { $0 ? "true" : "false" } ?? "null"
        return "{\"name\":\"\(name)\",\"unit\":\"\(unit)\",\"p50\":\(number(p50)),\"p99\":\(number(p99)),"
            + "\"max\":\(number(max)),\"rate\":\(number(rate)),\"floor\":\(number(floor)),\"ratio\":\(number(ratio)),"
            + "\"bound\":\(number(bound)),\"holds\":\(holds)}"
    }

    /// At most three decimals and never an exponent.
    static func plain(_ value: Double) -> String {
        guard value.isFinite else { return "null" }
        let thousandths = (value * 1_000).rounded()
        guard abs(thousandths) < 9e15 else { return "\(value)" }
        let whole = Int64(thousandths)
        let fraction = abs(whole % 1_000)
        let sign = whole < 0 ? "-" : ""
        if fraction == 0 { return "\(sign)\(abs(whole / 1_000))" }
        var digits = String(fraction + 1_000).dropFirst()
        while digits.last == "0" { digits.removeLast() }
        return "\(sign)\(abs(whole / 1_000)).\(digits)"
    }
}

/// Measured values of one thing.
public struct Samples: Sendable {
    private var values: [Double] = []

    public init(_ values: [Double] = []) { self.values = values }

    public var count: Int { values.count }
    public mutating func append(_ value: Double) { values.append(value) }
    public mutating func append(_ other: Samples) { values += other.values }
    public mutating func reserve(_ count: Int) { values.reserveCapacity(count) }
    public var max: Double { values.max() ?? 0 }

    /// The value below which `fraction` of the samples lie; 0 when there are none.
    public func percentile(_ fraction: Double) -> Double {
        guard !values.isEmpty else { return 0 }
        let sorted = values.sorted()
        return sorted[Swift.min(sorted.count - 1, Int(Double(sorted.count) * fraction))]
    }

    public func map(_ change: (Double) -> Double) -> Samples { Samples(values.map(change)) }
    public func scaled(by factor: Double) -> Samples { Samples(values.map { $0 * factor }) }
}
