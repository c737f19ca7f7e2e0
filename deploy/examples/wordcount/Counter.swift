import SwiftSAF

/// The work of the active component: count a piece, commit the position and the counts together, go on.
final class Counter: Sendable {
    private let store: WordStore
    private let input: String
    private let pieceLength: Int
    let progress: Progress

    /// Nil when the text or the folder that the attributes name cannot be used.
    init?(store: WordStore, csi: AssignedCSI) {
        guard let input = csi["input"], InputFile(path: input) != nil, let folder = csi["folder"],
            let progress = Progress(folder: folder)
        else { return nil }
        self.store = store
        self.input = input
        self.progress = progress
        pieceLength = csi["piece"].flatMap { Int($0) } ?? 256
    }

    /// Runs until the text ends or the task is cancelled; cancellation takes effect between two commits.
    func run(from followed: CountedText?) async {
        async let _ = progress.tellActing()  // cancelled and waited for at the end of this function
        guard let file = InputFile(path: input), var text = await upToDate(followed) else { return }
        while !Task.isCancelled, text.position < file.size {
            let piece = file.piece(at: text.position, length: pieceLength)
            guard !piece.isEmpty else { return }
            var next = text
            let changed = next.counts.count(piece)
            next.position += UInt64(piece.count)
            if let committed = await store.commit(next, changed: changed) {
                text = committed
                progress.committed(position: text.position)
            } else if let loaded = await store.load() {
                text = loaded
            } else {
                return
            }
        }
    }

    /// What the standby followed, if nothing was committed since; else what the checkpoint says.
    private func upToDate(_ followed: CountedText?) async -> CountedText? {
        if let followed, let status = try? await store.checkpoint.status(), status.change == followed.change {
            return followed
        }
        return await store.load()
    }
}
