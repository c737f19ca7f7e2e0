import OSAL

/// Which seeds a simulation runs: those of a usual run and those that have failed once; with `SAF_SIM_SEED=n
/// SAF_SIM_SEEDS=m` m from n on instead.
func seeds(usual: Range<UInt64>, failed: [UInt64] = []) -> [UInt64] {
    guard let count = Environment.get("SAF_SIM_SEEDS").flatMap({ UInt64($0) }) else { return Array(usual) + failed }
    let first = Environment.get("SAF_SIM_SEED").flatMap { UInt64($0) } ?? 0
    return Array(first..<(first + count))
}
