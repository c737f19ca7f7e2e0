import Glibc

/// The text that is counted, read from wherever the last commit left off.
struct InputFile: ~Copyable {
    private let descriptor: Int32

    /// Nil when the file cannot be opened; errno says why.
    init?(path: String) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Asked anew each time: a text may be cut or go on while it is counted.
    var size: UInt64 {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? UInt64(status.st_size) : 0
    }

    /// The next piece at `offset`: about `length` bytes, never cutting a word in two; empty at the end.
    func piece(at offset: UInt64, length: Int) -> [UInt8] {
        var wanted = length
        while true {
            let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
                count = max(0, pread(descriptor, buffer.baseAddress, wanted, off_t(offset)))
            }
            if offset + UInt64(bytes.count) >= size { return bytes }
            if let end = bytes.lastIndex(where: { !WordCounts.isLetter($0) }) { return Array(bytes[...end]) }
            wanted *= 2  // one word longer than the piece
        }
    }
}
