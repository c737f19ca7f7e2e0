import EngineKit
import Testing

@testable import LogEngine

@Suite("What may be written of outputs")
struct OutputBudgetTests {
    private func at(_ milliseconds: Int) -> Instant { Instant(nanoseconds: 1) + .milliseconds(milliseconds) }

    @Test("A burst is written, what is beyond the rate is counted and told at once, then once a window")
    func suppression() {
        var budget = OutputBudget(rate: 1_000, burst: 2_000, at: at(0))
        #expect(budget.news(at: at(0)) == nil)
        #expect(budget.allowed(at: at(0)) == 2_000)
        budget.wrote(2_500, cost: 2_500, at: at(0))
        #expect(budget.allowed(at: at(100)) == 0)
        budget.dropped(700)
        #expect(budget.news(at: at(100)) == 700)
        budget.dropped(300)
        #expect(budget.news(at: at(200)) == nil, "too early")
        #expect(budget.allowed(at: at(2_000)) == 1_500, "the rate has earned it")
        #expect(budget.news(at: at(10_200)) == 300)
        #expect(budget.lastNews() == nil)
    }

    /// Prints `bytes` every 100 ms for so many windows; what that cost in the files, by window.
    private func print(_ bytes: Int, cost: Int64, windows: Int, _ budget: inout OutputBudget) -> [Int64] {
        var written = [Int64](repeating: 0, count: windows)
        for tick in 0..<windows * 100 {
            let now = at(tick * 100)
            guard budget.allowed(at: now) > 0 else {
                budget.dropped(bytes)
                continue
            }
            // More may be written than was left; the debt is paid first.
            budget.wrote(bytes, cost: cost, at: now)
            written[tick / 100] += cost
        }
        return written
    }

    @Test(
        "Who prints too much for a whole window gets a trickle until he prints less",
        arguments: [(5_000, 5_000), (50, 2_500)])
    func runaway(bytes: Int, cost: Int64) {
        var budget = OutputBudget(rate: 1_000, burst: 2_000, at: at(0))
        let written = print(bytes, cost: cost, windows: 5, &budget)
        #expect(written[0] >= 10_000)
        // A sixteenth of 10,000; a debt at the window's beginning and one chunk more than allowed.
        #expect(written[1...].allSatisfy { $0 <= cost }, "\(written)")
        #expect(budget.isRunaway)
        for tick in 0..<30 where budget.allowed(at: at(50_000 + tick * 1_000)) > 0 {
            budget.wrote(10, cost: 100, at: at(50_000 + tick * 1_000))
        }
        #expect(!budget.isRunaway)
        #expect(budget.allowed(at: at(81_000)) > 0)
    }
}
