/// A piece of a checkpoint's file that belongs to one owner: a table, the log, or a section.
public struct Extent: Hashable, Sendable {
    public static let sizeMin = 64

    public var offset: Int
    public var size: Int
    public var end: Int { offset + size }

    public init(offset: Int, size: Int) {
        self.offset = offset
        self.size = size
    }
}
