/// A reference that does not keep its object alive. Unlike `weak` it needs no side table, which would make every retain
/// of the object slow, also on the hot path. Cleared by the object's own deinit; one thread only.
final class Backlink<Owner: AnyObject> {
    private var unmanaged: Unmanaged<Owner>?

    func set(_ owner: Owner) { unmanaged = Unmanaged.passUnretained(owner) }
    func clear() { unmanaged = nil }
    var owner: Owner? { unmanaged?.takeUnretainedValue() }
}
