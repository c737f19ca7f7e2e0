import AmfClient
import AmfEngine
import OSAL
import SAFTypes

/// Keeps the page of assignments: what the processes here are active for, before they hear of it, and the latest epoch
/// of every instance, when they have. Loop thread only.
final class AssignmentKeeper {
    var onNote: (ShellNote) -> Void = { _ in }

    private let page: AssignmentPage
    private let incarnation: UInt64
    private var components: [SaName: Entries] = [:]
    private var free: [Int] = []
    private var used = 0
    private var floors: [SaName: (place: Int, epoch: UInt64)] = [:]
    private var isFull = false

    /// Where a component's processes stand in the page. What has been written for one that has died may still be on its
    /// way, so it stays until its successor has died, too.
    private struct Entries {
        var process: ProcessIdentity?
        var present: [Place] = []
        var former: [Place] = []
    }

    private struct Place {
        var index: Int
        var held: AssignmentEpoch
    }

    /// - Parameter isNew: amfd knows nothing of what was before; then the page does not either.
    init(_ page: AssignmentPage, incarnation: UInt64, isNew: Bool) {
        self.page = page
        self.incarnation = incarnation
        page.change { if isNew { $0.clear() } }
        guard let table = page.read()?.table else { return }
        for (place, floor) in table.floors.enumerated() { floors[floor.instance] = (place, floor.epoch) }
        used = (0..<AssignmentPage.holdersMax).last { page.isUsed($0) }.map { $0 + 1 } ?? 0
    }

    /// Those that live on from an earlier amfd; what it wrote of others is about the past.
    func adopted(_ living: [(component: SaName, process: ProcessIdentity)]) {
        var kept: [Int: SaName] = [:]
        for index in 0..<used where page.isUsed(index) {
            let holder = page[index]
            let process = ProcessIdentity(pid: holder.pid, startTime: holder.startTime)
            guard let component = living.first(where: { $0.process == process })?.component else { continue }
            kept[index] = component
            components[component, default: Entries()].process = process
            components[component]?.present.append(Place(index: index, held: holder.held))
        }
        page.change { page in
            for index in 0..<used where kept[index] == nil {
                page.setUsed(index, false)
                free.append(index)
            }
        }
    }

    /// What a component's living process is active for, or is about to be told that it is.
    func set(_ component: SaName, _ process: ProcessIdentity, _ activities: [Activity]) {
        var places = components[component] ?? Entries()
        let isNew = places.process != process
        let wanted = activities.compactMap { activity -> AssignmentEpoch? in
            if activity.epoch != 0 { return AssignmentEpoch(of: activity.csi, epoch: activity.epoch) }
            // Taken over from an earlier amfd, which knew since when.
            let key = AssignmentEpoch.key(of: activity.csi)
            return isNew ? nil : places.present.first { $0.held.assignment == key }?.held
        }
        guard isNew || wanted != places.present.map(\.held) else { return }
        page.change { page in
            if isNew {
                release(places.former, page)
                places = Entries(process: process, former: places.present)
            }
            let gone = places.present.filter { !wanted.contains($0.held) }
            places.present = wanted.compactMap { held in
                places.present.first { $0.held == held } ?? add(held, of: process, page)
            }
            release(gone, page)
        }
        components[component] = places
    }

    private func add(_ held: AssignmentEpoch, of process: ProcessIdentity, _ page: AssignmentPage) -> Place? {
        guard let index = free.popLast() ?? (used < AssignmentPage.holdersMax ? used : nil) else {
            tellFull()
            return nil
        }
        used = max(used, index + 1)
        page[index] = .init(pid: process.pid, startTime: process.startTime, held: held)
        return Place(index: index, held: held)
    }

    private func release(_ places: [Place], _ page: AssignmentPage) {
        for place in places {
            page.setUsed(place.index, false)
            free.append(place.index)
        }
    }

    /// The latest epochs, as the state of the cluster has them.
    func setFloors(_ latest: [Activity]) {
        let changed = latest.filter { floors[$0.csi]?.epoch != $0.epoch }
        guard !changed.isEmpty || page.incarnation != incarnation else { return }
        page.change { page in
            page.incarnation = incarnation
            for activity in changed {
                let place = floors[activity.csi]?.place ?? floors.count
                guard place < AssignmentPage.floorsMax else { return tellFull() }
                floors[activity.csi] = (place, activity.epoch)
                page.set(.init(activity.csi, epoch: activity.epoch), at: place)
            }
        }
    }

    private func tellFull() {
        if !isFull { onNote(.assignmentPageFull) }
        isFull = true
    }
}
