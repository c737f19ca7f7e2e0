import EOLoop
import OSAL

/// Hands the read ends of the children's outputs to logd, and again to every new life of logd. Loop thread only.
final class OutputCapture {
    init(loop: Loop, places: Places) {}
    func begin(_ child: Child) {}
    func end(_ child: Child) {}
}
