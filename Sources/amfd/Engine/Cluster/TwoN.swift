/// 2N: one unit active for every instance of the group, one standby for every instance.
/// Source: SAI-AIS-AMF-B.02.01 §3.6.2; saf-ais A5.5.
enum TwoN {
    /// - Parameters:
    ///   - units: in the order of preference.
    ///   - instances: those to be assigned.
    ///   - swapTarget: the unit that an administrator wants active.
    static func desired(units: [UnitView], instances: [Int], swapTarget: Int?) -> Desired {
        let active = chooseActive(units, swapTarget)
        let standby = chooseStandby(units, besides: active)
        return Desired(
            places: instances.map { Desired.Place(instance: $0, active: active, standby: standby) }, movesTogether: true
        )
    }

    private static func chooseActive(_ units: [UnitView], _ swapTarget: Int?) -> Int? {
        // A unit that is shutting down is still active: nobody else until it has quiesced.
        if units.contains(where: { $0.isStopping && $0.isActive }) { return nil }
        let able = units.filter(\.canTake)
        if let swapTarget, able.contains(where: { $0.unit == swapTarget }) { return swapTarget }
        // Who serves goes on serving; then the standby, which knows most; then the former active.
        let choice =
            able.first(where: \.isActive) ?? able.first(where: \.isStandby) ?? able.first(where: \.isQuiesced)
            ?? able.first
        return choice?.unit
    }

    private static func chooseStandby(_ units: [UnitView], besides active: Int?) -> Int? {
        let able = units.filter { $0.canTake && $0.unit != active }
        let choice = able.first(where: \.isStandby) ?? able.first(where: \.isQuiesced) ?? able.first
        return choice?.unit
    }
}
