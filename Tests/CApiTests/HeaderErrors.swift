import OSAL
import SAFTypes

/// What the headers say of errors: of each function the codes after `@return` in its comment, and the rules for all.
enum HeaderErrors {
    /// Functions in the order of the headers, with the codes that are named for each.
    static func documented() throws -> [(function: String, codes: [AisError])] {
        var all: [(function: String, codes: [AisError])] = []
        for header in ["saCkpt.h", "safCkpt.h"] {
            let text = try File.readText(CToolchain.root + "/Sources/SAF/Headers/" + header)
            var comment = ""
            for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
                if line.hasPrefix("/**") { comment = "" }
                if line.hasPrefix("/**") || line.hasPrefix(" *") { comment += line + "\n" }
                guard line.hasPrefix("SaAisErrorT "), let name = line.split(separator: "(").first?.split(separator: " ")
                else { continue }
                all.append((String(name[1]), codes(in: comment)))
                comment = ""
            }
        }
        return all
    }

    private static func codes(in comment: String) -> [AisError] {
        guard let start = comment.firstRange(of: "@return")?.lowerBound else { return [] }
        let words = comment[start...].split { !$0.isLetter && $0 != "_" }
        return AisError.allCases.filter { code in words.contains { $0 == code.name[...] } }
    }

    // MARK: The rules for all functions, at the beginning of saCkpt.h

    static let begins = ["saCkptInitialize", "saCkptInitialize_2"]
    /// Giving something back is never refused.
    static let closes = [
        "saCkptFinalize", "saCkptCheckpointClose", "saCkptSectionIterationFinalize", "saCkptSectionIdFree",
        "saCkptIOVectorElementDataFree",
    ]
    /// Answered by the library: nobody is waited for.
    static let answersItself = [
        "saCkptSelectionObjectGet", "saCkptDispatch", "saCkptTrack", "saCkptTrackStop", "saCkptCheckpointTrack",
        "saCkptCheckpointTrackStop", "safCkptUpdatesStart", "safCkptUpdatesStop", "safCkptReplicaChangesStart",
        "safCkptReplicaChangesStop",
    ]

    /// What a function can return by those rules, and a test has to show.
    static func general(_ function: String) -> [AisError] {
        if begins.contains(function) { return [] }
        if closes.contains(function) { return [.badHandle] }
        return [.badHandle, .unavailable] + (answersItself.contains(function) ? [] : [.timeout, .tryAgain])
    }

    /// What it may return besides: the end of memory and descriptors, and what should never be.
    static let possible: [AisError] = [.noMemory, .noResources, .library]
}

extension AisError {
    /// As in saAis.h.
    var name: String { description.split(separator: " ").first.map { String($0) } ?? "" }
}

/// A function and a code that no test shows, and why.
struct Exemption {
    let function: String
    let code: AisError
    let reason: String

    init(_ function: String, _ code: AisError, _ reason: String) {
        (self.function, self.code, self.reason) = (function, code, reason)
    }
}
