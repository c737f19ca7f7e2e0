/// No redundancy: each instance active on one unit, each unit active for at most one instance, no standby.
/// Source: SAI-AIS-AMF-B.02.01 §3.6.6; saf-ais A5.5.
enum NoRedundancy {
    /// - Parameters:
    ///   - units: in the order of preference.
    ///   - instances: those to be assigned, most important first.
    static func desired(units: [UnitView], instances: [Int]) -> Desired {
        var desired = Desired()
        var taken: [Int] = []
        for instance in instances {
            let holder = units.first {
                $0.canTake && !taken.contains($0.unit)
                    && ($0.instancesActive.contains(instance) || $0.instancesQuiesced.contains(instance))
            }
            if let holder { taken.append(holder.unit) }
            desired.places.append(Desired.Place(instance: instance, active: holder?.unit))
        }
        for index in desired.places.indices where desired.places[index].active == nil {
            let instance = desired.places[index].instance
            if units.contains(where: { $0.isStopping && $0.instancesActive.contains(instance) }) { continue }
            let spare = units.first {
                $0.canTake && !taken.contains($0.unit) && !$0.isActive && !$0.isQuiesced
            }
            guard let spare else { continue }
            taken.append(spare.unit)
            desired.places[index].active = spare.unit
        }
        return desired
    }
}
