import SwiftSAF

/// Greets each time it becomes active, and knows how often all before it did.
@main
struct Hello {
    static func main() async {
        await Component.run { component in
            let state = try await Checkpoint.open(
                "safCkpt=hello", creating: .singleSection(of: 1, retained: .saTimeEnd))
            for await assignment in component.assignments {
                if case .set(.active, _) = assignment.action {
                    let greetings = (try await state.read().first ?? 0) &+ 1
                    try await state.overwrite(.defaultSection, [greetings])
                    Log.notice("hello number \(greetings)", area: "HEL")
                }
                assignment.complete()
                if case .terminate = assignment.action { return }
            }
        }
    }
}
