extension ClosedRange where Bound: FixedWidthInteger {
    /// The newest version of something that two sides speak: the highest number in both ranges; nil when there is none.
    ///
    /// Each side tells the range that its build reads and writes, so that nodes are upgraded one after the other.
    public func newest(with other: ClosedRange<Bound>) -> Bound? {
        overlaps(other) ? Swift.min(upperBound, other.upperBound) : nil
    }
}
