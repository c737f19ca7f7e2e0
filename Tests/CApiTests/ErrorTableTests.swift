import OSAL
import SAFTypes
import Testing

/// Every code that the headers name for a function was returned by it in a program that meets its expectations, and it
/// returned no other.
@Suite("Errors of the C functions", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct ErrorTableTests {
    private static let exempt = [
        Exemption(
            "saCkptSectionIterationNext", .notExist,
            "the active replica has to go during a walk, and with it its node: Tests/CkptTests, of several nodes")
    ]

    @Test("Each function returns each of its documented errors in some program, and no other")
    func table() throws {
        try runAll()
        let seen = try returned()
        let documented = try HeaderErrors.documented()
        #expect(documented.count > 35)
        for (function, named) in documented {
            let codes = seen[function] ?? []
            let wanted = named + HeaderErrors.general(function)
            for code in AisError.allCases {
                let isExempt = Self.exempt.contains { $0.function == function && $0.code == code }
                if codes.contains(code) {
                    let isPossible = wanted.contains(code) || HeaderErrors.possible.contains(code)
                    #expect(isPossible, "\(function) returned \(code.name): not documented")
                    #expect(!isExempt, "\(function), \(code.name): no exemption is needed")
                } else if wanted.contains(code) {
                    #expect(isExempt, "\(function) documents \(code.name): no program shows it")
                }
            }
        }
    }

    /// What has not run in this run of the tests.
    private func runAll() throws {
        let programs = ProgramTests(), faults = FaultTests()
        for program in ProgramTests.behaving where !hasRun(program) { try programs.behaves(program: program) }
        if !hasRun("names-on") { try programs.names() }
        if !hasRun("outside") { try programs.outside() }
        if !hasRun("locked") { try programs.locked() }
        if !hasRun("silent-absent") { try programs.silence() }
        if !hasRun("everywhere-locked") { try programs.everywhere() }
        if !hasRun("full") { try faults.full() }
        if !hasRun("corrupted-meet") { try faults.corrupted() }
    }

    private func hasRun(_ name: String) -> Bool { File.exists("\(CToolchain.seen)/\(name)") }

    private func returned() throws -> [String: Set<AisError>] {
        var seen: [String: Set<AisError>] = [:]
        for file in try File.list(CToolchain.seen) {
            for line in try File.readText("\(CToolchain.seen)/\(file)").split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count == 2, let raw = UInt32(words[1]), raw != 1 else { continue }
                let code = try #require(AisError(rawValue: raw), "\(file): \(line)")
                seen[String(words[0]), default: []].insert(code)
            }
        }
        return seen
    }
}
