import SwiftSAF

/// Counts words, as the active or the standby component of a 2N service group.
@main
struct Main {
    static func main() async throws {
        let component = try await Component.register()
        let store = try await WordStore.open()
        var role = Role.none

        for await assignment in component.assignments {
            switch assignment.action {
            case .set(.active, let csi):
                guard let counter = Counter(store: store, csi: csi) else {
                    Log.error(
                        "the attributes input and folder of \(csi.name) must name a text and a folder", area: "WRD")
                    assignment.fail()
                    continue
                }
                counter.progress.assigned("active")
                let followed = await role.stop()
                assignment.complete()
                role = .active(Task { await counter.run(from: followed) })
            case .set(.standby, let csi):
                _ = await role.stop()
                role = .standby(Follower(store: store))
                assignment.complete()
                Progress(folder: csi["folder"] ?? ".")?.assigned("standby")
            case .set(.quiesced, _), .remove:
                _ = await role.stop()
                role = .none
                assignment.complete()
            case .set(.quiescing, _):
                _ = await role.stop()
                role = .none
                assignment.complete()
                component.quiescingComplete()
            case .terminate:
                _ = await role.stop()
                assignment.complete()
                return
            }
        }
    }
}

/// What this component is doing at the moment.
enum Role {
    case none
    case active(Task<Void, Never>)
    case standby(Follower)

    /// Ends the work and returns what a standby had followed.
    func stop() async -> CountedText? {
        switch self {
        case .none: return nil
        case .active(let task):
            task.cancel()
            await task.value
            return nil
        case .standby(let follower): return await follower.stop()
        }
    }
}
