/// Why the store did not do what was asked. Nothing was changed.
public enum StoreError: Error, Hashable, Sendable {
    /// The RAM file system is full, or the checkpoint's file cannot grow.
    case noSpace(String)
    /// The data of the section in this slot is not what was written; overwrite or delete it.
    case corrupted(slot: Int)
    /// The file is not a sound checkpoint; the text says where.
    case damaged(String)
    /// The operating system refused.
    case system(String)
}
