import OSAL

/// When this process started, in clock ticks since boot: field 22 of /proc/self/stat. 0 without /proc.
func ownStartTime() -> UInt64 {
    guard let text = try? File.readText("/proc/self/stat", limit: 4096), let end = text.lastIndex(of: ")") else {
        return 0
    }
    let fields = text[text.index(after: end)...].split(separator: " ")
    return fields.count > 19 ? UInt64(fields[19]) ?? 0 : 0
}
